//! The reader's half of a stream: one object for blocking and for asynchronous readers.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::task::coop;

use super::completion::Completion;
use super::handle::StreamHandle;
use super::shared::{End, Event};
use super::token::Token;
use super::usage::{FinishReason, Timings, Usage};
use crate::error::{MullamaError, StreamFailure};
use crate::sync::mpsc::Receiver;
use crate::sync::mpsc::error::TryRecvError;
use crate::sync::thread::{self, Thread};
use crate::sync::thread_local;

/// A stream of tokens, each available as soon as it exists.
///
/// Read it with [`next_blocking`](Self::next_blocking) or a `for` loop, or as a `futures` stream with the feature
/// `streaming`. It has one reader at a time; meanwhile [`handle`](Self::handle) cancels and observes it from elsewhere.
/// Dropping it stops the generation and frees its compute within one step.
#[derive(Debug)]
pub struct TokenStream {
    handle: StreamHandle,
    /// `None` once the stream is closed.
    receiver: Option<Receiver<Event>>,
    /// The error that the next read returns after the last token.
    error: Option<MullamaError>,
    /// No item follows except `error`.
    ended: bool,
    /// Keeps the engine alive while the stream uses it; `None` if a test steps the engine itself.
    engine: Option<Arc<dyn Any + Send + Sync>>,
}

/// The result of a wait with a limit.
#[derive(Debug)]
pub enum TryNext {
    /// The next item.
    Token(Token),
    /// The stream has ended.
    Ended,
    /// The stream ended with an error. It is returned once; after that the stream is [`Ended`](Self::Ended).
    Failed(MullamaError),
    /// Nothing arrived in time.
    Pending,
}

impl From<Poll<Option<Result<Token, MullamaError>>>> for TryNext {
    fn from(polled: Poll<Option<Result<Token, MullamaError>>>) -> Self {
        match polled {
            Poll::Ready(Some(Ok(token))) => Self::Token(token),
            Poll::Ready(Some(Err(error))) => Self::Failed(error),
            Poll::Ready(None) => Self::Ended,
            Poll::Pending => Self::Pending,
        }
    }
}

/// Wakes a thread that waits in a blocking read.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    static UNPARK_THIS_THREAD: Waker = Waker::from(Arc::new(Unpark(thread::current())));
}

impl TokenStream {
    pub(super) fn new(handle: StreamHandle, receiver: Receiver<Event>) -> Self {
        Self { handle, receiver: Some(receiver), error: None, ended: false, engine: None }
    }

    /// Keeps the engine alive for as long as the stream lives.
    pub(crate) fn keep_alive(mut self, engine: Arc<dyn Any + Send + Sync>) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Waits for the next item; `None` after the last one.
    ///
    /// # Errors
    /// The error that ended the stream. It is returned once, after everything that was produced.
    pub fn next_blocking(&mut self) -> Option<Result<Token, MullamaError>> {
        loop {
            if let Poll::Ready(item) = self.wait_until(None) {
                return item;
            }
        }
    }

    /// Waits at most `limit` for the next item. With a limit of zero it never waits.
    pub fn next_within(&mut self, limit: Duration) -> TryNext {
        if limit.is_zero() {
            return self.try_next().into();
        }
        // A limit beyond what the clock can represent means no limit.
        self.wait_until(Instant::now().checked_add(limit)).into()
    }

