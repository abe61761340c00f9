//! The chunks and the document of a chat completion.

use serde::Serialize;
use serde_json::Value;

use super::document::{Completion, Head, Objects, finish_reason};
use super::logprobs::LogprobsBody;
use super::options::Options;
use crate::error::ApiError;
use crate::generation::{Answer, Dialect, Event, Frames, Prefill};

const OBJECTS: Objects = Objects { whole: "chat.completion", chunk: "chat.completion.chunk" };

/// Writes one chat completion.
#[derive(Debug)]
pub(crate) struct ChatDialect {
    completion: Completion,
}

#[derive(Debug, Default, Serialize)]
struct ChunkChoice<'a> {
    index: usize,
    delta: Delta<'a>,
    logprobs: Option<LogprobsBody>,
    finish_reason: Option<&'static str>,
}

#[derive(Debug, Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Choice<'a> {
    index: usize,
    message: AnswerMessage<'a>,
    logprobs: Option<LogprobsBody>,
    finish_reason: &'static str,
}

#[derive(Debug, Serialize)]
struct AnswerMessage<'a> {
    role: &'static str,
    content: &'a str,
    refusal: Option<()>,
    annotations: [(); 0],
}

impl ChatDialect {
    pub(crate) fn new(head: Head, options: Options) -> Self {
        Self { completion: Completion::new(head, options, OBJECTS, options.n) }
    }
}

impl Dialect for ChatDialect {
    fn id(&self) -> Option<&str> {
        Some(&self.completion.head.id)
    }

    fn start(&mut self, frames: &mut Frames) {
        for index in 0..self.completion.count() {
            let delta = Delta { role: Some("assistant"), content: Some("") };
            self.completion.chunk(ChunkChoice { index, delta, ..ChunkChoice::default() }, frames);
        }
    }

    fn event(&mut self, event: &Event, frames: &mut Frames) {
        let completion = &mut self.completion;
        match event {
            Event::Token { token, .. } if token.text.is_empty() && !completion.options.logprobs => {}
            Event::Token { choice, token, progress } => {
                let logprobs = completion.options.logprobs.then(|| LogprobsBody::of([token], &completion.head.model));
                let delta = Delta { role: None, content: Some(&token.text) };
                let choice = ChunkChoice { index: *choice, delta, logprobs, finish_reason: None };
                completion.token_chunk(choice, progress, frames);
            }
            Event::End { choice: index, ending } => {
                let finish_reason = Some(finish_reason(ending.reason));
                let choice = ChunkChoice { index: *index, finish_reason, ..ChunkChoice::default() };
                completion.last_chunk(*index, choice, &ending.progress, frames);
            }
            Event::Failed { .. } => {}
        }
    }

    fn finish(&mut self, frames: &mut Frames) {
        self.completion.finish(frames);
    }

    fn failed(&mut self, error: &ApiError, frames: &mut Frames) {
        Completion::failed(error, frames);
    }

    fn tells_prefill(&self) -> bool {
        self.completion.options.return_progress
    }

    fn prefill(&mut self, index: usize, prefill: &Prefill, frames: &mut Frames) {
        let choice = ChunkChoice { index, ..ChunkChoice::default() };
        self.completion.progress_chunk(choice, prefill, frames);
    }

    fn whole(&mut self, answers: &[Answer]) -> Value {
        let completion = &self.completion;
        let choice = |(index, answer): (usize, &'_ Answer)| {
            let message = AnswerMessage { role: "assistant", content: &answer.text, refusal: None, annotations: [] };
            let logprobs =
                completion.options.logprobs.then(|| LogprobsBody::of(&answer.tokens, &completion.head.model));
            let finish_reason = finish_reason(answer.ending.reason);
            serde_json::to_value(Choice { index, message, logprobs, finish_reason }).unwrap_or_default()
        };
        completion.whole(answers.iter().enumerate().map(choice).collect(), answers)
    }
}
