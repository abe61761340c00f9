//! The answers of `/completion`: one document, or one event per token and a last one with everything.

use mullama::{FinishReason, StreamConfig, Token, TokenId};
use serde::Serialize;
use serde_json::Value;

use super::ErrorDocument;
use super::options::{Options, selected};
use super::settings::settings;
use crate::dialect::openai::{ProgressBody, Short, TimingsBody};
use crate::error::ApiError;
use crate::generation::{Answer, Dialect, Ending, Event, Frames, Prefill, Progress};

/// What llama-server writes for a token that is almost impossible; JSON has no infinity.
const IMPOSSIBLE: f32 = f32::MIN;

/// What all answers of a request have in common.
pub(super) struct Facts {
    pub(super) model: String,
    /// The text of each prompt, as documents repeat it.
    pub(super) prompts: Vec<String>,
    pub(super) config: StreamConfig,
    pub(super) context_len: usize,
    /// The bytes of a token.
    pub(super) bytes_of: Box<dyn Fn(TokenId) -> Vec<u8> + Send>,
}

/// Writes the answers of one request.
pub(super) struct CompletionDialect {
    facts: Facts,
    options: Options,
    /// For each answer whether it has a line break so far.
    has_new_line: Vec<bool>,
}

#[derive(Debug, Serialize)]
struct Partial<'a> {
    index: usize,
    content: &'a str,
    tokens: Vec<TokenId>,
    stop: bool,
    id_slot: i32,
    tokens_predicted: usize,
    tokens_evaluated: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<TimingsBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_progress: Option<ProgressBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_probabilities: Option<Vec<Probability>>,
}

#[derive(Debug, Serialize)]
struct Final<'a> {
    index: usize,
    content: &'a str,
    tokens: Vec<TokenId>,
    id_slot: i32,
    stop: bool,
    model: &'a str,
    tokens_predicted: usize,
    tokens_evaluated: usize,
    generation_settings: Value,
    prompt: &'a str,
    has_new_line: bool,
    truncated: bool,
    stop_type: &'static str,
    stopping_word: &'a str,
    tokens_cached: usize,
    timings: TimingsBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_probabilities: Option<Vec<Probability>>,
}

#[derive(Debug, Serialize)]
struct Probability {
    id: TokenId,
    token: String,
    bytes: Vec<u8>,
    logprob: Short,
    top_logprobs: Vec<TopProbability>,
}

#[derive(Debug, Serialize)]
struct TopProbability {
    id: TokenId,
    token: String,
    bytes: Vec<u8>,
    logprob: Short,
}

/// Requests cannot choose a slot, and slots have no numbers.
const ANY_SLOT: i32 = -1;

fn stop_type(ending: &Ending) -> &'static str {
    match ending.reason {
        FinishReason::Stop if ending.stop_sequence.is_some() => "word",
        FinishReason::Stop => "eos",
        FinishReason::Length => "limit",
        _ => "none",
    }
}

fn finite(logprob: f32) -> Short {
    Short(if logprob.is_finite() { logprob } else { IMPOSSIBLE })
}

impl CompletionDialect {
    pub(super) fn new(facts: Facts, options: Options) -> Self {
        let has_new_line = vec![false; facts.prompts.len() * options.count];
        Self { facts, options, has_new_line }
    }

