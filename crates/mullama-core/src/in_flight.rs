//! Counts the threads that work inside llama.cpp for a caller, so that the end of the process can wait for them.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mullama_ffi::PerProcess;

use crate::fork_guard::ForkGuard;

/// The working threads of this process.
static WORK: PerProcess<Work> = PerProcess::new();

#[derive(Debug, Default)]
struct Work {
    /// Number of working threads, whether or not their callers still wait.
    working: Mutex<usize>,
    /// Used by [`wait_until_idle`] to wait for the last of them.
    ended: Condvar,
}

/// Marks the current thread as working inside llama.cpp (a load, a tokenizer) until it is dropped.
/// [`shutdown`](crate::shutdown()) waits for such threads for up to a second.
#[derive(Debug)]
pub struct InFlightGuard(ForkGuard);

impl InFlightGuard {
    /// Marks the current thread until the guard is dropped.
    pub fn begin() -> Self {
        *working() += 1;
        Self(ForkGuard::new())
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        // A forked child has the guard, but not the thread that it counts.
        if !self.0.is_forked() {
            *working() -= 1;
            WORK.get().ended.notify_all();
        }
    }
}

fn working() -> MutexGuard<'static, usize> {
    WORK.get().working.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until no thread works inside llama.cpp; `false` if `limit` passed first.
pub(crate) fn wait_until_idle(limit: Duration) -> bool {
    let waited = WORK.get().ended.wait_timeout_while(working(), limit, |working| *working > 0);
    !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
}

#[cfg(all(test, unix, feature = "test-support"))]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn a_forked_child_counts_its_own_work_while_another_thread_held_the_count() {
        let (locked, is_locked) = sync_channel(1);
        let (release, released) = sync_channel::<()>(1);
        let mut before = Some(InFlightGuard::begin());
        let holder = std::thread::spawn(move || {
            let _held = working();
            locked.send(()).expect("the test waits");
            let _ = released.recv();
        });
        is_locked.recv().expect("it is locked");
        let succeeded = mullama_ffi::in_forked_child(Duration::from_secs(10), || {
            drop(before.take());
            let own = InFlightGuard::begin();
            let busy = !wait_until_idle(Duration::ZERO);
            drop(own);
            crate::shutdown();
            busy && wait_until_idle(Duration::ZERO)
        });
        release.send(()).expect("the holder waits");
        holder.join().expect("it ends");
        assert!(succeeded);
    }
}
