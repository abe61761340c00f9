//! A busy machine, for tests and benchmarks.

use std::hint::black_box;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Runs `work` beside this many threads that never sleep.
///
/// # Panics
///
/// If `work` panics.
pub fn beside_busy_threads<T>(threads: usize, work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    black_box((0..1000_u64).sum::<u64>());
                }
            });
        }
        // The scope waits for the threads, even when the work panics.
        let done = panic::catch_unwind(AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    })
}
