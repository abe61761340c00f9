//! The span of a request's streams.

use std::time::{Duration, SystemTime};

use mullama::{FinishReason, StreamConfig};
use opentelemetry::KeyValue;
use opentelemetry::global::BoxedSpan;
use opentelemetry::trace::Span;

use super::attributes as names;
use super::request::{Scope, fail};
use crate::generation::Progress;
use crate::models::Loaded;

/// The span of a request's streams, which ends when it is dropped. It is empty if the request is not recorded.
#[derive(Debug)]
pub(crate) struct Generation(Option<Box<Recording>>);

#[derive(Debug)]
struct Recording {
    span: BoxedSpan,
    /// Time from the start of the request to the opening of its streams, such as that of loading the model.
    until_opened: Duration,
    opened: SystemTime,
    /// Answers for each prompt; they share its tokens.
    per_prompt: usize,
    is_streamed: bool,
    has_token: bool,
    reasons: Vec<Option<FinishReason>>,
    input: usize,
    cached: usize,
    output: usize,
    reader_wait: Duration,
}

impl Generation {
    /// Starts the span of the streams that the current request has opened: their number, and that for each prompt.
    pub(crate) fn start(model: &Loaded, is_chat: bool, choices: [usize; 2], config: &StreamConfig) -> Self {
        let [choices, per_prompt] = choices;
        let Some(scope) = Scope::current() else { return Self(None) };
        let of_prompt = if is_chat { "chat" } else { "text_completion" };
        let name = scope.model().unwrap_or_else(|| model.name().to_owned());
        let mut attributes = names::of_request(config, choices);
        attributes.push(KeyValue::new(names::RESPONSE_MODEL, model.name().to_owned()));
        let span = scope.begin(scope.operation.unwrap_or(of_prompt), Some(&name), attributes);
        if !span.is_recording() {
            return Self(None);
        }
        let opened = SystemTime::now();
        let mut generation = Self(Some(Box::new(Recording {
            span,
            until_opened: scope.started.and_then(|started| opened.duration_since(started).ok()).unwrap_or_default(),
            opened,
            per_prompt,
            is_streamed: false,
            has_token: false,
            reasons: vec![None; choices],
            input: 0,
            cached: 0,
            output: 0,
            reader_wait: Duration::ZERO,
        })));
        if scope.started.is_none() {
            generation.describe(None, true);
        }
        generation
    }

    /// Notes the id of the answer, if it has one, and how it is sent.
    pub(crate) fn describe(&mut self, id: Option<&str>, is_streamed: bool) {
        let Some(recording) = &mut self.0 else { return };
        recording.is_streamed = is_streamed;
        recording.span.set_attribute(KeyValue::new(names::REQUEST_STREAM, is_streamed));
        if let Some(id) = id {
            recording.span.set_attribute(KeyValue::new(names::RESPONSE_ID, id.to_owned()));
        }
    }

    /// Notes the first token of a choice; only that of the first choice counts.
    pub(crate) fn first_token(&mut self, progress: &Progress) {
        let Some(recording) = self.0.as_mut().filter(|recording| !recording.has_token) else { return };
        recording.has_token = true;
        let Recording { span, opened, until_opened, is_streamed, .. } = &mut **recording;
        let timings = &progress.timings;
        span.set_attribute(names::time(names::QUEUE_TIME, timings.queue));
        span.set_attribute(names::time(names::PREFILL_TIME, timings.prefill));
        if *is_streamed {
            span.set_attribute(names::time(names::TIME_TO_FIRST_CHUNK, *until_opened + timings.first_token));
        }
        span.add_event_with_timestamp("mullama.slot", *opened + timings.queue, Vec::new());
        span.add_event_with_timestamp("mullama.first_token", *opened + timings.first_token, Vec::new());
    }

    /// Notes the end of a choice.
    pub(crate) fn ended(&mut self, choice: usize, reason: FinishReason, progress: &Progress) {
        let Some(recording) = &mut self.0 else { return };
        recording.reasons[choice] = Some(reason);
        if choice.is_multiple_of(recording.per_prompt) {
            recording.input += progress.usage.prompt_tokens;
            recording.cached += progress.usage.cached_tokens;
        }
        recording.output += progress.usage.completion_tokens;
        recording.reader_wait += progress.timings.reader_wait;
    }

    /// Notes the error that ends the streams.
    pub(crate) fn failed(&mut self, code: &'static str) {
        if let Some(recording) = &mut self.0 {
            fail(&mut recording.span, code);
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let reasons = self.reasons.iter().map(|reason| reason.unwrap_or(FinishReason::Cancelled).as_str());
        let attributes = [
            KeyValue::new(names::FINISH_REASONS, names::texts(reasons)),
            KeyValue::new(names::INPUT_TOKENS, names::number(self.input)),
            KeyValue::new(names::CACHED_TOKENS, names::number(self.cached)),
            KeyValue::new(names::OUTPUT_TOKENS, names::number(self.output)),
            names::time(names::READER_WAIT, self.reader_wait),
        ];
        self.span.set_attributes(attributes);
        self.span.end();
    }
}
