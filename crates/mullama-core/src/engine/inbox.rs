//! The queue of messages from callers and readers to the engine's thread.
//!
//! Every list is bounded without a limit of its own: a stream posts at most one message of each kind (and one more if it
//! is displaced), the admission limits the number of streams, and a stream that ends before the engine has seen it
//! removes its messages.

use std::sync::atomic::AtomicBool as AbortFlag;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::arrivals::Arrival;
use crate::error::MullamaError;
use crate::request::ValidRequest;
use crate::stream::{EngineInbox, StreamId};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard};

/// The messages that arrived since the engine last collected them.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    /// New streams, in the order of their calls.
    pub(crate) arrivals: Vec<Arrival>,
    /// Prompts that were tokenized, or the error that ends the stream.
    pub(crate) prepared: Vec<(StreamId, Result<ValidRequest, MullamaError>)>,
    /// Streams whose reader cancelled or left.
    pub(crate) left: Vec<StreamId>,
}

#[derive(Debug, Default)]
struct Inner {
    messages: Messages,
    /// No more messages are accepted: the engine is about to end, or has ended.
    closed: bool,
    /// The engine is waiting on `wake`.
    asleep: bool,
    /// Streams with rows in the running step whose readers have not left.
    live: Vec<StreamId>,
    /// A step is running.
    stepping: bool,
}

/// The engine's inbox.
#[derive(Debug)]
pub(crate) struct Inbox {
    inner: Mutex<Inner>,
    wake: Condvar,
    /// Whether there is a new message, or new capacity for a paused stream; lets a step begin without taking the lock.
    fresh: AtomicBool,
    /// Makes llama.cpp stop the running step. It is set when no stream needs the step's rows any more, and to end the
    /// engine.
    abort: Arc<AbortFlag>,
    next_id: AtomicU64,
}

impl Inbox {
    /// Creates an inbox that stops a running step through `abort`.
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

    /// Posts a new stream. It is returned if the engine has ended.
    pub(crate) fn submit(&self, arrival: Arrival) -> Result<(), Box<Arrival>> {
        let inner = self.lock();
        if inner.closed {
            return Err(Box::new(arrival));
        }
        self.post_into(inner, |inner| inner.messages.arrivals.push(arrival));
        Ok(())
    }

    /// Posts a tokenized prompt, or the error that ends the stream.
    pub(crate) fn prepared(&self, id: StreamId, prepared: Result<ValidRequest, MullamaError>) {
        let inner = self.lock();
        // An engine that has ended collects nothing, so nothing is kept for it.
        if !inner.closed {
            self.post_into(inner, |inner| inner.messages.prepared.push((id, prepared)));
        }
    }

    /// Ends the engine: the inbox accepts no more messages, and a running step stops.
    pub(crate) fn close(&self) {
        self.post(|inner| {
            inner.closed = true;
            self.abort.store(true, Ordering::Release);
        });
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    // The methods below are for the engine's thread.

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

    /// Begins a step with rows of these streams; `false` if all their readers have left.
    pub(crate) fn begin_step(&self, streams: impl Iterator<Item = StreamId>) -> bool {
        let mut inner = self.lock();
        inner.live.clear();
        let left = std::mem::take(&mut inner.messages.left);
        inner.live.extend(streams.filter(|id| !left.contains(id)));
        inner.messages.left = left;
        inner.stepping = !inner.live.is_empty() && !inner.closed;
        inner.stepping
    }

    /// Ends the step.
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

    /// Stops the running step if this stream was the last one in it with a reader.
    fn leave(&self, id: StreamId) {
        let mut unseen = None;
        self.post(|inner| {
            let messages = &mut inner.messages;
            // The engine does not need to know about a stream that was opened and ended between two looks at the inbox.
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
        // The sender's drop locks the stream's state. No other code takes that lock while it holds the inbox's lock.
        drop(unseen);
    }

    fn displace(&self, id: StreamId, error: MullamaError) {
        self.prepared(id, Err(error));
    }
}
