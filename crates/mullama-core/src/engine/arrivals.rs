//! A request on its way into the engine: its stream arrives with the call, its prompt once it is tokenized.

use std::sync::Arc;
use std::time::Duration;

use super::inbox::Inbox;
use super::tokenizer_pool::{Job, Reservation};
use crate::clock::Clock;
use crate::config::StreamConfig;
use crate::error::{MullamaError, StreamFailure};
use crate::in_flight::InFlightGuard;
use crate::request::{Request, ValidRequest};
use crate::stream::{StreamHandle, StreamId, TokenSender};
use crate::text::vocabulary::{IsWanted, Vocabulary};

/// A newly opened stream. Its prompt follows when it is tokenized.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) sender: TokenSender,
    pub(crate) config: Arc<StreamConfig>,
    /// When the stream was requested, on the engine's clock.
    pub(crate) called_at: Duration,
}

/// The obligation to report the result for a prompt to the engine. If it is dropped without a result, for example by a
/// panic, the stream fails.
#[derive(Debug)]
pub(crate) struct Answer {
    inbox: Arc<Inbox>,
    id: StreamId,
    is_due: bool,
}

impl Answer {
    pub(crate) fn new(inbox: &Arc<Inbox>, id: StreamId) -> Self {
        Self { inbox: Arc::clone(inbox), id, is_due: true }
    }

    /// Reports the result to the engine.
    pub(crate) fn give(mut self, validated: Result<ValidRequest, MullamaError>) {
        self.is_due = false;
        self.inbox.prepared(self.id, validated);
    }

    /// Reports nothing: the stream has ended, or its own deadline is about to end it.
    pub(crate) fn withhold(mut self) {
        self.is_due = false;
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.is_due {
            let panicked = MullamaError::StreamingError(StreamFailure::TokenizerPanicked);
            self.inbox.prepared(self.id, Err(panicked));
        }
    }
}

/// A request whose prompt waits for a tokenizer thread.
#[derive(Debug)]
pub(crate) struct PromptJob {
    pub(crate) request: Request,
    pub(crate) vocabulary: Arc<dyn Vocabulary>,
    /// Says whether the stream still needs the prompt.
    pub(crate) interest: Interest,
    /// Released before the engine gets the result, so that a caller who reacts to the end of the stream finds the bytes
    /// free.
    pub(crate) reservation: Reservation,
    pub(crate) in_flight: InFlightGuard,
    pub(crate) answer: Answer,
}

/// The stream that waits for a prompt, and until when it waits.
#[derive(Debug)]
pub(crate) struct Interest {
    pub(crate) stream: StreamHandle,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) clock: Arc<dyn Clock>,
    /// When the stream ends by its own deadline, on the engine's clock.
    pub(crate) deadline: Option<Duration>,
}

impl Interest {
    fn lasts(&self) -> bool {
        let expired = self.deadline.is_some_and(|deadline| deadline <= self.clock.now());
        !expired && !self.stream.is_leaving() && !self.inbox.is_closed()
    }
}

impl Job for PromptJob {
    fn is_wanted(&self) -> bool {
        self.interest.lasts()
    }

    fn run(self: Box<Self>) {
        let Self { request, vocabulary, interest, reservation, in_flight, answer } = *self;
        let is_wanted: IsWanted = Arc::new(move || interest.lasts());
        let validated = request.validate(vocabulary.as_ref(), &is_wanted);
        drop(reservation);
        match validated.transpose() {
            // A stream that has left meanwhile must not leave its prompt in the inbox.
            Some(validated) if is_wanted() || validated.is_err() => answer.give(validated),
            _ => answer.withhold(),
        }
        drop(in_flight);
    }

    fn skip(self: Box<Self>) {
        self.answer.withhold();
    }

    fn fail(self: Box<Self>, error: MullamaError) {
        let Self { reservation, answer, .. } = *self;
        drop(reservation);
        answer.give(Err(error));
    }
}
