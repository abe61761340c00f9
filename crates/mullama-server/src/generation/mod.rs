//! One request's streams as one sequence of events, and the answers that are made of it.

mod answer;
mod event;
mod frames;
mod prefill;
mod response;
mod streams;

pub(crate) use answer::Answer;
pub(crate) use event::{Ending, Event, Progress, finite};
pub(crate) use frames::Frames;
pub(crate) use prefill::Prefill;
pub(crate) use response::{KeepAlive, respond};
pub(crate) use streams::Streams;

use serde_json::Value;

use crate::error::ApiError;

/// How one dialect writes the events of a request: a pure function from events to bytes, with the state of one answer.
pub(crate) trait Dialect: Send + Unpin + 'static {
    /// The content type of a streamed answer.
    fn content_type(&self) -> &'static str {
        "text/event-stream"
    }

    /// The id of the answer, in dialects that have one.
    fn id(&self) -> Option<&str> {
        None
    }

    /// What the request has used so far, which is told once before [`start`](Self::start).
    fn used(&mut self, _so_far: &Progress) {}

    /// What comes before the first event.
    fn start(&mut self, frames: &mut Frames);

    /// One event. The end of the last choice is followed by [`finish`](Self::finish).
    fn event(&mut self, event: &Event, frames: &mut Frames);

    /// What comes after the last event.
    fn finish(&mut self, frames: &mut Frames);

    /// An error in the middle of a stream; nothing follows it but what the dialect itself adds here.
    fn failed(&mut self, error: &ApiError, frames: &mut Frames);

    /// What keeps a connection alive while nothing is computed.
    fn keep_alive(&self, frames: &mut Frames) {
        frames.comment("keep-alive");
    }

    /// Whether the client wants to be told how far the prompts are computed.
    fn tells_prefill(&self) -> bool {
        false
    }

    /// How far the prompt of a choice is computed, before its first event.
    fn prefill(&mut self, _choice: usize, _prefill: &Prefill, _frames: &mut Frames) {}

    /// The answer as one document, of all choices in order.
    fn whole(&mut self, answers: &[Answer]) -> Value;
}
