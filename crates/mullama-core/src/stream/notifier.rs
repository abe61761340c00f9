//! A doorbell for one event loop: streams with news ring it, and the loop answers once for all of them.
//!
//! Flow: engine → stream → **bell** → an event loop that is not Rust's. A loop that can watch a descriptor watches
//! [`descriptor`](LoopNotifier::descriptor); for one that cannot, a thread of the loop's own waits in [`wait`](LoopNotifier::wait).

use std::io;
#[cfg(unix)]
use std::os::fd::{AsRawFd, RawFd};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Rings when a stream that one event loop waits for has news: once for all streams of an engine's step, and not again
/// before the answer.
///
/// ```
/// use std::sync::Arc;
/// use mullama::Bell;
///
/// let bell = Arc::new(Bell::new()?);
/// let (first, second) = (bell.rope(1), bell.rope(2));
/// first.pull();
/// second.pull();
/// first.pull();
/// assert_eq!(bell.answer(), [1, 2]);
/// assert!(bell.answer().is_empty());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct LoopNotifier {
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

impl LoopNotifier {
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

    /// A rope that rings it and leaves `key`.
    pub fn rope(self: &Arc<Self>, key: u64) -> NotifyHandle {
        NotifyHandle { bell: Arc::clone(self), key }
    }

    /// The keys of those who rang since the last answer, in their order. The next one rings anew.
    pub fn answer(&self) -> Vec<u64> {
        // First the wire, then the keys: whoever comes between writes a byte too many, which costs a wake-up. The other way
        // round its byte would be lost, and with it every later ring.
        #[cfg(unix)]
        {
            let _ = io::Read::read(&mut &self.wire.1, &mut [0; 8]);
        }
        std::mem::take(&mut self.lock().keys)
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

    /// Leaves a key; whether the bell was silent and is to be rung.
    fn note(&self, key: u64) -> bool {
        let mut state = self.lock();
        if state.keys.contains(&key) {
            return false;
        }
        state.keys.push(key);
        state.keys.len() == 1
    }

    fn ring(&self) {
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
#[derive(Debug, Clone)]
pub struct NotifyHandle {
    bell: Arc<LoopNotifier>,
    key: u64,
}

impl NotifyHandle {
    /// Rings the bell, and leaves the key.
    pub fn pull(&self) {
        if self.bell.note(self.key) {
            self.bell.ring();
        }
    }

    /// Whether both ring the same bell and leave the same key.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.key == other.key && Arc::ptr_eq(&self.bell, &other.bell)
    }
}

/// Pulls many ropes; each bell rings once, when all its keys are there.
pub(crate) fn pull_all(ropes: &[NotifyHandle]) {
    let silent: Vec<&NotifyHandle> = ropes.iter().filter(|rope| rope.bell.note(rope.key)).collect();
    for rope in silent {
        rope.bell.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[cfg(unix)]
    fn bytes_waiting(bell: &LoopNotifier) -> usize {
        use std::io::Read;
        (&bell.wire.1).read(&mut [0; 64]).unwrap_or(0)
    }

    #[cfg(unix)]
    #[test]
    fn many_rings_before_an_answer_are_one_byte_on_the_wire() {
        let bell = Arc::new(LoopNotifier::new().unwrap());
        for key in 0..100 {
            bell.rope(key).pull();
        }
        assert_eq!(bytes_waiting(&bell), 1);
        assert_eq!(bell.answer().len(), 100);
        bell.rope(7).pull();
        assert_eq!((bytes_waiting(&bell), bell.answer()), (1, vec![7]));
        bell.answer();
        assert_eq!(bytes_waiting(&bell), 0);
    }

    #[test]
    fn no_ring_is_lost_between_two_answers() {
        let bell = Arc::new(LoopNotifier::new().unwrap());
        let ringer = Arc::clone(&bell);
        let rings = thread::spawn(move || {
            for key in 0..10_000 {
                ringer.rope(key).pull();
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

    #[cfg(unix)]
    #[test]
    fn no_ring_is_lost_where_two_ring_while_a_loop_answers_by_the_wire_alone() {
        use std::time::{Duration, Instant};
        let bell = Arc::new(LoopNotifier::new().unwrap());
        let ringers: Vec<_> = (0..2_u64)
            .map(|ringer| {
                let bell = Arc::clone(&bell);
                thread::spawn(move || (0..20_000).for_each(|key| bell.rope(2 * key + ringer).pull()))
            })
            .collect();
        let mut heard = 0;
        let limit = Instant::now() + Duration::from_secs(10);
        while heard < 40_000 {
            // A loop hears the wire and nothing else.
            if bytes_waiting(&bell) > 0 {
                heard += bell.answer().len();
            }
            assert!(Instant::now() < limit, "silent after {heard}");
        }
        for ringer in ringers {
            ringer.join().unwrap();
        }
    }

    #[test]
    fn many_ropes_ring_each_bell_once() {
        let bells = [Arc::new(LoopNotifier::new().unwrap()), Arc::new(LoopNotifier::new().unwrap())];
        let ropes: Vec<NotifyHandle> = (0..8).map(|key| bells[usize::from(key >= 5)].rope(key)).collect();
        pull_all(&ropes);
        #[cfg(unix)]
        assert_eq!([bytes_waiting(&bells[0]), bytes_waiting(&bells[1])], [1, 1]);
        assert_eq!([bells[0].answer(), bells[1].answer()], [vec![0, 1, 2, 3, 4], vec![5, 6, 7]]);
    }

    #[test]
    fn a_closed_bell_lets_everyone_go() {
        let bell = Arc::new(LoopNotifier::new().unwrap());
        let sleeper = Arc::clone(&bell);
        let sleeper = thread::spawn(move || sleeper.wait());
        bell.close();
        assert!(!sleeper.join().unwrap());
        assert!(!bell.wait());
    }
}
