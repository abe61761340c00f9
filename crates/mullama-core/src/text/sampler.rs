//! Samples a token from a row of logits with the stream's own sampler chain.
//!
//! Flow: decode → **sample** → detokenize.

use mullama_ffi::{Error, Sampler, SamplerOptions, TokenId};

use crate::config::StreamConfig;
use crate::text::vocabulary::Vocabulary;

/// Maximum number of tokens that a penalty looks back.
const LONGEST_WINDOW: i32 = 1 << 20;

/// A sampler chain, and what to report about each sampled token.
#[derive(Debug)]
pub(crate) struct SamplerChain {
    sampler: Sampler,
    logprobs: Option<u32>,
    /// Tokens that end the stream, sorted.
    stop_tokens: Vec<TokenId>,
    remembers_prompt: bool,
}

/// One sampled token.
#[derive(Debug)]
pub(crate) struct SampledToken {
    pub(crate) token: TokenId,
    /// Whether it is one of the config's `stop_tokens`.
    pub(crate) is_stop: bool,
    pub(crate) logprob: Option<f32>,
    pub(crate) top_logprobs: Vec<(TokenId, f32)>,
}

impl SamplerChain {
    /// Frees memory that only speeds up the next token, for a stream that is paused.
    pub(crate) fn trim(&mut self) {
        self.sampler.trim();
    }

    /// Builds the sampler chain; no other code does. `context_len` is what -1 means for the penalties' windows.
    pub(crate) fn build(
        config: &StreamConfig,
        seed: u32,
        context_len: usize,
        vocabulary: &dyn Vocabulary,
    ) -> Result<Self, Error> {
        let whole = i32::try_from(context_len).unwrap_or(LONGEST_WINDOW).min(LONGEST_WINDOW);
        let window = |last_n: i32| if last_n < 0 { whole } else { last_n };
        let mut logit_bias = config.logit_bias.clone();
        if config.ignore_eos {
            logit_bias.extend(vocabulary.end_tokens().into_iter().map(|token| (token, f32::NEG_INFINITY)));
        }
        let options = SamplerOptions {
            temperature: config.temperature,
            dynatemp_range: config.dynatemp_range,
            dynatemp_exponent: config.dynatemp_exponent,
            top_k: i32::try_from(config.top_k).unwrap_or(i32::MAX),
            top_p: config.top_p,
            min_p: config.min_p,
            typical_p: config.typical_p,
            top_n_sigma: config.top_n_sigma,
            xtc_probability: config.xtc_probability,
            xtc_threshold: config.xtc_threshold,
            repeat_penalty: config.repeat_penalty,
            frequency_penalty: config.frequency_penalty,
            presence_penalty: config.presence_penalty,
            repeat_last_n: window(config.repeat_last_n),
            dry_multiplier: config.dry_multiplier,
            dry_base: config.dry_base,
            dry_allowed_length: config.dry_allowed_length,
            dry_penalty_last_n: window(config.dry_penalty_last_n),
            dry_sequence_breakers: config.dry_sequence_breakers.clone(),
            mirostat: u8::try_from(config.mirostat).unwrap_or(u8::MAX),
            mirostat_tau: config.mirostat_tau,
            mirostat_eta: config.mirostat_eta,
            seed,
            logit_bias,
        };
        let mut stop_tokens = config.stop_tokens.clone();
        stop_tokens.sort_unstable();
        stop_tokens.dedup();
        #[expect(clippy::float_cmp, reason = "these exact values are off")]
        let penalties =
            config.repeat_penalty != 1.0 || config.frequency_penalty != 0.0 || config.presence_penalty != 0.0;
        Ok(Self {
            sampler: vocabulary.sampler(&options)?,
            logprobs: config.logprobs,
            stop_tokens,
            remembers_prompt: penalties || config.dry_multiplier > 0.0,
        })
    }

    /// Lets the penalties see the prompt, as llama.cpp's own programs do.
    pub(crate) fn see_prompt(&mut self, prompt: &[TokenId]) -> Result<(), Error> {
        if !self.remembers_prompt {
            return Ok(());
        }
        prompt.iter().try_for_each(|&token| self.sampler.accept(token))
    }

    /// Samples from the logits of one row, `n_vocab` of them, and accepts the token once.
    pub(crate) fn pick(&mut self, logits: &[f32]) -> Result<SampledToken, Error> {
        let token = self.sampler.sample(logits)?;
        let is_stop = self.stop_tokens.binary_search(&token).is_ok();
        let Some(n) = self.logprobs else {
            return Ok(SampledToken { token, is_stop, logprob: None, top_logprobs: Vec::new() });
        };
        let log_sum = log_sum_exp(logits);
        let index = usize::try_from(token).expect("the sampler checked the range");
        Ok(SampledToken {
            token,
            is_stop,
            logprob: Some(logits[index] - log_sum),
            top_logprobs: top(logits, n as usize, log_sum),
        })
    }
}

/// `ln Σ exp(logit)`, shifted by the highest logit so that nothing overflows; summed in 64 bits.
fn log_sum_exp(logits: &[f32]) -> f32 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).sum();
    #[expect(clippy::cast_possible_truncation, reason = "a logarithm of a sum of at most 2^31 terms")]
    let log = sum.ln() as f32;
    highest + log
}

/// The `n` most likely tokens, most likely first, and lower ids first among equals.
fn top(logits: &[f32], n: usize, log_sum: f32) -> Vec<(TokenId, f32)> {
    let better = |a: &(TokenId, f32), b: &(TokenId, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let mut best: Vec<(TokenId, f32)> = Vec::with_capacity(n + 1);
    for (token, &logit) in (0..).zip(logits) {
        if best.len() == n && best.last().is_none_or(|worst| worst.1 >= logit) {
            continue;
        }
        let entry = (token, logit);
        let at = best.partition_point(|other| better(other, &entry).is_lt());
        best.insert(at, entry);
        best.truncate(n);
    }
    for (_, logit) in &mut best {
        *logit -= log_sum;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_sum_to_one() {
        let logits = [1.0, 2.0, 3.0, 1000.0, -5.0];
        let all = top(&logits, logits.len(), log_sum_exp(&logits));
        let sum: f32 = all.iter().map(|(_, logprob)| logprob.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        assert_eq!(all[0].0, 3);
    }

    #[test]
    fn the_most_likely_tokens_come_first_and_no_more_than_requested() {
        let tokens = |n| top(&[0.0, 5.0, 3.0, 5.0], n, 0.0).into_iter().map(|(token, _)| token).collect::<Vec<_>>();
        assert_eq!(tokens(3), [1, 3, 2]);
        assert_eq!(tokens(0), [0; 0]);
    }
}