    fn probabilities<'a>(&self, tokens: impl IntoIterator<Item = &'a Token>) -> Option<Vec<Probability>> {
        if self.options.n_probs == 0 {
            return None;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let top = |(id, logprob): &(TokenId, f32)| {
            let bytes = (self.facts.bytes_of)(*id);
            TopProbability { id: *id, token: text(&bytes), bytes, logprob: finite(*logprob) }
        };
        let one = |token: &Token| {
            Some(Probability {
                id: token.id?,
                token: text(&token.bytes),
                bytes: token.bytes.clone(),
                logprob: finite(token.logprob?),
                top_logprobs: token.top_logprobs.iter().map(top).collect(),
            })
        };
        Some(tokens.into_iter().filter_map(one).collect())
    }

    fn last<'a>(&'a self, index: usize, content: &'a str, ending: &'a Ending) -> Final<'a> {
        let usage = ending.progress.usage;
        let is_full = usage.prompt_tokens + usage.completion_tokens >= self.facts.context_len;
        Final {
            index,
            content,
            tokens: Vec::new(),
            id_slot: ANY_SLOT,
            stop: true,
            model: &self.facts.model,
            tokens_predicted: usage.completion_tokens,
            tokens_evaluated: usage.prompt_tokens,
            generation_settings: settings(&self.facts.config, &self.options, ending.seed),
            prompt: self.facts.prompts.get(index / self.options.count.max(1)).map_or("", String::as_str),
            has_new_line: self.has_new_line[index] || content.contains('\n'),
            truncated: ending.reason == FinishReason::Length && is_full,
            stop_type: stop_type(ending),
            stopping_word: ending.stop_sequence.as_deref().unwrap_or_default(),
            tokens_cached: usage.cached_tokens,
            timings: TimingsBody::of(&ending.progress),
            completion_probabilities: None,
        }
    }

    /// The document of an answer with the fields that the request wants.
    fn document(&self, last: &Final<'_>) -> Value {
        selected(serde_json::to_value(last).unwrap_or_default(), &self.options.fields)
    }

    fn partial(&self, index: usize, token: &Token, progress: &Progress, frames: &mut Frames) {
        frames.event(&Partial {
            index,
            content: &token.text,
            tokens: token.id.into_iter().collect(),
            stop: false,
            id_slot: ANY_SLOT,
            tokens_predicted: token.index + 1,
            tokens_evaluated: progress.usage.prompt_tokens,
            timings: self.options.timings_per_token.then(|| TimingsBody::of(progress)),
            prompt_progress: None,
            completion_probabilities: self.probabilities([token]),
        });
    }
}

impl Dialect for CompletionDialect {
    fn start(&mut self, _frames: &mut Frames) {}

    fn event(&mut self, event: &Event, frames: &mut Frames) {
        match event {
            Event::Token { choice, token, progress } => {
                self.has_new_line[*choice] |= token.text.contains('\n');
                self.partial(*choice, token, progress, frames);
            }
            Event::End { choice, ending } => frames.event(&self.document(&self.last(*choice, "", ending))),
            Event::Failed { .. } => {}
        }
    }

    fn finish(&mut self, _frames: &mut Frames) {}

    fn tells_prefill(&self) -> bool {
        self.options.returns_progress
    }

    fn prefill(&mut self, choice: usize, prefill: &Prefill, frames: &mut Frames) {
        let progress = ProgressBody::of(prefill);
        frames.event(&Partial {
            index: choice,
            content: "",
            tokens: Vec::new(),
            stop: false,
            id_slot: ANY_SLOT,
            tokens_predicted: 0,
            tokens_evaluated: prefill.total,
            timings: None,
            prompt_progress: Some(progress),
            completion_probabilities: None,
        });
    }

    fn failed(&mut self, error: &ApiError, frames: &mut Frames) {
        frames.event(&ErrorDocument::of(error));
    }

    fn keep_alive(&self, frames: &mut Frames) {
        frames.comment("");
    }

    fn whole(&mut self, answers: &[Answer]) -> Value {
        let document = |(index, answer): (usize, &Answer)| {
            let mut last = self.last(index, &answer.text, &answer.ending);
            if self.options.returns_tokens {
                last.tokens = answer.tokens.iter().filter_map(|token| token.id).collect();
            }
            last.completion_probabilities = self.probabilities(&answer.tokens);
            self.document(&last)
        };
        let mut documents: Vec<Value> = answers.iter().enumerate().map(document).collect();
        if documents.len() == 1 { documents.remove(0) } else { Value::Array(documents) }
    }
}
