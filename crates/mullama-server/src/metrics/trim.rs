//! Gives memory back to the system after large requests. That takes time, so it is done once for many of them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The least time between two trims.
const INTERVAL: Duration = Duration::from_secs(1);

static TRIMS: Trims = Trims(Mutex::new(Schedule { last: None, is_due: false }));

/// When the heap of the process is trimmed.
#[derive(Debug)]
struct Trims(Mutex<Schedule>);

#[derive(Debug)]
struct Schedule {
    last: Option<Instant>,
    /// Whether a task waits to trim.
    is_due: bool,
}

impl Trims {
    fn change<T>(&self, change: impl FnOnce(&mut Schedule) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The time of the next trim for who has to see to it; `None` if somebody does already.
    fn claim(&'static self) -> Option<(Instant, Claim)> {
        self.change(|schedule| {
            if std::mem::replace(&mut schedule.is_due, true) {
                return None;
            }
            let now = Instant::now();
            Some((schedule.last.map_or(now, |last| now.max(last + INTERVAL)), Claim(self)))
        })
    }
}

/// The duty to trim, which ends with the task that has it.
struct Claim(&'static Trims);

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.change(|schedule| *schedule = Schedule { last: Some(Instant::now()), is_due: false });
    }
}

/// Trims the heap at once, or as soon as the last trim is an interval ago.
pub(super) fn soon() {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let Some((time, claim)) = TRIMS.claim() else { return };
    runtime.spawn(async move {
        tokio::time::sleep_until(time).await;
        // Requests that end from now on need another trim.
        drop(claim);
        drop(tokio::task::spawn_blocking(mullama_ffi::trim_heap));
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::{INTERVAL, Schedule, Trims};

    #[tokio::test(start_paused = true)]
    async fn the_heap_is_trimmed_at_most_once_per_interval_and_after_the_last_request() {
        static TRIMS: Trims = Trims(Mutex::new(Schedule { last: None, is_due: false }));
        let start = Instant::now();
        let (time, claim) = TRIMS.claim().expect("nobody trims");
        assert_eq!(time, start);
        assert!(TRIMS.claim().is_none(), "one is enough");
        drop(claim);
        tokio::time::advance(INTERVAL / 4).await;
        let (time, claim) = TRIMS.claim().expect("the last trim was before");
        assert_eq!(time, start + INTERVAL);
        assert!(TRIMS.claim().is_none(), "it is still to come");
        drop(claim);
        tokio::time::advance(INTERVAL * 3).await;
        let (time, _claim) = TRIMS.claim().expect("the interval is over");
        assert_eq!(time, Instant::now());
    }
}
