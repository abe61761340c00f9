//! The lines of Ollama's answers, and the same as one document.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mullama::{FinishReason, Token};
use serde::Serialize;
use serde_json::Value;

use super::logprobs::TokenLogprob;
use crate::dialect::time::rfc3339;
use crate::error::ApiError;
use crate::generation::{Answer, Dialect, Ending, Event, Frames};
use crate::models::Loaded;

/// Which of the two endpoints is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Generate,
    Chat,
}

/// Writes the lines or the document of one answer.
#[derive(Debug)]
pub(super) struct AnswerDialect {
    pub(super) endpoint: Endpoint,
    pub(super) model: String,
    /// How long the request waited for the model to be loaded.
    pub(super) load: Duration,
    /// The model that spells the most likely tokens, where log-probabilities are wanted.
    pub(super) logprobs: Option<Arc<Loaded>>,
    pub(super) clock: fn() -> SystemTime,
}

/// A line: a piece of the text, or the end with its counts. Durations are in nanoseconds.
#[derive(Debug, Default, Serialize)]
struct Line<'a> {
    model: &'a str,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<TokenLogprob>>,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    done_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load_duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_eval_count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_eval_duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eval_count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eval_duration: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

/// The error document, which is also the line of an error in the middle of an answer.
#[derive(Debug, Serialize)]
pub(super) struct ErrorDocument<'a> {
    pub(super) error: &'a str,
}

impl AnswerDialect {
    fn line<'a>(&'a self, text: &'a str) -> Line<'a> {
        let (response, message) = match self.endpoint {
            Endpoint::Generate => (Some(text), None),
            Endpoint::Chat => (None, Some(Message { role: "assistant", content: text })),
        };
        Line { model: &self.model, created_at: rfc3339((self.clock)()), response, message, ..Line::default() }
    }

    fn end<'a>(&'a self, text: &'a str, ending: &Ending) -> Line<'a> {
        let (usage, timings) = (ending.progress.usage, ending.progress.timings);
        let done_reason = if ending.reason == FinishReason::Length { "length" } else { "stop" };
        Line {
            done: true,
            done_reason: Some(done_reason),
            total_duration: Some(nanoseconds(self.load + timings.first_token + timings.decode)),
            load_duration: Some(nanoseconds(self.load)),
            prompt_eval_count: Some(usage.prompt_tokens),
            prompt_eval_duration: Some(nanoseconds(timings.prefill)),
            eval_count: Some(usage.completion_tokens),
            // Clients divide by it, also where there is one token.
            eval_duration: Some(nanoseconds(ending.progress.decoding()).max(1)),
            ..self.line(text)
        }
    }

    fn logprobs(&self, tokens: &[Token]) -> Option<Vec<TokenLogprob>> {
        let model = self.logprobs.as_deref()?;
        Some(tokens.iter().filter_map(|token| TokenLogprob::of(token, model)).collect())
    }

    /// The answer of a request that has no prompt: its model was loaded or unloaded.
    pub(super) fn without_prompt(&self, reason: &'static str) -> Value {
        let line = Line { done: true, done_reason: Some(reason), ..self.line("") };
        serde_json::to_value(line).unwrap_or_default()
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Dialect for AnswerDialect {
    fn content_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn start(&mut self, _frames: &mut Frames) {}

    fn event(&mut self, event: &Event, frames: &mut Frames) {
        match event {
            Event::Token { token, .. } if token.text.is_empty() && self.logprobs.is_none() => {}
            Event::Token { token, .. } => {
                let logprobs = self.logprobs(std::slice::from_ref(token));
                frames.line(&Line { logprobs, ..self.line(&token.text) });
            }
            Event::End { ending, .. } => frames.line(&self.end("", ending)),
            Event::Failed { .. } => {}
        }
    }

    fn finish(&mut self, _frames: &mut Frames) {}

    fn failed(&mut self, error: &ApiError, frames: &mut Frames) {
        frames.line(&ErrorDocument { error: &error.message });
    }

    fn keep_alive(&self, frames: &mut Frames) {
        // Clients parse every line, so it has to be one that says nothing new.
        frames.line(&self.line(""));
    }

    fn whole(&mut self, answers: &[Answer]) -> Value {
        let Some(answer) = answers.first() else { return Value::Null };
        let line = Line { logprobs: self.logprobs(&answer.tokens), ..self.end(&answer.text, &answer.ending) };
        serde_json::to_value(line).unwrap_or_default()
    }
}
