//! Delivers wake-ups at the end of the engine's step, so that one wake-up serves all streams of a task or event loop.
//!
//! A channel wakes its receiver in the middle of the step that sends to it. A waker wrapped by [`deferred`] is held
//! back until [`batch`] ends if it is woken on the thread that runs the batch; on any other thread it is passed on at
//! once.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Wake, Waker};

use super::notifier::{NotifyHandle, notify_all};
use crate::sync::thread_local;

/// The wake-ups held back by the running batch.
#[derive(Debug, Default)]
struct Pending {
    tasks: Vec<Waker>,
    loops: Vec<NotifyHandle>,
}

thread_local! {
    /// `Some` while this thread runs a batch.
    static PENDING: RefCell<Option<Pending>> = const { RefCell::new(None) };
}

/// Runs `step` and then delivers the wake-ups that it caused on this thread, even if it panics. A nested batch is part
/// of the outer one.
pub(crate) fn batch<T>(step: impl FnOnce() -> T) -> T {
    let _deliver = DeliverOnDrop::begin();
    step()
}

/// Runs code that may call a reader's waker. `None` if the waker panics, which must not end the engine that other
/// readers depend on.
pub(super) fn isolated<T>(wakes: impl FnOnce() -> T) -> Option<T> {
    let done = catch_unwind(AssertUnwindSafe(wakes));
    if done.is_err() {
        tracing::error!(target: "mullama", "the waker of a stream's reader panicked");
    }
    done.ok()
}

struct DeliverOnDrop {
    outermost: bool,
}

impl DeliverOnDrop {
    fn begin() -> Self {
        let outermost = PENDING.with(|pending| {
            let mut pending = pending.borrow_mut();
            let outermost = pending.is_none();
            pending.get_or_insert_default();
            outermost
        });
        Self { outermost }
    }
}

impl Drop for DeliverOnDrop {
    fn drop(&mut self) {
        if !self.outermost {
            return;
        }
        // They are taken first, because a waker may cause further wake-ups, which are then delivered at once.
        let Some(pending) = PENDING.with(RefCell::take) else { return };
        notify_all(&pending.loops);
        for task in pending.tasks {
            isolated(|| task.wake());
        }
    }
}

/// Holds a wake-up back until the batch ends; returns it if no batch runs on this thread.
fn defer<T>(wakeup: T, list: impl FnOnce(&mut Pending) -> &mut Vec<T>) -> Option<T> {
    // The thread-local is already destroyed while the thread ends; the wake-up is then delivered at once.
    let mut wakeup = Some(wakeup);
    let _ = PENDING.try_with(|pending| {
        if let Some(pending) = pending.borrow_mut().as_mut() {
            list(pending).extend(wakeup.take());
        }
    });
    wakeup
}

/// A waker that wakes `waker` at the end of the batch, if one runs.
#[cfg(feature = "streaming")]
pub(crate) fn deferred(waker: &Waker) -> Waker {
    Waker::from(Arc::new(Deferred(waker.clone())))
}

#[cfg(feature = "streaming")]
struct Deferred(Waker);

#[cfg(feature = "streaming")]
impl Wake for Deferred {
    fn wake(self: Arc<Self>) {
        if let Some(waker) = defer(self.0.clone(), |pending| &mut pending.tasks) {
            waker.wake();
        }
    }
}

impl Wake for NotifyHandle {
    fn wake(self: Arc<Self>) {
        if let Some(handle) = defer(NotifyHandle::clone(&self), |pending| &mut pending.loops) {
            handle.notify();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::LoopNotifier;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[cfg(feature = "streaming")]
    #[test]
    fn a_task_is_woken_when_the_batch_ends_and_at_once_outside_of_one() {
        let count = Arc::new(Count::default());
        let waker = deferred(&Waker::from(Arc::clone(&count)));
        batch(|| {
            waker.wake_by_ref();
            assert_eq!(count.0.load(Ordering::Relaxed), 0);
        });
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        waker.wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }

    #[cfg(feature = "streaming")]
    #[test]
    fn wake_ups_of_a_nested_batch_are_delivered_when_the_outer_batch_ends() {
        let counts = [Arc::new(Count::default()), Arc::new(Count::default())];
        let wakers = counts.each_ref().map(|count| deferred(&Waker::from(Arc::clone(count))));
        let woken = || counts.each_ref().map(|count| count.0.load(Ordering::Relaxed));
        batch(|| {
            wakers[0].wake_by_ref();
            batch(|| wakers[1].wake_by_ref());
            assert_eq!(woken(), [0, 0]);
        });
        assert_eq!(woken(), [1, 1]);
    }

    #[cfg(feature = "streaming")]
    #[test]
    fn a_waker_that_panics_does_not_prevent_other_wake_ups() {
        struct Panics;
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("a waker of a test");
            }
        }
        let count = Arc::new(Count::default());
        let (panics, counts) = (deferred(&Waker::from(Arc::new(Panics))), deferred(&Waker::from(Arc::clone(&count))));
        batch(|| {
            panics.wake();
            counts.wake();
        });
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn an_event_loop_is_notified_of_all_streams_of_a_batch_together() {
        let notifier = Arc::new(LoopNotifier::new().unwrap());
        batch(|| {
            for key in 0..3 {
                Waker::from(Arc::new(notifier.handle(key))).wake();
            }
            assert!(notifier.drain().is_empty());
        });
        assert_eq!(notifier.drain(), [0, 1, 2]);
    }

    #[test]
    fn wake_ups_are_delivered_even_if_the_step_panics() {
        let notifier = Arc::new(LoopNotifier::new().unwrap());
        let handle = notifier.handle(7);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            batch(|| {
                Waker::from(Arc::new(handle)).wake();
                panic!("in the middle of a step");
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(notifier.drain(), [7]);
    }
}
