//! Counts the threads that work inside llama.cpp for a caller, so that the end of the process can wait for them.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Number of working threads, whether or not their callers still wait.
static WORKING: Mutex<usize> = Mutex::new(0);
/// Used by [`wait_until_idle`] to wait for the last of them.
static WORK_ENDED: Condvar = Condvar::new();

/// Marks the current thread as working inside llama.cpp (a load, a tokenizer) until it is dropped.
/// [`shutdown`](crate::shutdown()) waits for such threads for up to a second.
#[derive(Debug)]
pub struct InFlightGuard(());

impl InFlightGuard {
    /// Marks the current thread until the guard is dropped.
    pub fn begin() -> Self {
        *working() += 1;
        Self(())
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        *working() -= 1;
        WORK_ENDED.notify_all();
    }
}

fn working() -> MutexGuard<'static, usize> {
    WORKING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until no thread works inside llama.cpp; `false` if `limit` passed first.
pub(crate) fn wait_until_idle(limit: Duration) -> bool {
    let waited = WORK_ENDED.wait_timeout_while(working(), limit, |working| *working > 0);
    !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
}
