//! One download of a blob at a time, across all processes: a lock on a file next to it.

use std::path::Path;
use std::time::Duration;

use mullama::DownloadFailure;

use super::blocking;
use crate::progress::Tracker;
use crate::store::files::disk;
use crate::store::lock::{Lock, try_lock};

const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Waits for the lock, without a time limit. It is asked for again and again rather than waited for in the kernel,
/// because that wait could not be given up when the caller cancels.
pub(super) async fn acquire(path: &Path, tracker: &mut Tracker<'_>) -> Result<Lock, DownloadFailure> {
    loop {
        let owned = path.to_owned();
        match blocking(move || try_lock(&owned)).await {
            Ok(Some(lock)) => return Ok(lock),
            Ok(None) => tracker.waiting(),
            Err(error) => return Err(disk(path, &error)),
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
