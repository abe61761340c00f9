//! The chunks and the document of a completion.

use serde::Serialize;
use serde_json::Value;

use super::document::{Completion, Head, Objects, finish_reason};
use super::logprobs::LegacyLogprobs;
use super::options::Options;
use crate::error::ApiError;
use crate::generation::{Answer, Dialect, Event, Frames, Prefill};

const OBJECTS: Objects = Objects { whole: "text_completion", chunk: "text_completion" };

/// Writes one completion, whose choices are the answers of the first prompt, then those of the next.
#[derive(Debug)]
pub(crate) struct CompletionDialect {
    completion: Completion,
    /// The texts of the prompts, if answers begin with them.
    echoed: Vec<String>,
    /// The characters of each choice so far.
    offsets: Vec<usize>,
}

#[derive(Debug, Default, Serialize)]
struct Choice<'a> {
    index: usize,
    text: &'a str,
    logprobs: Option<LegacyLogprobs>,
    finish_reason: Option<&'static str>,
}

impl CompletionDialect {
    pub(crate) fn new(head: Head, options: Options, prompts: usize, echoed: Vec<String>) -> Self {
        let count = prompts * options.n;
        Self { completion: Completion::new(head, options, OBJECTS, count), echoed, offsets: vec![0; count] }
    }

    fn echo(&self, choice: usize) -> &str {
        self.echoed.get(choice / self.completion.options.n.max(1)).map_or("", String::as_str)
    }
}

impl Dialect for CompletionDialect {
    fn id(&self) -> Option<&str> {
        Some(&self.completion.head.id)
    }

    fn start(&mut self, frames: &mut Frames) {
        for index in (0..self.completion.count()).filter(|_| !self.echoed.is_empty()) {
            self.completion.chunk(Choice { index, text: self.echo(index), ..Choice::default() }, frames);
        }
    }

    fn event(&mut self, event: &Event, frames: &mut Frames) {
        let completion = &mut self.completion;
        match event {
            Event::Token { token, .. } if token.text.is_empty() && !completion.options.logprobs => {}
            Event::Token { choice: index, token, progress } => {
                let (model, offset) = (&completion.head.model, &mut self.offsets[*index]);
                let logprobs = completion.options.logprobs.then(|| LegacyLogprobs::of([token], model, offset));
                let choice = Choice { index: *index, text: &token.text, logprobs, finish_reason: None };
                completion.token_chunk(choice, progress, frames);
            }
            Event::End { choice: index, ending } => {
                let finish_reason = Some(finish_reason(ending.reason));
                let choice = Choice { index: *index, finish_reason, ..Choice::default() };
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
        self.completion.progress_chunk(Choice { index, ..Choice::default() }, prefill, frames);
    }

    fn whole(&mut self, answers: &[Answer]) -> Value {
        let completion = &self.completion;
        let choice = |(index, answer): (usize, &Answer)| {
            let text = format!("{}{}", self.echo(index), answer.text);
            let of = || LegacyLogprobs::of(&answer.tokens, &completion.head.model, &mut 0);
            let logprobs = completion.options.logprobs.then(of);
            let finish_reason = Some(finish_reason(answer.ending.reason));
            serde_json::to_value(Choice { index, text: &text, logprobs, finish_reason }).unwrap_or_default()
        };
        completion.whole(answers.iter().enumerate().map(choice).collect(), answers)
    }
}
