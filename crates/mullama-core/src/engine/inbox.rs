//! Where callers and readers leave word for the engine's thread.
//!
//! Every list is bounded without a limit of its own: there is at most one arrival, one prompt and one leave a stream, the
//! streams are counted by the admission, and who leaves unheard takes its letters along.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use super::arrivals::Arrival;
use crate::error::MullamaError;
use crate::request::ValidRequest;
use crate::stream::notifier::{NotifyHandle, pull_all};

/// Names a stream within its engine; never used twice.
pub(crate) type StreamId = u64;

/// What came in since the engine looked last.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    /// New streams, in the order of their calls.
    pub(crate) arrivals: Vec<Arrival>,
    /// Prompts that have become tokens, or why they could not.
    pub(crate) prepared: Vec<(StreamId, Result<ValidRequest, MullamaError>)>,
    /// Streams whose reader cancelled or left.
    pub(crate) left: Vec<StreamId>,
}

#[derive(Debug, Default)]
struct Inner {
    messages: Messages,
    /// No more letters are taken: the engine is to end, or has ended.
    closed: bool,
    /// The engine waits on `wake`.
    asleep: bool,
    /// Streams with rows in the running step whose readers are still there.
    live: Vec<StreamId>,
    /// A step runs.
    stepping: bool,
}

/// The engine's inbox.
#[derive(Debug)]
pub(crate) struct Inbox {
    inner: Mutex<Inner>,
    wake: Condvar,
    /// Tasks and event loops with news from the running step; woken at its end, on the engine's thread.
    readers: Mutex<(Vec<Waker>, Vec<NotifyHandle>)>,
    /// Whether there is anything new, a letter or room for a paused stream; lets a step begin without the lock.
    fresh: AtomicBool,
    /// Tells llama.cpp to stop the running step. Set when nobody is left to read its rows, and to end the engine.
    abort: Arc<AtomicBool>,
    next_id: AtomicU64,
}

impl Inbox {
    /// A mailbox that stops a running step through `abort`.
    pub(crate) fn new(abort: Arc<AtomicBool>) -> Self {
        Self {
            inner: Mutex::default(),
            wake: Condvar::new(),
            readers: Mutex::default(),
            fresh: AtomicBool::new(false),
            abort,
            next_id: AtomicU64::new(0),
        }
    }

    pub(crate) fn next_id(&self) -> StreamId {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, write: impl FnOnce(&mut Inner)) {
        self.post_into(self.lock(), write);
    }

    fn post_into(&self, mut inner: MutexGuard<'_, Inner>, write: impl FnOnce(&mut Inner)) {
        write(&mut inner);
        self.fresh.store(true, Ordering::Release);
        if std::mem::take(&mut inner.asleep) {
            drop(inner);
            self.wake.notify_one();
        }
    }

    /// A new stream. The letter comes back if the engine has ended.
    pub(crate) fn submit(&self, arrival: Arrival) -> Result<(), Box<Arrival>> {
        let inner = self.lock();
        if inner.closed {
            return Err(Box::new(arrival));
        }
        self.post_into(inner, |inner| inner.messages.arrivals.push(arrival));
        Ok(())
    }

    /// A prompt became tokens, or could not.
    pub(crate) fn prepared(&self, id: StreamId, prepared: Result<ValidRequest, MullamaError>) {
        self.post(|inner| inner.messages.prepared.push((id, prepared)));
    }

    /// The reader of a paused stream made room.
    pub(crate) fn touch(&self) {
        self.post(|_| {});
    }

    /// The reader of a stream left. Where it was the last one of the running step, the step stops.
    pub(crate) fn leave(&self, id: StreamId) {
        self.post(|inner| {
            let messages = &mut inner.messages;
            // Nobody needs to hear of a stream that came and went unheard.
            messages.prepared.retain(|(prepared, _)| *prepared != id);
            match messages.arrivals.iter().rposition(|arrival| arrival.channel.id() == id) {
                Some(unheard) => drop(messages.arrivals.remove(unheard)),
                None => messages.left.push(id),
            }
            inner.live.retain(|&live| live != id);
            if inner.stepping && inner.live.is_empty() {
                self.abort.store(true, Ordering::Release);
            }
        });
    }

    /// Ends the engine: no more letters, and a running step stops.
    pub(crate) fn close(&self) {
        self.post(|inner| {
            inner.closed = true;
            self.abort.store(true, Ordering::Release);
        });
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    // The engine's side.

    /// Takes all letters; `None` without new ones.
    pub(crate) fn collect(&self) -> Option<Messages> {
        if !self.fresh.swap(false, Ordering::AcqRel) {
            return None;
        }
        Some(std::mem::take(&mut self.lock().messages))
    }

    /// Keeps for the end of the step who is to be woken.
    pub(crate) fn wake_later(&self, waker: Option<Waker>, ropes: Vec<NotifyHandle>) {
        if waker.is_some() || !ropes.is_empty() {
            let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
            readers.0.extend(waker);
            readers.1.extend(ropes);
        }
    }

    /// Wakes the tasks for which there was news, and each event loop once.
    pub(crate) fn wake_readers(&self) {
        let (wakers, ropes) = std::mem::take(&mut *self.readers.lock().unwrap_or_else(PoisonError::into_inner));
        pull_all(&ropes);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Sleeps until a letter comes or `limit` has passed.
    pub(crate) fn sleep(&self, limit: Option<Duration>) {
        let mut inner = self.lock();
        if self.fresh.load(Ordering::Acquire) || inner.closed {
            return;
        }
        inner.asleep = true;
        let nothing_new = |inner: &mut Inner| inner.asleep;
        match limit {
            None => drop(self.wake.wait_while(inner, nothing_new)),
            Some(limit) => {
                let woken = self.wake.wait_timeout_while(inner, limit, nothing_new);
                woken.unwrap_or_else(PoisonError::into_inner).0.asleep = false;
            }
        }
    }

    /// A step begins with rows of these streams; `false` if nobody is left to read them.
    pub(crate) fn begin_step(&self, streams: impl Iterator<Item = StreamId>) -> bool {
        let mut inner = self.lock();
        inner.live.clear();
        let left = std::mem::take(&mut inner.messages.left);
        inner.live.extend(streams.filter(|id| !left.contains(id)));
        inner.messages.left = left;
        inner.stepping = !inner.live.is_empty() && !inner.closed;
        inner.stepping
    }

    /// The step is over.
    pub(crate) fn end_step(&self) {
        let mut inner = self.lock();
        inner.stepping = false;
        inner.live.clear();
        if !inner.closed {
            self.abort.store(false, Ordering::Release);
        }
    }
}