    /// Returns the next item, or arranges for the task of `cx` to be woken when there is one. Only the last waker is
    /// kept.
    ///
    /// # Errors
    /// As [`next_blocking`](Self::next_blocking).
    pub fn poll_token(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Token, MullamaError>>> {
        if let Some(item) = self.without_channel() {
            return Poll::Ready(item);
        }
        let Some(receiver) = &mut self.receiver else { return Poll::Ready(None) };
        receiver.poll_recv(cx).map(|event| self.take(event))
    }

    fn try_next(&mut self) -> Poll<Option<Result<Token, MullamaError>>> {
        if let Some(item) = self.without_channel() {
            return Poll::Ready(item);
        }
        match self.receiver.as_mut().map(Receiver::try_recv) {
            None => Poll::Ready(None),
            Some(Ok(event)) => Poll::Ready(self.take(Some(event))),
            Some(Err(TryRecvError::Disconnected)) => Poll::Ready(self.take(None)),
            Some(Err(TryRecvError::Empty)) => Poll::Pending,
        }
    }

    fn wait_until(&mut self, deadline: Option<Instant>) -> Poll<Option<Result<Token, MullamaError>>> {
        let item = self.try_next();
        if item.is_ready() {
            return item;
        }
        // While a thread ends, a destructor may still read a stream after the thread's own waker was destroyed.
        let waker = UNPARK_THIS_THREAD.try_with(Waker::clone);
        let waker = waker.unwrap_or_else(|_| Waker::from(Arc::new(Unpark(thread::current()))));
        let mut cx = Context::from_waker(&waker);
        loop {
            // A task of tokio has a budget of polls, after which a poll returns `Pending` and wakes the task only when
            // it yields. A blocking read never yields, so it must not draw on that budget.
            let polled = pin!(coop::unconstrained(poll_fn(|cx| self.poll_token(cx)))).poll(&mut cx);
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match (polled, left) {
                (Poll::Pending, None) => thread::park(),
                (Poll::Pending, Some(left)) if !left.is_zero() => thread::park_timeout(left),
                (polled, _) => return polled,
            }
        }
    }

    /// The result that is known without polling the channel; the outer `None` means that the channel must be polled.
    #[expect(clippy::option_option, reason = "the inner one is what an iterator returns")]
    fn without_channel(&mut self) -> Option<Option<Result<Token, MullamaError>>> {
        match self.handle.shared() {
            // In a forked child the channel's locks may be held forever.
            None if !self.ended => {
                self.ended = true;
                self.error = self.handle.check_process().err();
            }
            Some(shared) if shared.is_closed() => (self.ended, self.error) = (true, None),
            _ => {}
        }
        if let Some(error) = self.error.take() {
            return Some(Some(Err(error)));
        }
        self.ended.then_some(None)
    }

    /// Converts an event to the reader's item; `None` means that the channel has no sender.
    fn take(&mut self, event: Option<Event>) -> Option<Result<Token, MullamaError>> {
        let last = match event {
            Some(Event::Token(token)) => Some(token),
            Some(Event::End { end, last }) => {
                self.ended = true;
                if let End::Failed(error) = end {
                    self.error = Some(error);
                }
                last
            }
            None => {
                self.ended = true;
                self.error = Some(MullamaError::StreamingError(StreamFailure::EngineEnded));
                None
            }
        };
        let Some(token) = last else { return self.error.take().map(Err) };
        let counted = self.handle.shared().and_then(|shared| shared.count_taken(token));
        if counted.is_none() {
            // The stream was closed from elsewhere during this read.
            (self.ended, self.error) = (true, None);
        }
        counted.map(Ok)
    }

    /// Iterates over the items without consuming the stream; blocks as [`next_blocking`](Self::next_blocking) does.
    pub fn iter_mut(&mut self) -> Tokens<'_> {
        Tokens(self)
    }

    /// Creates a handle that cancels and observes the stream while it is read.
    pub fn handle(&self) -> StreamHandle {
        self.handle.clone()
    }

    /// Stops the generation. Tokens that were produced can still be read; then the stream ends as
    /// [`Cancelled`](FinishReason::Cancelled).
    pub fn cancel(&self) {
        self.handle.cancel();
    }

    /// Stops the generation and discards unread tokens. Dropping the stream does the same.
    pub fn close(&mut self) {
        self.handle.close();
        let receiver = self.receiver.take();
        self.ended = true;
        self.error = None;
        if self.handle.check_process().is_err() {
            // Dropping the receiver takes a lock that may be held forever in a forked child.
            std::mem::forget(receiver);
        }
    }

    /// Number of items returned so far.
    pub fn tokens_generated(&self) -> usize {
        self.handle.tokens_generated()
    }

    /// As [`StreamHandle::tokens_per_second`].
    pub fn tokens_per_second(&self) -> f64 {
        self.handle.tokens_per_second()
    }

    /// As [`StreamHandle::finish_reason`].
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.handle.finish_reason()
    }

    /// The stop sequence that ended the stream, if one did.
    pub fn stop_sequence(&self) -> Option<String> {
        self.handle.stop_sequence()
    }

    /// Token counts of prompt and completion so far.
    pub fn usage(&self) -> Usage {
        self.handle.usage()
    }

    /// Durations of the stream's phases so far.
    pub fn timings(&self) -> Timings {
        self.handle.timings()
    }

    /// The seed in use, chosen by the caller or by the engine.
    pub fn seed(&self) -> u32 {
        self.handle.seed()
    }

    /// All text returned so far.
    pub fn text(&self) -> String {
        self.handle.text()
    }

    /// As [`StreamHandle::buffered`].
    pub fn buffered(&self) -> usize {
        self.handle.buffered()
    }

    /// Reads to the end and returns the whole answer.
    ///
    /// # Errors
    /// The error that ended the stream, if there was one.
    pub fn into_completion(mut self) -> Result<Completion, MullamaError> {
        let tokens = self.iter_mut().collect::<Result<Vec<Token>, _>>()?;
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
pub struct Tokens<'a>(&'a mut TokenStream);

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

impl<'a> IntoIterator for &'a mut TokenStream {
    type Item = Result<Token, MullamaError>;
    type IntoIter = Tokens<'a>;

    fn into_iter(self) -> Tokens<'a> {
        self.iter_mut()
    }
}

#[cfg(feature = "streaming")]
impl futures_core::Stream for TokenStream {
    type Item = Result<Token, MullamaError>;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // The wrapper is not stored: a waker that owns this stream would then keep it alive forever.
        let deferred = super::wakeups::deferred(cx.waker());
        self.poll_token(&mut Context::from_waker(&deferred))
    }
}
