//! The events of a response, in the order that clients rely on, and its document.

use serde::Serialize;
use serde_json::Value;

use super::object::{Echo, Failure, Message, Part, ResponseObject, ResponseUsage, status};
use crate::dialect::openai::document::Head;
use crate::dialect::openai::logprobs::{TokenLogprob, of_tokens};
use crate::error::ApiError;
use crate::generation::{Answer, Dialect, Event, Frames};

/// Writes one response: a message with one part of text.
#[derive(Debug)]
pub(crate) struct ResponseDialect {
    head: Head,
    message_id: String,
    echo: Echo,
    now: fn() -> u64,
    sequence_number: u64,
    text: String,
    logprobs: Vec<TokenLogprob>,
    /// The reason of the end and the usage, once the message is complete.
    ending: Option<(mullama::FinishReason, ResponseUsage)>,
}

/// An event with its number; the fields of each kind follow.
#[derive(Debug, Serialize)]
struct Numbered<'a, T> {
    r#type: &'a str,
    sequence_number: u64,
    #[serde(flatten)]
    rest: T,
}

#[derive(Debug, Serialize)]
struct OfResponse<'a> {
    response: ResponseObject<'a>,
}

#[derive(Debug, Serialize)]
struct OfItem<'a> {
    output_index: usize,
    item: Message<'a>,
}

#[derive(Debug, Serialize)]
struct OfPart<'a> {
    item_id: &'a str,
    output_index: usize,
    content_index: usize,
    part: Part<'a>,
}

/// The event of each token, written without a detour.
#[derive(Debug, Serialize)]
struct TextDelta<'a> {
    r#type: &'static str,
    sequence_number: u64,
    item_id: &'a str,
    output_index: usize,
    content_index: usize,
    delta: &'a str,
    logprobs: &'a [TokenLogprob],
}

#[derive(Debug, Serialize)]
struct TextDone<'a> {
    item_id: &'a str,
    output_index: usize,
    content_index: usize,
    text: &'a str,
    logprobs: &'a [TokenLogprob],
}

impl ResponseDialect {
    /// `now` tells the time at which the response is complete.
    pub(crate) fn new(head: Head, message_id: String, echo: Echo, now: fn() -> u64) -> Self {
        let (text, logprobs) = (String::new(), Vec::new());
        Self { head, message_id, echo, now, sequence_number: 0, text, logprobs, ending: None }
    }

    fn object<'a>(&'a self, status: &'static str, output: Vec<Message<'a>>) -> ResponseObject<'a> {
        ResponseObject {
            id: &self.head.id,
            object: "response",
            created_at: self.head.created,
            completed_at: None,
            status,
            error: None,
            incomplete_details: None,
            model: &self.head.name,
            output,
            usage: None,
            echo: &self.echo,
        }
    }

    /// The response once its message is complete.
    fn ended(&self) -> ResponseObject<'_> {
        let Some((reason, usage)) = self.ending else { return self.object("in_progress", Vec::new()) };
        let (status, incomplete_details) = status(reason);
        let completed_at = (status == "completed").then(self.now);
        let output = vec![self.message(status)];
        ResponseObject { completed_at, incomplete_details, usage: Some(usage), ..self.object(status, output) }
    }

    fn message(&self, status: &'static str) -> Message<'_> {
        Message::new(&self.message_id, status, vec![self.part()])
    }

    fn part(&self) -> Part<'_> {
        Part::new(&self.text, &self.logprobs)
    }

    fn of_part<'a>(&'a self, part: Part<'a>) -> OfPart<'a> {
        OfPart { item_id: &self.message_id, output_index: 0, content_index: 0, part }
    }

    fn write(&self, offset: u64, name: &str, rest: impl Serialize, frames: &mut Frames) {
        let sequence_number = self.sequence_number + offset;
        frames.named_event(name, &Numbered { r#type: name, sequence_number, rest });
    }

    /// The message is complete.
    fn end_message(&mut self, status: &'static str, frames: &mut Frames) {
        let (text, logprobs) = (self.text.as_str(), self.logprobs.as_slice());
        let done = TextDone { item_id: &self.message_id, output_index: 0, content_index: 0, text, logprobs };
        self.write(0, "response.output_text.done", done, frames);
        self.write(1, "response.content_part.done", self.of_part(self.part()), frames);
        let item = OfItem { output_index: 0, item: self.message(status) };
        self.write(2, "response.output_item.done", item, frames);
        self.sequence_number += 3;
    }
}

impl Dialect for ResponseDialect {
    fn id(&self) -> Option<&str> {
        Some(&self.head.id)
    }

    fn start(&mut self, frames: &mut Frames) {
        for (offset, name) in [(0, "response.created"), (1, "response.in_progress")] {
            self.write(offset, name, OfResponse { response: self.object("in_progress", Vec::new()) }, frames);
        }
        let item = Message::new(&self.message_id, "in_progress", Vec::new());
        self.write(2, "response.output_item.added", OfItem { output_index: 0, item }, frames);
        self.write(3, "response.content_part.added", self.of_part(Part::new("", &[])), frames);
        self.sequence_number += 4;
    }

    fn event(&mut self, event: &Event, frames: &mut Frames) {
        match event {
            Event::Token { token, .. } => {
                let logprobs = if self.echo.logprobs { of_tokens([token], &self.head.model) } else { Vec::new() };
                self.text.push_str(&token.text);
                if !token.text.is_empty() || !logprobs.is_empty() {
                    let name = "response.output_text.delta";
                    let delta = TextDelta {
                        r#type: name,
                        sequence_number: self.sequence_number,
                        item_id: &self.message_id,
                        output_index: 0,
                        content_index: 0,
                        delta: &token.text,
                        logprobs: &logprobs,
                    };
                    frames.named_event(name, &delta);
                    self.sequence_number += 1;
                }
                self.logprobs.extend(logprobs);
            }
            Event::End { ending, .. } => {
                self.ending = Some((ending.reason, ResponseUsage::of(ending.progress.usage)));
                self.end_message(status(ending.reason).0, frames);
            }
            Event::Failed { .. } => {}
        }
    }

    fn finish(&mut self, frames: &mut Frames) {
        let response = self.ended();
        let name = if response.status == "completed" { "response.completed" } else { "response.incomplete" };
        self.write(0, name, OfResponse { response }, frames);
    }

    fn failed(&mut self, error: &ApiError, frames: &mut Frames) {
        let code = if error.status.as_u16() == 429 { "rate_limit_exceeded" } else { "server_error" };
        let failure = Some(Failure { code, message: &error.message });
        let output = vec![self.message("incomplete")];
        let response = ResponseObject { error: failure, ..self.object("failed", output) };
        self.write(0, "response.failed", OfResponse { response }, frames);
    }

    fn whole(&mut self, answers: &[Answer]) -> Value {
        if let Some(answer) = answers.first() {
            self.text.clone_from(&answer.text);
            if self.echo.logprobs {
                self.logprobs = of_tokens(&answer.tokens, &self.head.model);
            }
            self.ending = Some((answer.ending.reason, ResponseUsage::of(answer.ending.progress.usage)));
        }
        serde_json::to_value(self.ended()).unwrap_or_default()
    }
}
