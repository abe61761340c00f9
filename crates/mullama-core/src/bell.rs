//! A doorbell for one event loop: streams with news ring it, and the loop answers once for all of them.
//!
//! Flow: engine → stream → **bell** → an event loop that is not Rust's. A loop that can watch a descriptor watches
//! [`descriptor`](Bell::descriptor); for one that cannot, a thread of the loop's own waits in [`wait`](Bell::wait).

use std::io;
#[cfg(unix)]
use std::os::fd::{AsRawFd, RawFd};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// Rings when a stream that one event loop waits for has news. From the first ring to the answer it stays silent, so that
/// one wake-up of the loop serves all streams.
///
/// ```
/// use std::sync::Arc;
/// use mullama::Bell;
///
/// let bell = Arc::new(Bell::new()?);
/// let (first, second) = (bell.waker(1), bell.waker(2));
/// first.wake_by_ref();
/// second.wake_by_ref();
/// first.wake_by_ref();
/// assert_eq!(bell.answer(), [1, 2]);
/// assert!(bell.answer().is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Bell {
    state: Mutex<State>,
    /// Whoever waits without a descriptor sleeps here.
    rung: Condvar,
    /// A byte goes in at the first ring; the loop watches the other end.
    #[cfg(unix)]
    wire: (UnixStream, UnixStream),
}

#[derive(Debug, Default)]
struct State {
    /// Who rang since the last answer, each once.
    keys: Vec<u64>,
    closed: bool,
}

impl Bell {
    /// A bell that nobody rings yet.
    ///
    /// # Errors
    /// If the system has no descriptor left.
    pub fn new() -> io::Result<Self> {
        #[cfg(unix)]
        let wire = {
            let (near, far) = UnixStream::pair()?;
            near.set_nonblocking(true)?;
            far.set_nonblocking(true)?;
            (near, far)
        };
        Ok(Self {
            state: Mutex::default(),
            rung: Condvar::new(),
            #[cfg(unix)]
            wire,
        })
    }

    /// What is readable from the first ring to the answer.
    #[cfg(unix)]
    pub fn descriptor(&self) -> RawFd {
        self.wire.1.as_raw_fd()
    }

    /// A waker that rings and leaves `key`; two of one key [wake the same](Waker::will_wake) only if one is the other's
    /// clone.
    pub fn waker(self: &Arc<Self>, key: u64) -> Waker {
        Arc::new(Rope { bell: Arc::clone(self), key }).into()
    }

    /// The keys of those who rang since the last answer, in their order. The next one rings anew.
    pub fn answer(&self) -> Vec<u64> {
        let keys = std::mem::take(&mut self.lock().keys);
        #[cfg(unix)]
        {
            // One byte a ring, and a second one at most where a ring and an answer met.
            let _ = io::Read::read(&mut &self.wire.1, &mut [0; 8]);
        }
        keys
    }

    /// Sleeps until it rings; `false` once it is closed.
    pub fn wait(&self) -> bool {
        let silent = |state: &mut State| state.keys.is_empty() && !state.closed;
        !self.rung.wait_while(self.lock(), silent).unwrap_or_else(PoisonError::into_inner).closed
    }

    /// Ends every [`wait`](Self::wait), now and later.
    pub fn close(&self) {
        self.lock().closed = true;
        self.rung.notify_all();
    }

    fn ring(&self, key: u64) {
        let mut state = self.lock();
        if state.keys.contains(&key) {
            return;
        }
        state.keys.push(key);
        if state.keys.len() > 1 {
            return;
        }
        drop(state);
        self.rung.notify_all();
        #[cfg(unix)]
        {
            // A full wire is readable, which is all that is wanted.
            let _ = io::Write::write(&mut &self.wire.0, &[1]);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream's hold on a bell.
struct Rope {
    bell: Arc<Bell>,
    key: u64,
}

impl Wake for Rope {
    fn wake(self: Arc<Self>) {
        self.bell.ring(self.key);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.bell.ring(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[cfg(unix)]
    fn bytes_waiting(bell: &Bell) -> usize {
        use std::io::Read;
        (&bell.wire.1).read(&mut [0; 64]).unwrap_or(0)
    }

    #[cfg(unix)]
    #[test]
    fn many_rings_before_an_answer_are_one_byte_on_the_wire() {
        let bell = Arc::new(Bell::new().unwrap());
        for key in 0..100 {
            bell.waker(key).wake();
        }
        assert_eq!(bytes_waiting(&bell), 1);
        assert_eq!(bell.answer().len(), 100);
        bell.waker(7).wake();
        assert_eq!((bytes_waiting(&bell), bell.answer()), (1, vec![7]));
        bell.answer();
        assert_eq!(bytes_waiting(&bell), 0);
    }

    #[test]
    fn no_ring_is_lost_between_two_answers() {
        let bell = Arc::new(Bell::new().unwrap());
        let ringer = Arc::clone(&bell);
        let rings = thread::spawn(move || {
            for key in 0..10_000 {
                ringer.waker(key).wake();
            }
            ringer.close();
        });
        let mut heard = Vec::new();
        while bell.wait() {
            heard.extend(bell.answer());
        }
        rings.join().unwrap();
        heard.extend(bell.answer());
        assert_eq!(heard, (0..10_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_closed_bell_lets_everyone_go() {
        let bell = Arc::new(Bell::new().unwrap());
        let sleeper = Arc::clone(&bell);
        let sleeper = thread::spawn(move || sleeper.wait());
        bell.close();
        assert!(!sleeper.join().unwrap());
        assert!(!bell.wait());
    }
}
