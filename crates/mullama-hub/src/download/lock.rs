//! One download of a blob at a time, across all processes: a lock on a file beside it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::time::Duration;

use mullama::DownloadFailure;

use super::blocking;
use super::record;
use crate::progress::Tracker;
use crate::store::files::disk;

const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Held while a blob is downloaded; dropping it, or the end of the process, releases it.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "closing the file releases the lock")] Option<File>);

impl Lock {
    /// Waits for the lock, without a time limit. It is asked for again and again rather than waited for in the kernel,
    /// because that wait could not be given up when the caller cancels.
    pub(super) async fn acquire(path: &Path, tracker: &mut Tracker<'_>) -> Result<Self, DownloadFailure> {
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
}

/// The lock, or `None` if another process or another download of this process has it.
fn try_lock(path: &Path) -> io::Result<Option<Lock>> {
    let file = record::open(OpenOptions::new().read(true).write(true).create(true).truncate(false), path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock(Some(file)))),
        Err(TryLockError::WouldBlock) => Ok(None),
        // Some network file systems have no locks. Two downloads would then write the same bytes to the same places.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(Some(Lock(None))),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_excludes_others_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.lock");
        let lock = try_lock(&path).unwrap();
        assert!(lock.is_some());
        assert!(try_lock(&path).unwrap().is_none());
        drop(lock);
        assert!(try_lock(&path).unwrap().is_some());
    }
}
