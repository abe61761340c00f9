//! The state that the sender, the receiver and the handles of one stream share in addition to the channel.
//!
//! Lock order: the engine's inbox before this state. While it holds the lock, this code never calls the inbox, a waker
//! or the channel, except to take the permit out of the state.

use std::fmt::Debug;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use super::admission::AdmissionTicket;
use super::token::Token;
use super::usage::{FinishReason, Timings, Usage};
use super::wakeups;
use crate::error::MullamaError;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::mpsc::OwnedPermit;
use crate::sync::{Mutex, MutexGuard};

/// Identifies a stream within its engine; ids are never reused.
pub(crate) type StreamId = u64;

/// Messages of a stream to its engine, sent from the reader's threads. Neither call waits for the engine's step.
pub(crate) trait EngineInbox: Debug + Send + Sync {
    /// A read freed capacity for which the sender had to wait.
    fn capacity_freed(&self);

    /// The reader cancelled or left.
    fn leave(&self, id: StreamId);

    /// The stream must end with this error, because another one was accepted in its stead.
    fn displace(&self, id: StreamId, error: MullamaError);
}

/// An event that is sent through the channel.
#[derive(Debug)]
pub(super) enum Event {
    Token(Token),
    /// The last event. `last` is the token that ended the stream, or text that was held back.
    End {
        end: End,
        last: Option<Token>,
    },
}

/// How a stream ended.
#[derive(Debug, Clone)]
pub(crate) enum End {
    Finished(FinishReason),
    Failed(MullamaError),
}

impl End {
    fn reason(&self) -> FinishReason {
        match self {
            Self::Finished(reason) => *reason,
            Self::Failed(MullamaError::StreamTimeout { .. }) => FinishReason::Timeout,
            Self::Failed(_) => FinishReason::Error,
        }
    }
}

/// What the engine reports along with the tokens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    pub(crate) usage: Usage,
    /// Tokens of the prompt that are computed, or were reused.
    pub(crate) prefilled: usize,
    pub(crate) timings: Timings,
    pub(crate) stop_sequence: Option<String>,
}

/// The shared state of one stream.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) id: StreamId,
    pub(super) seed: u32,
    engine: Arc<dyn EngineInbox>,
    /// The reader cancelled or left: the engine ends the stream within a step.
    leaving: AtomicBool,
    /// Unread tokens are discarded.
    closed: AtomicBool,
    state: Mutex<State>,
}

/// The lock is held for a few instructions, never during a wait or a decode.
#[derive(Debug)]
pub(super) struct State {
    /// Capacity for the end, reserved when the stream was opened, so that ending never waits. The side that ends the
    /// stream first takes it: the engine, a reader that leaves, or the sender's drop.
    end_permit: Option<OwnedPermit<Event>>,
    /// Counts the stream as unfinished until it ends.
    ticket: Option<AdmissionTicket>,
    end: Option<FinishReason>,
    /// Woken when the stream ends, also if its reader takes nothing.
    end_waker: Option<Waker>,
    /// Whether the engine has taken the stream out of its queue, and is responsible for ending it.
    admitted: bool,
    pub(super) progress: Progress,
    /// Number of tokens sent, and of tokens returned to the reader.
    sent: usize,
    pub(super) taken: usize,
    /// Text returned to the reader.
    pub(super) text: String,
}

impl State {
    /// How the stream ended, once everything before the end was read.
    pub(super) fn finish_reason(&self) -> Option<FinishReason> {
        self.end.filter(|_| self.taken == self.sent)
    }

    pub(super) fn buffered(&self) -> usize {
        self.sent - self.taken
    }
}

