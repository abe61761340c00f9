//! Wakes an event loop that does not belong to Rust: streams with new items signal it, and the loop drains all their
//! keys at once.
//!
//! Flow: engine → stream → **notifier** → a foreign event loop. A loop that can watch a descriptor watches
//! [`descriptor`](LoopNotifier::descriptor); one that other threads can call is [called](LoopNotifier::calling); for any
//! other, a helper thread waits in [`wait`](LoopNotifier::wait).

use std::fmt;
use std::io;
#[cfg(unix)]
use std::os::fd::{AsRawFd, RawFd};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::{Arc, PoisonError};
use std::task::Waker;

use crate::fork_guard::ForkGuard;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// Signals one event loop that streams it waits for have new items: once for all streams of an engine step, and not
/// again until the loop has drained it.
///
/// In a forked child process a notifier does nothing, because its descriptor belongs to the parent's loop.
///
/// ```
/// use std::sync::Arc;
/// use mullama::LoopNotifier;
///
/// let notifier = Arc::new(LoopNotifier::new()?);
/// let (first, second) = (notifier.handle(1), notifier.handle(2));
/// first.notify();
/// second.notify();
/// first.notify();
/// assert_eq!(notifier.drain(), [1, 2]);
/// assert!(notifier.drain().is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct LoopNotifier {
    state: Mutex<State>,
    /// A helper thread that cannot watch a descriptor sleeps here.
    signalled: Condvar,
    /// The first notification writes a byte to one end; the loop watches the other.
    /// `None` once the notifier is closed: the loop owns the descriptors, and an engine may keep a handle for longer.
    #[cfg(unix)]
    pipe: Mutex<Option<(UnixStream, UnixStream)>>,
    /// What is called instead of writing to the pipe; `None` once the notifier is closed.
    call: Mutex<Option<Call>>,
    fork_guard: ForkGuard,
}

/// A function that signals the loop.
struct Call(Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Call")
    }
}

#[derive(Debug, Default)]
struct State {
    /// The keys notified since the last drain, each once.
    keys: Vec<u64>,
    closed: bool,
}

