//! One download of a blob at a time, across all processes: a lock on a file next to it.

use std::io;
use std::time::Duration;

use mullama::DownloadFailure;

use super::{Blob, blocking};
use crate::progress::Tracker;
use crate::store::files::disk;
use crate::store::lock::{Lock, try_passing_lock};

const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Waits for the lock, without a time limit, and makes the folders that the download needs. The lock is asked for again
/// and again rather than waited for in the kernel, because that wait could not be given up when the caller cancels.
pub(super) async fn acquire(blob: &Blob, tracker: &mut Tracker<'_>) -> Result<Lock, DownloadFailure> {
    loop {
        let owned = blob.clone();
        match blocking(move || locked(&owned)).await? {
            Some(lock) => return Ok(lock),
            None => tracker.waiting(),
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// The lock, or `None` if another process has it. Blocks.
fn locked(blob: &Blob) -> Result<Option<Lock>, DownloadFailure> {
    let lock = match try_passing_lock(&blob.lock) {
        Ok(lock) => lock,
        // Whoever removes the last model of a repository removes its folders.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            blob.home.prepare()?;
            match try_passing_lock(&blob.lock) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                lock => lock.map_err(|error| disk(&blob.lock, &error))?,
            }
        }
        Err(error) => return Err(disk(&blob.lock, &error)),
    };
    if let Some(lock) = &lock {
        lock.describe(&blob.file);
        // From here on the lock tells others that the folders are needed.
        blob.home.prepare()?;
    }
    Ok(lock)
}
