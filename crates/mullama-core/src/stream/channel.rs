//! The bounded place between one sequence of the engine and one reader.
//!
//! Room is looked for before a token is computed, so that sending never waits. The reader's side never takes a lock of
//! the engine's step: leaving, cancelling or making room leaves a note in the [`Inbox`].

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::Waker;
#[cfg(feature = "streaming")]
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::engine::inbox::{Inbox, StreamId};
use crate::error::MullamaError;
use crate::stream::notifier::NotifyHandle;
use crate::stream::token::Token;
use crate::stream::usage::{FinishReason, Timings, Usage};

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

/// What the engine tells beside the tokens.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    pub(crate) usage: Usage,
    pub(crate) timings: Timings,
    pub(crate) stop_sequence: Option<String>,
}

/// What the engine finds when it wants to compute a token for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// There is room; it stays until the engine fills it.
    Ready,
    /// The buffer is full. The next read leaves a note in the mailbox.
    Full,
    /// The reader cancelled or left.
    Gone,
}

/// What a reader finds without waiting.
#[derive(Debug)]
pub(crate) enum Take {
    Item(Token),
    /// The stream is over; an error is given to the first who sees the end.
    Over(Option<MullamaError>),
    Empty,
}

/// Counts the unfinished streams of an engine against their limit.
#[derive(Debug)]
pub(crate) struct Admission {
    unfinished: AtomicUsize,
    limit: usize,
}

impl Admission {
    pub(crate) fn new(limit: usize) -> Self {
        Self { unfinished: AtomicUsize::new(0), limit }
    }

    pub(crate) fn unfinished(&self) -> usize {
        self.unfinished.load(Ordering::Acquire)
    }

    /// Takes a place, or tells how many are taken.
    fn enter(&self) -> Result<(), MullamaError> {
        let one_more = |n| (n < self.limit).then_some(n + 1);
        let entered = self.unfinished.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
        entered.map(drop).map_err(|unfinished| MullamaError::Overloaded { unfinished, limit: self.limit })
    }

    fn leave(&self) {
        self.unfinished.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The shared state of one stream.
#[derive(Debug)]
pub(crate) struct Channel {
    id: StreamId,
    capacity: usize,
    seed: u32,
    inbox: Arc<Inbox>,
    admission: Arc<Admission>,
    state: Mutex<State>,
    /// A blocking reader sleeps here; `State::sleepers` says whether waking is worth a system call.
    readable: Condvar,
}

/// Whether the engine may hold a place or cells for a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Queued,
    Admitted,
}

/// Everything that reader and engine share; the lock is held for pushes and takes only, never over a wait or a decode.
#[derive(Debug, Default)]
struct State {
    items: VecDeque<Token>,
    /// Set once, by whoever ends the stream first. Gives the place in the admission back.
    end: Option<End>,
    /// The error of `end` was handed out.
    told: bool,
    phase: Phase,
    /// The reader cancelled or left; the engine ends the stream within a step.
    gone: bool,
    /// The engine passed this stream over because its buffer was full.
    paused: bool,
    sleepers: usize,
    /// The task that waits for news.
    waker: Option<Waker>,
    /// Event loops whose tasks wait for news, each once.
    ropes: Vec<NotifyHandle>,
    progress: Progress,
    taken: usize,
    text: String,
}

impl Channel {
    /// A new stream of an engine, counted against the engine's limit until it ends.
    ///
    /// # Errors
    /// [`MullamaError::Overloaded`] if the limit is reached.
    pub(crate) fn open(
        inbox: &Arc<Inbox>,
        admission: &Arc<Admission>,
        buffer_size: u32,
        seed: u32,
    ) -> Result<Arc<Self>, MullamaError> {
        admission.enter()?;
        Ok(Arc::new(Self {
            id: inbox.next_id(),
            capacity: buffer_size as usize,
            seed,
            inbox: Arc::clone(inbox),
            admission: Arc::clone(admission),
            state: Mutex::default(),
            readable: Condvar::new(),
        }))
    }

    pub(crate) fn id(&self) -> StreamId {
        self.id
    }