impl LoopNotifier {
    /// Creates a notifier with nothing pending.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        #[cfg(unix)]
        let pipe = {
            let (near, far) = UnixStream::pair()?;
            near.set_nonblocking(true)?;
            far.set_nonblocking(true)?;
            Mutex::new(Some((near, far)))
        };
        Ok(Self {
            state: Mutex::default(),
            signalled: Condvar::new(),
            #[cfg(unix)]
            pipe,
            call: Mutex::default(),
            fork_guard: ForkGuard::new(),
        })
    }

    /// Creates a notifier that calls `signal` where others write to a descriptor: for a loop that other threads can call.
    /// The thread of an engine calls it, so it must not block.
    pub fn calling(signal: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            state: Mutex::default(),
            signalled: Condvar::new(),
            #[cfg(unix)]
            pipe: Mutex::default(),
            call: Mutex::new(Some(Call(Box::new(signal)))),
            fork_guard: ForkGuard::new(),
        }
    }

    /// The descriptor, which is readable from the first notification until [`drain`](Self::drain); -1 once the notifier
    /// is closed, and in a forked child.
    #[cfg(unix)]
    pub fn descriptor(&self) -> RawFd {
        self.with_pipe(|(_, far)| far.as_raw_fd()).unwrap_or(-1)
    }

    /// Creates a handle that notifies under this key.
    pub fn handle(self: &Arc<Self>, key: u64) -> NotifyHandle {
        NotifyHandle { notifier: Arc::clone(self), key }
    }

    /// Takes the keys notified since the last drain, in the order of their notifications. The next notification signals
    /// again.
    pub fn drain(&self) -> Vec<u64> {
        if self.fork_guard.is_forked() {
            // The parent's loop would miss a byte that the child reads.
            return Vec::new();
        }
        // The pipe is emptied before the keys are taken. A notification in between writes one superfluous byte, which
        // costs a wake-up; in the reverse order its byte would be lost, and with it every later signal.
        #[cfg(unix)]
        {
            self.with_pipe(|(_, far)| io::Read::read(&mut &*far, &mut [0; 8]));
        }
        self.lock().map(|mut state| std::mem::take(&mut state.keys)).unwrap_or_default()
    }

    /// Blocks until there is something to drain; `false` once the notifier is closed.
    pub fn wait(&self) -> bool {
        let silent = |state: &mut State| state.keys.is_empty() && !state.closed;
        let Some(state) = self.lock() else { return false };
        !self.signalled.wait_while(state, silent).unwrap_or_else(PoisonError::into_inner).closed
    }

    /// Ends every [`wait`](Self::wait), current and future, and closes the descriptor. Later notifications are dropped.
    pub fn close(&self) {
        let Some(mut state) = self.lock() else { return };
        state.closed = true;
        drop(state);
        self.signalled.notify_all();
        #[cfg(unix)]
        drop(self.pipe.lock().unwrap_or_else(PoisonError::into_inner).take());
        drop(self.call.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// `None` once the notifier is closed, and in a forked child, where the lock may be held forever.
    #[cfg(unix)]
    fn with_pipe<T>(&self, act: impl FnOnce(&(UnixStream, UnixStream)) -> T) -> Option<T> {
        let usable = !self.fork_guard.is_forked();
        usable.then(|| self.pipe.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(act))?
    }

    /// Adds a key; returns whether it is the first since the last drain, so that the loop must be signalled.
    fn add(&self, key: u64) -> bool {
        let Some(mut state) = self.lock() else { return false };
        if state.closed || state.keys.contains(&key) {
            return false;
        }
        state.keys.push(key);
        state.keys.len() == 1
    }

    fn signal(&self) {
        self.signalled.notify_all();
        #[cfg(unix)]
        {
            // A full pipe is already readable, which is all that is needed.
            self.with_pipe(|(near, _)| io::Write::write(&mut &*near, &[1]));
        }
        if let Some(Call(signal)) = &*self.call.lock().unwrap_or_else(PoisonError::into_inner) {
            signal();
        }
    }

    /// `None` in a forked child, where the lock may be held forever.
    fn lock(&self) -> Option<MutexGuard<'_, State>> {
        (!self.fork_guard.is_forked()).then(|| self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Notifies a [`LoopNotifier`] under one key.
#[derive(Debug, Clone)]
pub struct NotifyHandle {
    notifier: Arc<LoopNotifier>,
    key: u64,
}

impl NotifyHandle {
    /// Adds the key to the notifier, and signals the loop if no signal is pending.
    pub fn notify(&self) {
        if self.notifier.add(self.key) {
            self.notifier.signal();
        }
    }

    /// A waker that notifies. If it is woken during an engine step, it notifies when the step ends.
    pub fn into_waker(self) -> Waker {
        Waker::from(Arc::new(self))
    }
}

/// Notifies many handles; each loop is signalled once, after all its keys were added.
pub(super) fn notify_all(handles: &[NotifyHandle]) {
    let first: Vec<&NotifyHandle> = handles.iter().filter(|handle| handle.notifier.add(handle.key)).collect();
    for handle in first {
        handle.notifier.signal();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[cfg(unix)]
    fn bytes_waiting(notifier: &LoopNotifier) -> usize {
        use std::io::Read;
        notifier.with_pipe(|(_, far)| (&mut &*far).read(&mut [0; 64]).unwrap_or(0)).unwrap_or(0)
    }

    #[cfg(unix)]
    #[test]
    fn many_notifications_before_a_drain_are_one_byte_in_the_pipe() {
        let notifier = Arc::new(LoopNotifier::new().unwrap());
        for key in 0..100 {
            notifier.handle(key).notify();
        }
        assert_eq!(bytes_waiting(&notifier), 1);
        assert_eq!(notifier.drain().len(), 100);
        notifier.handle(7).notify();
        assert_eq!((bytes_waiting(&notifier), notifier.drain()), (1, vec![7]));
        notifier.drain();
        assert_eq!(bytes_waiting(&notifier), 0);
    }

    #[test]
    fn no_notification_is_lost_between_two_drains() {
        let notifier = Arc::new(LoopNotifier::new().unwrap());
        let sender = Arc::clone(&notifier);
        let sending = thread::spawn(move || {
            for key in 0..10_000 {
                sender.handle(key).notify();
            }
            sender.close();
        });
        let mut drained = Vec::new();
        while notifier.wait() {
            drained.extend(notifier.drain());
        }
        sending.join().unwrap();
        drained.extend(notifier.drain());
        assert_eq!(drained, (0..10_000).collect::<Vec<_>>());
    }

    #[cfg(unix)]
    #[test]
    fn no_notification_of_two_threads_is_lost_on_a_loop_that_watches_only_the_descriptor() {
        use std::time::{Duration, Instant};
        let notifier = Arc::new(LoopNotifier::new().unwrap());
        let senders: Vec<_> = (0..2_u64)
            .map(|sender| {
                let notifier = Arc::clone(&notifier);
                thread::spawn(move || (0..20_000).for_each(|key| notifier.handle(2 * key + sender).notify()))
            })
            .collect();
        let mut drained = 0;
        let limit = Instant::now() + Duration::from_secs(10);
        while drained < 40_000 {
            // The loop sees only the descriptor.
            if bytes_waiting(&notifier) > 0 {
                drained += notifier.drain().len();
            }
            assert!(Instant::now() < limit, "nothing after {drained}");
        }
        for sender in senders {
            sender.join().unwrap();
        }
    }

    #[test]
    fn many_handles_signal_each_loop_once() {
        let notifiers = [Arc::new(LoopNotifier::new().unwrap()), Arc::new(LoopNotifier::new().unwrap())];
        let handles: Vec<NotifyHandle> = (0..8).map(|key| notifiers[usize::from(key >= 5)].handle(key)).collect();
        notify_all(&handles);
        #[cfg(unix)]
        assert_eq!([bytes_waiting(&notifiers[0]), bytes_waiting(&notifiers[1])], [1, 1]);
        assert_eq!([notifiers[0].drain(), notifiers[1].drain()], [vec![0, 1, 2, 3, 4], vec![5, 6, 7]]);
    }

    #[test]
    fn a_loop_that_is_called_is_called_once_between_two_drains_and_never_after_the_close() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let notifier = Arc::new(LoopNotifier::calling(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        }));
        let expect = |count| assert_eq!(calls.load(Ordering::Relaxed), count);
        (0..10).for_each(|key| notifier.handle(key).notify());
        expect(1);
        assert_eq!(notifier.drain().len(), 10);
        notifier.handle(3).notify();
        expect(2);
        notifier.close();
        notifier.drain();
        notifier.handle(4).notify();
        expect(2);
        assert_eq!(Arc::strong_count(&calls), 1, "the function was dropped");
    }

    #[cfg(unix)]
    #[test]
    fn closing_a_notifier_closes_its_descriptors_while_an_engine_still_has_a_handle() {
        let notifier = Arc::new(LoopNotifier::new().unwrap());
        let handle = notifier.handle(1);
        assert!(notifier.descriptor() >= 0);
        notifier.close();
        handle.notify();
        assert_eq!(notifier.descriptor(), -1);
        assert!(notifier.pipe.lock().unwrap().is_none());
    }

    #[test]
    fn closing_a_notifier_wakes_every_waiter() {
        let notifier = Arc::new(LoopNotifier::new().unwrap());
        let sleeper = Arc::clone(&notifier);
        let sleeper = thread::spawn(move || sleeper.wait());
        notifier.close();
        assert!(!sleeper.join().unwrap());
        assert!(!notifier.wait());
    }
}
