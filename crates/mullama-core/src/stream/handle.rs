//! Cancels and observes a stream from anywhere while it is read elsewhere.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::shared::{Progress, Shared, State, StreamId};
use super::usage::{FinishReason, Timings, Usage};
use crate::error::MullamaError;
use crate::fork_guard::ForkGuard;

/// Cancels and observes a [`TokenStream`](crate::TokenStream) from any thread or task while it is read.
///
/// A handle keeps neither the stream nor its engine alive. In a forked child process, a handle does nothing and reports
/// the values of an empty stream.
#[derive(Debug, Clone)]
pub struct StreamHandle {
    shared: Arc<Shared>,
    fork_guard: ForkGuard,
}

impl StreamHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, fork_guard: ForkGuard::new() }
    }

    /// Refuses use in a forked child process, where the stream's engine has no thread.
    ///
    /// # Errors
    /// [`MullamaError::Closed`] in a forked child.
    pub fn check_process(&self) -> Result<(), MullamaError> {
        self.fork_guard.check()
    }

    /// The shared state; every access goes through here. `None` in a forked child, where its lock may be held forever.
    pub(super) fn shared(&self) -> Option<&Shared> {
        (!self.fork_guard.is_forked()).then_some(&*self.shared)
    }

    fn read<T: Default>(&self, read: impl FnOnce(&State) -> T) -> T {
        self.shared().map_or_else(T::default, |shared| read(&shared.lock()))
    }

    fn progress<T: Default>(&self, read: impl FnOnce(&Progress) -> T) -> T {
        self.read(|state| read(&state.progress))
    }

    pub(crate) fn id(&self) -> StreamId {
        self.shared.id
    }

    /// Whether the reader cancelled or left.
    pub(crate) fn is_leaving(&self) -> bool {
        self.shared.is_leaving()
    }

    /// Stops the generation. Tokens that were produced can still be read; then the stream ends as
    /// [`Cancelled`](FinishReason::Cancelled).
    pub fn cancel(&self) {
        if let Some(shared) = self.shared() {
            shared.cancel();
        }
    }

    /// Stops the generation and discards unread tokens. A waiting reader is woken at once.
    pub fn close(&self) {
        if let Some(shared) = self.shared() {
            shared.close();
        }
    }

    /// Number of items returned to the reader so far.
    pub fn tokens_generated(&self) -> usize {
        self.read(|state| state.taken)
    }

    /// Completion tokens per second from the first to the latest; 0 until there are two.
    pub fn tokens_per_second(&self) -> f64 {
        self.progress(|progress| {
            let seconds = progress.timings.decode.as_secs_f64();
            let steps = progress.usage.completion_tokens.saturating_sub(1);
            #[expect(clippy::cast_precision_loss, reason = "a count of tokens is far below 2^52")]
            if seconds > 0.0 { steps as f64 / seconds } else { 0.0 }
        })
    }

    /// How the stream ended; `None` until everything before the end was read.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.read(State::finish_reason)
    }

    /// How the stream ended, as soon as it has ended, whether or not everything before the end was read; until then the
    /// task of `cx` is woken when it ends. Only the last waker is kept. A reader that takes nothing learns of deadlines
    /// and errors this way.
    pub fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<FinishReason> {
        self.shared().map_or(Poll::Ready(FinishReason::Error), |shared| shared.poll_ended(cx))
    }

    /// The stop sequence that ended the stream, if one did.
    pub fn stop_sequence(&self) -> Option<String> {
        self.progress(|progress| progress.stop_sequence.clone())
    }

    /// Token counts of prompt and completion so far.
    pub fn usage(&self) -> Usage {
        self.progress(|progress| progress.usage)
    }

    /// Number of the prompt's tokens that are computed so far, including those of a cached prefix. It grows during the
    /// prefill, with each step; no reader is woken for it.
    pub fn prefilled(&self) -> usize {
        self.progress(|progress| progress.prefilled)
    }

    /// Durations of the stream's phases so far.
    pub fn timings(&self) -> Timings {
        self.progress(|progress| progress.timings)
    }

    /// The seed in use, chosen by the caller or by the engine.
    pub fn seed(&self) -> u32 {
        self.shared.seed
    }

    /// All text returned to the reader so far.
    pub fn text(&self) -> String {
        self.read(|state| state.text.clone())
    }

    /// Number of tokens computed and not yet returned to the reader: at most `buffer_size`, plus one that ends the
    /// stream.
    pub fn buffered(&self) -> usize {
        self.read(State::buffered)
    }
}