impl Shared {
    pub(super) fn new(
        id: StreamId,
        seed: u32,
        engine: Arc<dyn EngineInbox>,
        ticket: AdmissionTicket,
        end_permit: OwnedPermit<Event>,
    ) -> Self {
        let state = State {
            end_permit: Some(end_permit),
            ticket: Some(ticket),
            end: None,
            end_waker: None,
            admitted: false,
            progress: Progress::default(),
            sent: 0,
            taken: 0,
            text: String::new(),
        };
        let (leaving, closed) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { id, seed, engine, leaving, closed, state: Mutex::new(state) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn engine(&self) -> &Arc<dyn EngineInbox> {
        &self.engine
    }

    /// Whether the reader cancelled or left.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Whether unread tokens are to be discarded.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn admit(&self) {
        self.lock().admitted = true;
    }

    /// Counts the stream as paused, or as one that runs, until it ends.
    pub(super) fn set_paused(self: &Arc<Self>, is_paused: bool) {
        match &mut self.lock().ticket {
            Some(ticket) if is_paused => ticket.pause(Arc::downgrade(self)),
            Some(ticket) => ticket.resume(),
            None => {}
        }
    }

    /// Stops counting the stream at once, and has the engine end it with this error within a step, after everything
    /// that was produced.
    pub(super) fn displace(&self, error: MullamaError) {
        let ticket = self.lock().ticket.take();
        // A stream without a ticket has ended.
        if ticket.is_some() {
            self.engine.displace(self.id, error);
        }
    }

    pub(super) fn report(&self, progress: &Progress) {
        self.lock().progress.clone_from(progress);
    }

    /// How the stream ended, whether or not its items are read; else the task is woken when it ends.
    pub(super) fn poll_ended(&self, cx: &Context<'_>) -> Poll<FinishReason> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        if let Some(reason) = state.end {
            // The unused waker is dropped after the lock is released.
            drop(state);
            return Poll::Ready(reason);
        }
        let replaced = state.end_waker.replace(waker);
        drop(state);
        // The drop of a waker may drop the task that owns the stream, which takes the lock.
        drop(replaced);
        Poll::Pending
    }

    /// Counts a token that is about to be sent; `false` if the stream has ended already.
    pub(super) fn count_sent(&self, progress: &Progress) -> bool {
        let mut state = self.lock();
        let open = state.end.is_none();
        if open {
            state.progress.clone_from(progress);
            state.sent += 1;
        }
        open
    }

    /// Counts a token that is about to be returned to the reader; `None` if it is discarded instead.
    pub(super) fn count_taken(&self, token: Token) -> Option<Token> {
        let mut state = self.lock();
        if self.is_closed() {
            return None;
        }
        state.taken += 1;
        state.text.push_str(&token.text);
        Some(token)
    }

    /// Ends the stream unless it has ended.
    pub(super) fn end(&self, end: End, last: Option<Token>, progress: Option<&Progress>) {
        let mut state = self.lock();
        if let Some(progress) = progress.filter(|_| state.end.is_none()) {
            state.progress.clone_from(progress);
        }
        Self::end_locked(state, end, last);
    }

    /// Takes the permit for the end and sends the end after the lock is released.
    fn end_locked(mut state: MutexGuard<'_, State>, end: End, last: Option<Token>) {
        let Some(permit) = state.end_permit.take() else { return };
        state.end = Some(end.reason());
        state.sent += usize::from(last.is_some());
        state.ticket = None;
        let waker = state.end_waker.take();
        drop(state);
        wakeups::isolated(|| permit.send(Event::End { end, last }));
        if let Some(waker) = waker {
            wakeups::isolated(|| waker.wake());
        }
    }

    /// Stops the generation. A queued stream ends at once, whatever the engine is doing; any other stream ends within a
    /// step.
    pub(super) fn cancel(&self) {
        let state = self.lock();
        if state.end.is_some() || self.leaving.swap(true, Ordering::AcqRel) {
            return;
        }
        if state.admitted {
            drop(state);
        } else {
            // Under the same lock as the look at `admitted`: a token that is sent in between would come after the end.
            Self::end_locked(state, End::Finished(FinishReason::Cancelled), None);
        }
        self.engine.leave(self.id);
    }

    /// Stops the generation and discards unread tokens.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.cancel();
        // The stream is ended here in every phase, so that a waiting reader is woken at once.
        self.end(End::Finished(FinishReason::Cancelled), None, None);
        let mut state = self.lock();
        state.sent = state.taken;
    }
}
