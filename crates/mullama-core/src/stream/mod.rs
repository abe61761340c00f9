//! The reader's end of a stream: one object for blocking and for async readers.
//!
//! Flow: stop → **stream** → face.

pub(crate) mod channel;
pub(crate) mod completion;
pub(crate) mod notifier;
pub(crate) mod token;
pub(crate) mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::engine::handle::EngineHandle;
use crate::error::MullamaError;
use crate::fork_guard::ForkGuard;
use crate::stream::channel::{Channel, Take};
use crate::stream::completion::Completion;
use crate::stream::notifier::NotifyHandle;
use crate::stream::token::Token;
use crate::stream::usage::{FinishReason, Timings, Usage};

/// A stream of tokens, each there as soon as it exists.
///
/// Read it with [`next_blocking`](Self::next_blocking) or a `for` loop, or as a
/// `futures` stream with the feature `streaming`. Dropping it stops the
/// generation and frees its compute within one step.
#[derive(Debug)]
pub struct TokenStream {
    channel: Arc<Channel>,
    fork_guard: ForkGuard,
    /// The refusal of a process that got its copy by a fork was told.
    refused: AtomicBool,
    /// An engine lives while a stream uses it; `None` where a test steps the engine itself.
    _engine: Option<Arc<EngineHandle>>,
}

/// What a wait with a limit came to.
#[derive(Debug)]
pub enum TryNext {
    /// The next item.
    Token(Token),
    /// The stream has ended.
    Ended,
    /// It ended with an error; told once, then it is [`Ended`](Self::Ended).
    Failed(MullamaError),
    /// Nothing came in that time.
    Pending,
}

impl From<Take> for TryNext {
    fn from(take: Take) -> Self {
        match take {
            Take::Item(token) => Self::Token(token),
            Take::Over(None) => Self::Ended,
            Take::Over(Some(error)) => Self::Failed(error),
            Take::Empty => Self::Pending,
        }
    }
}

impl TokenStream {
    pub(crate) fn new(channel: Arc<Channel>, engine: Option<Arc<EngineHandle>>) -> Self {
        Self { channel, fork_guard: ForkGuard::new(), refused: AtomicBool::new(false), _engine: engine }
    }

    /// What a process that got its copy by a fork iterates over: an error, and then the end.
    fn refusal(&self) -> Option<Take> {
        let error = self.fork_guard.check().err()?;
        Some(Take::Over((!self.refused.swap(true, Ordering::Relaxed)).then_some(error)))
    }

    /// Waits for the next item; `None` after the last one.
    ///
    /// # Errors
    /// What ended the stream, once, after everything that was produced.
    pub fn next_blocking(&self) -> Option<Result<Token, MullamaError>> {
        match self.refusal().unwrap_or_else(|| self.channel.take_within(None)) {
            Take::Item(token) => Some(Ok(token)),
            Take::Over(error) => error.map(Err),
            Take::Empty => None,
        }
    }

    /// Waits for the next item, at most `limit`. With a limit of zero it never waits.
    pub fn next_within(&self, limit: Duration) -> TryNext {
        match self.fork_guard.check() {
            Err(error) => TryNext::Failed(error),
            Ok(()) if limit.is_zero() => self.channel.take().into(),
            Ok(()) => self.channel.take_within(Some(limit)).into(),
        }
    }

    /// Has an event loop's bell rung by this rope at the next news; `true`, and no ring, if something can be taken now.
    pub fn watch(&self, rope: &NotifyHandle) -> bool {
        self.fork_guard.is_forked() || self.channel.watch(rope)
    }

    /// Iterates over the items without taking the stream; blocks as [`next_blocking`](Self::next_blocking) does.
    pub fn iter(&self) -> Tokens<'_> {
        Tokens(self)
    }

    /// Stops the generation, from any thread. What was produced can still be read; then the stream is over.
    pub fn cancel(&self) {
        if !self.fork_guard.is_forked() {
            self.channel.cancel();
        }
    }

    /// Stops the generation and throws away what was not read. Dropping the stream does the same.
    pub fn close(&self) {
        if !self.fork_guard.is_forked() {
            self.channel.close();
        }
    }

    /// Items handed out so far.
    pub fn tokens_generated(&self) -> usize {
        self.channel.taken()
    }

    /// Completion tokens a second between the first and the newest; 0 before there are two.
    pub fn tokens_per_second(&self) -> f64 {
        self.channel.with_progress(|progress| {
            let seconds = progress.timings.decode.as_secs_f64();
            let steps = progress.usage.completion_tokens.saturating_sub(1);
            #[expect(clippy::cast_precision_loss, reason = "a count of tokens is far below 2^52")]
            if seconds > 0.0 { steps as f64 / seconds } else { 0.0 }
        })
    }

    /// How it ended; `None` until everything before the end was read.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.channel.finish_reason()
    }

    /// The stop sequence that ended it, if one did.
    pub fn stop_sequence(&self) -> Option<String> {
        self.channel.with_progress(|progress| progress.stop_sequence.clone())
    }

    /// Tokens so far.
    pub fn usage(&self) -> Usage {
        self.channel.with_progress(|progress| progress.usage)
    }

    /// Where the time went so far.
    pub fn timings(&self) -> Timings {
        self.channel.with_progress(|progress| progress.timings)
    }

    /// The seed in use, chosen or given.
    pub fn seed(&self) -> u32 {
        self.channel.seed()
    }

    /// All text handed out so far.
    pub fn text(&self) -> String {
        self.channel.text()
    }

    /// Tokens computed and not yet handed out; never more than `buffer_size`, and one remainder at the end.
    pub fn buffered(&self) -> usize {
        self.channel.buffered()
    }

    /// Reads to the end.
    ///
    /// # Errors
    /// What ended the stream, if it was an error.
    pub fn into_completion(self) -> Result<Completion, MullamaError> {
        let tokens = self.iter().collect::<Result<Vec<Token>, _>>()?;
        Ok(Completion::of(&self, tokens))
    }
}

impl Drop for TokenStream {
    fn drop(&mut self) {
        self.close();
    }
}

/// Blocking iterator over the items of a [`TokenStream`] that it owns.
#[derive(Debug)]
pub struct IntoTokens(TokenStream);

/// Blocking iterator over the items of a borrowed [`TokenStream`].
#[derive(Debug)]
pub struct Tokens<'a>(&'a TokenStream);

impl Iterator for IntoTokens {
    type Item = Result<Token, MullamaError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_blocking()
    }
}

impl Iterator for Tokens<'_> {
    type Item = Result<Token, MullamaError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_blocking()
    }
}

impl IntoIterator for TokenStream {
    type Item = Result<Token, MullamaError>;
    type IntoIter = IntoTokens;

    fn into_iter(self) -> IntoTokens {
        IntoTokens(self)
    }
}

impl<'a> IntoIterator for &'a TokenStream {
    type Item = Result<Token, MullamaError>;
    type IntoIter = Tokens<'a>;

    fn into_iter(self) -> Tokens<'a> {
        self.iter()
    }
}

#[cfg(feature = "streaming")]
impl futures_core::Stream for TokenStream {
    type Item = Result<Token, MullamaError>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let polled = self.refusal().map_or_else(|| self.channel.poll(cx), std::task::Poll::Ready);
        polled.map(|take| match take {
            Take::Item(token) => Some(Ok(token)),
            Take::Over(error) => error.map(Err),
            Take::Empty => None,
        })
    }
}