    pub(crate) fn seed(&self) -> u32 {
        self.seed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    // The engine's side.

    /// Whether a token may be computed now.
    pub(crate) fn readiness(&self) -> Readiness {
        let mut state = self.lock();
        if state.gone {
            return Readiness::Gone;
        }
        state.paused = state.items.len() >= self.capacity;
        if state.paused { Readiness::Full } else { Readiness::Ready }
    }

    /// Whether the reader cancelled or left.
    pub(crate) fn is_gone(&self) -> bool {
        self.lock().gone
    }

    /// The engine took the stream out of the queue: from here on it ends the stream itself.
    pub(crate) fn admit(&self) {
        self.lock().phase = Phase::Admitted;
    }

    /// Tells what is known before the first token.
    pub(crate) fn report(&self, progress: &Progress) {
        self.lock().progress.clone_from(progress);
    }

    /// Hands a token over into the room that [`readiness`](Self::readiness) found.
    pub(crate) fn send(&self, token: Token, progress: &Progress) {
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        state.progress.clone_from(progress);
        debug_assert!(state.items.len() < self.capacity, "room first");
        state.items.push_back(token);
        self.announce(state);
    }

    /// Ends the stream. `remainder` is text that was held back; its room was kept from the start.
    pub(crate) fn finish(&self, end: End, remainder: Option<Token>, progress: &Progress) {
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        state.progress.clone_from(progress);
        state.items.extend(remainder);
        self.set_end(&mut state, end);
        self.announce(state);
    }

    fn set_end(&self, state: &mut State, end: End) {
        state.end = Some(end);
        self.admission.leave();
    }

    /// Wakes blocking readers now, and tasks when the engine's step is over: then one wake-up serves all streams of a task
    /// or of an event loop.
    fn announce(&self, mut state: MutexGuard<'_, State>) {
        let (waker, ropes) = (state.waker.take(), std::mem::take(&mut state.ropes));
        let sleepers = state.sleepers;
        drop(state);
        if sleepers > 0 {
            self.readable.notify_all();
        }
        self.inbox.wake_later(waker, ropes);
    }

    /// Wakes everybody at once.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let (waker, ropes) = (state.waker.take(), std::mem::take(&mut state.ropes));
        drop(state);
        self.readable.notify_all();
        waker.into_iter().for_each(Waker::wake);
        ropes.iter().for_each(NotifyHandle::pull);
    }

    // The reader's side.

    /// Takes the next item if there is one.
    pub(crate) fn take(&self) -> Take {
        self.take_locked(&mut self.lock())
    }

    fn take_locked(&self, state: &mut State) -> Take {
        let Some(token) = state.items.pop_front() else {
            return match &state.end {
                None => Take::Empty,
                Some(End::Failed(error)) if !state.told => {
                    let error = error.clone();
                    state.told = true;
                    Take::Over(Some(error))
                }
                Some(_) => Take::Over(None),
            };
        };
        state.taken += 1;
        state.text.push_str(&token.text);
        if std::mem::take(&mut state.paused) {
            self.inbox.touch();
        }
        Take::Item(token)
    }

    /// Waits for the next item, at most `limit`; `Empty` if none came in that time.
    pub(crate) fn take_within(&self, limit: Option<Duration>) -> Take {
        let until = limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut state = self.lock();
        loop {
            match self.take_locked(&mut state) {
                Take::Empty => {}
                found => return found,
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Take::Empty;
            }
            state.sleepers += 1;
            state = match left {
                None => self.readable.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner),
                Some(left) => {
                    let next = self.readable.wait_timeout(state, left);
                    next.unwrap_or_else(std::sync::PoisonError::into_inner).0
                }
            };
            state.sleepers -= 1;
        }
    }

    /// Takes the next item, or has the one task that reads woken when there is one.
    #[cfg(feature = "streaming")]
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Take> {
        let mut state = self.lock();
        match self.take_locked(&mut state) {
            Take::Empty => {
                if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                    state.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            found => Poll::Ready(found),
        }
    }

    /// Has this rope pulled, too, when there is news; `true` if there is something to take already.
    pub(crate) fn watch(&self, rope: &NotifyHandle) -> bool {
        let mut state = self.lock();
        if !state.items.is_empty() || state.end.is_some() {
            return true;
        }
        if !state.ropes.iter().any(|known| known.is(rope)) {
            state.ropes.push(rope.clone());
        }
        false
    }

    /// Stops the generation; what was produced can still be read.
    pub(crate) fn cancel(&self) {
        let mut state = self.lock();
        if state.end.is_some() || std::mem::replace(&mut state.gone, true) {
            return;
        }
        if state.phase == Phase::Queued {
            // A queued stream is free at once, whatever the engine is doing.
            self.set_end(&mut state, End::Finished(FinishReason::Cancelled));
        }
        self.wake(state);
        self.inbox.leave(self.id);
    }

    /// The reader leaves: the generation stops, and what was produced is thrown away.
    pub(crate) fn close(&self) {
        self.cancel();
        let mut state = self.lock();
        state.items = VecDeque::new();
        if state.end.is_none() {
            self.set_end(&mut state, End::Finished(FinishReason::Cancelled));
        }
        state.told = true;
        self.wake(state);
    }

    pub(crate) fn finish_reason(&self) -> Option<FinishReason> {
        let state = self.lock();
        // The reader learns of the end when it gets there.
        state.items.is_empty().then(|| state.end.as_ref().map(End::reason)).flatten()
    }

    pub(crate) fn with_progress<T>(&self, read: impl FnOnce(&Progress) -> T) -> T {
        read(&self.lock().progress)
    }

    pub(crate) fn taken(&self) -> usize {
        self.lock().taken
    }

    pub(crate) fn text(&self) -> String {
        self.lock().text.clone()
    }

    /// Items computed and not yet taken.
    pub(crate) fn buffered(&self) -> usize {
        self.lock().items.len()
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.end.is_none() {
            self.admission.leave();
        }
    }
}
