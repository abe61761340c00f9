//! The engine's half of a stream: reserves capacity before a token is computed, sends the token, and ends the stream.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use super::shared::{End, EngineInbox, Event, Progress, Shared, StreamId};
use super::token::Token;
use super::wakeups;
use crate::error::{MullamaError, StreamFailure};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::mpsc::error::{SendError, TrySendError};
use crate::sync::mpsc::{OwnedPermit, Sender};

/// The state that the engine finds before it computes a token for a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Capacity is reserved for one token, and stays reserved until it is sent.
    Ready,
    /// The buffer is full. The next read posts to the engine's inbox.
    Full,
    /// The reader cancelled or left.
    Gone,
}

/// Sends the tokens of one stream. If it is dropped without an end, the reader gets an error.
#[derive(Debug)]
pub(crate) struct TokenSender {
    shared: Arc<Shared>,
    capacity: Capacity,
    freed: Arc<CapacityFreed>,
}

type PendingReservation = Pin<Box<dyn Future<Output = Result<OwnedPermit<Event>, SendError<()>>> + Send>>;

enum Capacity {
    /// Nothing is reserved.
    Open(Sender<Event>),
    Reserved(OwnedPermit<Event>),
    /// The buffer was full; the reservation wakes `CapacityFreed` when a read frees capacity.
    Pending(PendingReservation),
    /// The receiver is gone.
    Closed,
}

impl fmt::Debug for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open(_) => "Open",
            Self::Reserved(_) => "Reserved",
            Self::Pending(_) => "Pending",
            Self::Closed => "Closed",
        })
    }
}

/// Woken on the reader's thread when a pending reservation can proceed.
#[derive(Debug)]
struct CapacityFreed {
    engine: Arc<dyn EngineInbox>,
    /// Lets the engine poll the reservation only when that can succeed.
    woken: AtomicBool,
}

impl Wake for CapacityFreed {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.engine.capacity_freed();
    }
}

impl TokenSender {
    pub(super) fn new(shared: Arc<Shared>, sender: Sender<Event>) -> Self {
        let freed = CapacityFreed { engine: Arc::clone(shared.engine()), woken: AtomicBool::new(false) };
        Self { shared, capacity: Capacity::Open(sender), freed: Arc::new(freed) }
    }

    pub(crate) fn id(&self) -> StreamId {
        self.shared.id
    }

    /// Reserves capacity for one token if there is any.
    pub(crate) fn readiness(&mut self) -> Readiness {
        if self.shared.is_leaving() {
            return Readiness::Gone;
        }
        self.capacity = match mem::replace(&mut self.capacity, Capacity::Closed) {
            Capacity::Open(sender) => self.reserve(sender),
            Capacity::Pending(reservation) if self.freed.woken.swap(false, Ordering::AcqRel) => self.poll(reservation),
            unchanged => unchanged,
        };
        match self.capacity {
            Capacity::Reserved(_) => Readiness::Ready,
            Capacity::Open(_) | Capacity::Pending(_) => Readiness::Full,
            Capacity::Closed => Readiness::Gone,
        }
    }

    fn reserve(&self, sender: Sender<Event>) -> Capacity {
        match sender.try_reserve_owned() {
            Ok(permit) => Capacity::Reserved(permit),
            Err(TrySendError::Full(sender)) => self.poll(Box::pin(sender.reserve_owned())),
            Err(TrySendError::Closed(_)) => Capacity::Closed,
        }
    }

    fn poll(&self, mut reservation: PendingReservation) -> Capacity {
        let waker = Waker::from(Arc::clone(&self.freed));
        match reservation.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(Ok(permit)) => Capacity::Reserved(permit),
            Poll::Ready(Err(_)) => Capacity::Closed,
            Poll::Pending => Capacity::Pending(reservation),
        }
    }

    /// Marks the stream as admitted: the engine has taken it out of its queue and is responsible for ending it.
    pub(crate) fn admit(&self) {
        self.shared.admit();
    }

    /// Tells callers whether the stream is paused, so that it does not count as one that waits for the engine.
    pub(crate) fn set_paused(&self, is_paused: bool) {
        self.shared.set_paused(is_paused);
    }

    /// Reports usage and timings that are known before the first token.
    pub(crate) fn report(&self, progress: &Progress) {
        self.shared.report(progress);
    }

    /// Sends a token into the capacity that [`readiness`](Self::readiness) reserved.
    pub(crate) fn send(&mut self, token: Token, progress: &Progress) {
        let Capacity::Reserved(permit) = mem::replace(&mut self.capacity, Capacity::Closed) else {
            unreachable!("capacity is reserved before a token is computed");
        };
        if !self.shared.count_sent(progress) {
            self.capacity = Capacity::Open(permit.release());
            return;
        }
        match wakeups::isolated(|| permit.send(Event::Token(token))) {
            Some(sender) => self.capacity = Capacity::Open(sender),
            // The reader cannot be woken any more, because the sender was lost in the panic.
            None => self.shared.cancel(),
        }
    }

    /// Ends the stream. `last` is the token that ended it, or text that was held back.
    pub(crate) fn finish(&mut self, end: End, last: Option<Token>, progress: &Progress) {
        self.shared.end(end, last, Some(progress));
    }
}

impl Drop for TokenSender {
    fn drop(&mut self) {
        let end = End::Failed(MullamaError::StreamingError(StreamFailure::EngineEnded));
        self.shared.end(end, None, None);
    }
}
