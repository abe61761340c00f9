//! Work on the processor for requests: tokenizing and templates.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mullama::MullamaError;
use tokio::sync::Semaphore;

use crate::error::ApiError;
use crate::stop::{stopping, unfinished};

/// Jobs with inputs of at most this many bytes take a few milliseconds, and do not wait for longer ones.
const SHORT_BYTES: usize = 64 << 10;
/// Jobs at once with short inputs, of all requests; others of them wait.
static SHORT_JOBS: Semaphore = Semaphore::const_new(4);
/// The same for longer inputs.
static LONG_JOBS: Semaphore = Semaphore::const_new(4);

/// Stops the job of a client that has left.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Runs a job whose input has so many bytes on a thread of its own. Dropping the future stops it: the job asks its argument whether to go on, and has
/// no result once it was told not to.
pub(crate) async fn blocking<T: Send + 'static>(
    bytes: usize,
    job: impl FnOnce(&mut dyn FnMut() -> bool) -> Result<Option<T>, MullamaError> + Send + 'static,
) -> Result<T, ApiError> {
    let jobs = if bytes <= SHORT_BYTES { &SHORT_JOBS } else { &LONG_JOBS };
    let permit = jobs.acquire().await.map_err(|_| stopping())?;
    let is_wanted = Arc::new(AtomicBool::new(true));
    let _stop = StopOnDrop(Arc::clone(&is_wanted));
    let job = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        job(&mut || is_wanted.load(Ordering::Relaxed))
    });
    job.await.map_err(|error| unfinished(&error))??.ok_or_else(stopping)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::{LONG_JOBS, SHORT_BYTES, blocking};

    #[tokio::test]
    async fn a_short_input_does_not_wait_for_long_ones() {
        let (ends, jobs): (Vec<_>, Vec<_>) = (0..5)
            .map(|_| {
                let (end, ended) = mpsc::sync_channel::<()>(1);
                // The job ends when its sender is dropped.
                let job = tokio::spawn(blocking(SHORT_BYTES + 1, move |_| Ok(ended.recv().err())));
                (end, job)
            })
            .unzip();
        let all_run = async {
            while LONG_JOBS.available_permits() > 0 {
                tokio::task::yield_now().await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(20), all_run).await.is_ok(), "they run");
        let short = blocking(SHORT_BYTES, |_| Ok(Some(7)));
        let answer = tokio::time::timeout(Duration::from_secs(20), short).await;
        assert_eq!(answer.expect("it does not wait"), Ok(7));
        assert!(jobs.iter().all(|job| !job.is_finished()), "the long ones still run or wait");
        drop(ends);
        for job in jobs {
            assert!(job.await.expect("no panic").is_ok());
        }
    }
}
