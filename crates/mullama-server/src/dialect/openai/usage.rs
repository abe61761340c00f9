//! Token counts and durations, as `OpenAI` and llama-server write them.

use mullama::Usage;
use serde::Serialize;

use crate::generation::{Prefill, Progress};

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct UsageBody {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: PromptDetails,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct PromptDetails {
    cached_tokens: usize,
}

impl UsageBody {
    /// The usage of all choices: a prompt counts once for its `n` answers, and what is generated counts for each.
    pub(crate) fn of(usages: impl IntoIterator<Item = Usage>, n: usize) -> Self {
        let mut total = Usage::default();
        for (index, usage) in usages.into_iter().enumerate() {
            if index % n.max(1) == 0 {
                total.prompt_tokens += usage.prompt_tokens;
                total.cached_tokens += usage.cached_tokens;
            }
            total.completion_tokens += usage.completion_tokens;
        }
        Self {
            prompt_tokens: total.prompt_tokens,
            completion_tokens: total.completion_tokens,
            total_tokens: total.prompt_tokens + total.completion_tokens,
            prompt_tokens_details: PromptDetails { cached_tokens: total.cached_tokens },
        }
    }
}

/// Durations in milliseconds, as llama-server writes them.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct TimingsBody {
    cache_n: usize,
    prompt_n: usize,
    prompt_ms: f64,
    prompt_per_token_ms: f64,
    prompt_per_second: f64,
    predicted_n: usize,
    predicted_ms: f64,
    predicted_per_token_ms: f64,
    predicted_per_second: f64,
}

impl TimingsBody {
    #[expect(clippy::cast_precision_loss, reason = "counts of tokens are far below 2^52")]
    pub(crate) fn of(progress: &Progress) -> Self {
        let (usage, timings) = (progress.usage, progress.timings);
        let prompt_n = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
        let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
        let (prompt, predicted) = (timings.prefill.as_secs_f64() * 1e3, progress.decoding().as_secs_f64() * 1e3);
        Self {
            cache_n: usage.cached_tokens,
            prompt_n,
            prompt_ms: prompt,
            prompt_per_token_ms: ratio(prompt, prompt_n as f64),
            prompt_per_second: ratio(prompt_n as f64 * 1e3, prompt),
            predicted_n: usage.completion_tokens,
            predicted_ms: predicted,
            predicted_per_token_ms: ratio(predicted, usage.completion_tokens as f64),
            predicted_per_second: ratio(usage.completion_tokens.saturating_sub(1) as f64 * 1e3, predicted),
        }
    }
}

/// How far a prompt is computed, as llama-server writes it.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct ProgressBody {
    total: usize,
    cache: usize,
    processed: usize,
    time_ms: u64,
}

impl ProgressBody {
    pub(crate) fn of(prefill: &Prefill) -> Self {
        let time_ms = u64::try_from(prefill.elapsed.as_millis()).unwrap_or(u64::MAX);
        Self { total: prefill.total, cache: prefill.cached, processed: prefill.computed, time_ms }
    }
}
