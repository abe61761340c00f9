//! tokio's bounded channel in a form that shuttle can explore: the same interface, with a scheduling point wherever
//! tokio's threads can interact.
//!
//! `shuttle-tokio` has such a channel too, but it runs wakers while its own state is borrowed, and the wakers of a
//! paused sender and of a blocked reader are scheduling points themselves. tokio runs wakers after it has released its
//! lock, and so does this channel.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use shuttle::sync::{Mutex, MutexGuard};
pub(crate) use tokio::sync::mpsc::error;
use tokio::sync::mpsc::error::{SendError, TryRecvError, TrySendError};

/// Creates a channel with capacity for `capacity` items.
pub(crate) fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let queue = Queue { items: VecDeque::new(), senders: 1, waker: None };
    let permits = Permits { free: capacity, closed: false, waiting: VecDeque::new(), granted: Vec::new(), next: 0 };
    let channel = Arc::new(Channel { queue: Mutex::new(queue), permits: Mutex::new(permits) });
    (Sender(Arc::clone(&channel)), Receiver(channel))
}

#[derive(Debug)]
struct Channel<T> {
    queue: Mutex<Queue<T>>,
    permits: Mutex<Permits>,
}

#[derive(Debug)]
struct Queue<T> {
    items: VecDeque<T>,
    senders: usize,
    /// The waker of the receiver, which waits for an item or until the last sender is dropped.
    waker: Option<Waker>,
}

/// tokio's semaphore: a freed permit goes to the longest waiting reservation before its waker runs.
#[derive(Debug)]
struct Permits {
    free: usize,
    closed: bool,
    waiting: VecDeque<(u64, Waker)>,
    /// Reservations that have a permit and have not been polled since.
    granted: Vec<u64>,
    next: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Channel<T> {
    fn release(&self) {
        let mut permits = lock(&self.permits);
        let next = permits.waiting.pop_front();
        let Some((id, waker)) = next else {
            permits.free += 1;
            return;
        };
        permits.granted.push(id);
        drop(permits);
        waker.wake();
    }

    fn wake_receiver(&self) {
        let waker = lock(&self.queue).waker.take();
        waker.into_iter().for_each(Waker::wake);
    }
}

#[derive(Debug)]
pub(crate) struct Sender<T>(Arc<Channel<T>>);

impl<T> Sender<T> {
    pub(crate) fn try_reserve_owned(self) -> Result<OwnedPermit<T>, TrySendError<Self>> {
        let mut permits = lock(&self.0.permits);
        let (closed, free) = (permits.closed, permits.free > 0);
        permits.free -= usize::from(!closed && free);
        drop(permits);
        match (closed, free) {
            (true, _) => Err(TrySendError::Closed(self)),
            (false, true) => Ok(OwnedPermit(Some(self))),
            (false, false) => Err(TrySendError::Full(self)),
        }
    }

    /// The future of a permit.
    pub(crate) fn reserve_owned(self) -> Reservation<T> {
        Reservation { sender: Some(self), waits_as: None }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        lock(&self.0.queue).senders += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut queue = lock(&self.0.queue);
        queue.senders -= 1;
        let last = queue.senders == 0;
        drop(queue);
        if last {
            self.0.wake_receiver();
        }
    }
}

#[derive(Debug)]
pub(crate) struct Reservation<T> {
    sender: Option<Sender<T>>,
    waits_as: Option<u64>,
}

impl<T> Future for Reservation<T> {
    type Output = Result<OwnedPermit<T>, SendError<()>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let sender = self.sender.take().expect("polled before it is ready");
        let mut permits = lock(&sender.0.permits);
        let granted = permits.granted.iter().position(|&id| Some(id) == self.waits_as);
        if let Some(at) = granted {
            permits.granted.swap_remove(at);
            drop(permits);
            self.waits_as = None;
            return Poll::Ready(Ok(OwnedPermit(Some(sender))));
        }
        if permits.closed {
            drop(permits);
            return Poll::Ready(Err(SendError(())));
        }
        let waker = cx.waker().clone();
        if let Some(waiting) = permits.waiting.iter_mut().find(|(id, _)| Some(*id) == self.waits_as) {
            waiting.1 = waker;
        } else if permits.free > 0 {
            permits.free -= 1;
            drop(permits);
            return Poll::Ready(Ok(OwnedPermit(Some(sender))));
        } else {
            let id = permits.next;
            permits.next += 1;
            permits.waiting.push_back((id, waker));
            self.waits_as = Some(id);
        }
        drop(permits);
        self.sender = Some(sender);
        Poll::Pending
    }
}

impl<T> Drop for Reservation<T> {
    fn drop(&mut self) {
        let (Some(sender), Some(id)) = (&self.sender, self.waits_as) else { return };
        let mut permits = lock(&sender.0.permits);
        permits.waiting.retain(|(waiting, _)| *waiting != id);
        let granted = permits.granted.iter().position(|&granted| granted == id);
        granted.map(|at| permits.granted.swap_remove(at));
        drop(permits);
        if granted.is_some() {
            sender.0.release();
        }
    }
}

/// The sender is present until the permit is used.
#[derive(Debug)]
pub(crate) struct OwnedPermit<T>(Option<Sender<T>>);

impl<T> OwnedPermit<T> {
    pub(crate) fn send(mut self, item: T) -> Sender<T> {
        let sender = self.0.take().expect("a permit is used once");
        lock(&sender.0.queue).items.push_back(item);
        sender.0.wake_receiver();
        sender
    }

    pub(crate) fn release(mut self) -> Sender<T> {
        let sender = self.0.take().expect("a permit is used once");
        sender.0.release();
        sender
    }
}

impl<T> Drop for OwnedPermit<T> {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            sender.0.release();
        }
    }
}

#[derive(Debug)]
pub(crate) struct Receiver<T>(Arc<Channel<T>>);

impl<T> Receiver<T> {
    pub(crate) fn try_recv(&mut self) -> Result<T, TryRecvError> {
        let mut queue = lock(&self.0.queue);
        let (item, senders) = (queue.items.pop_front(), queue.senders);
        drop(queue);
        match item {
            Some(item) => {
                self.0.release();
                Ok(item)
            }
            None if senders == 0 => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }

    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        for registered in [false, true] {
            match self.try_recv() {
                Ok(item) => return Poll::Ready(Some(item)),
                Err(TryRecvError::Disconnected) => return Poll::Ready(None),
                Err(TryRecvError::Empty) if registered => return Poll::Pending,
                Err(TryRecvError::Empty) => {
                    let waker = cx.waker().clone();
                    let replaced = lock(&self.0.queue).waker.replace(waker);
                    drop(replaced);
                }
            }
        }
        Poll::Pending
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut permits = lock(&self.0.permits);
        permits.closed = true;
        let waiting = std::mem::take(&mut permits.waiting);
        drop(permits);
        for (_, waker) in waiting {
            waker.wake();
        }
        let unread = std::mem::take(&mut lock(&self.0.queue).items);
        drop(unread);
    }
}
