//! Work on the processor for requests: tokenizing and templates.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::StatusCode;
use mullama::MullamaError;
use tokio::sync::Semaphore;

use crate::error::ApiError;

/// Jobs at once, of all requests; others wait for them.
static JOBS: Semaphore = Semaphore::const_new(4);

/// Stops the job of a client that has left.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Runs a job on a thread of its own. Dropping the future stops it: the job asks its argument whether to go on, and has
/// no result once it was told not to.
pub(crate) async fn blocking<T: Send + 'static>(
    job: impl FnOnce(&mut dyn FnMut() -> bool) -> Result<Option<T>, MullamaError> + Send + 'static,
) -> Result<T, ApiError> {
    let permit = JOBS.acquire().await.map_err(|_| stopped())?;
    let is_wanted = Arc::new(AtomicBool::new(true));
    let _stop = StopOnDrop(Arc::clone(&is_wanted));
    let job = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        job(&mut || is_wanted.load(Ordering::Relaxed))
    });
    job.await.map_err(|_| stopped())??.ok_or_else(stopped)
}

fn stopped() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "CLOSED", "the server stops")
}
