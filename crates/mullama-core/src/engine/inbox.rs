//! The queue of messages from callers and readers to the engine's thread.
//!
//! Every list is bounded without a limit of its own: a stream causes at most one message of each kind, the admission bounds
//! the streams, and a stream that ends before the engine has seen it takes its messages along.

use std::sync::atomic::AtomicBool as AbortFlag;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::arrivals::Arrival;
use crate::error::MullamaError;
use crate::request::ValidRequest;
use crate::stream::{EngineInbox, StreamId};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard};

/// What arrived since the engine last looked.
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
    /// No more messages are taken: the engine is to end, or has ended.
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
    /// Whether there is a new message, or capacity for a paused stream; lets a step begin without the lock.
    fresh: AtomicBool,
    /// Tells llama.cpp to stop the running step. Set when nobody is left to read its rows, and to end the engine.
    abort: Arc<AbortFlag>,
    next_id: AtomicU64,
}

impl Inbox {
    /// An inbox that stops a running step through `abort`.
    pub(crate) fn new(abort: Arc<AbortFlag>) -> Self {
        Self {
            inner: Mutex::default(),
            wake: Condvar::new(),
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

    /// A new stream. It comes back if the engine has ended.
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
        let inner = self.lock();
        // An engine that has ended takes no messages, so nothing is kept for it.
        if !inner.closed {
            self.post_into(inner, |inner| inner.messages.prepared.push((id, prepared)));
        }
    }

    /// Ends the engine: it takes no more messages, and a running step stops.
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

    /// Takes all messages; `None` if there are no new ones.
    pub(crate) fn collect(&self) -> Option<Messages> {
        if !self.fresh.swap(false, Ordering::AcqRel) {
            return None;
        }
        Some(std::mem::take(&mut self.lock().messages))
    }

    /// Sleeps until there is a message or `limit` has passed.
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

impl EngineInbox for Inbox {
    fn capacity_freed(&self) {
        self.post(|_| {});
    }

    /// Where the stream was the last one with a reader in the running step, the step stops.
    fn leave(&self, id: StreamId) {
        let mut unseen = None;
        self.post(|inner| {
            let messages = &mut inner.messages;
            // The engine need not be told of a stream that came and went since it last looked.
            messages.prepared.retain(|(prepared, _)| *prepared != id);
            match messages.arrivals.iter().rposition(|arrival| arrival.sender.id() == id) {
                Some(at) => unseen = Some(messages.arrivals.remove(at)),
                None => messages.left.push(id),
            }
            inner.live.retain(|&live| live != id);
            if inner.stepping && inner.live.is_empty() {
                self.abort.store(true, Ordering::Release);
            }
        });
        // Its sender locks the state of the stream, which nobody does while holding the lock of the inbox.
        drop(unseen);
    }
}
