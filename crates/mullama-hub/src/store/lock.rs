//! Locks on files: one for each download, and one for the store, which is only ever held for a moment.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use mullama::DownloadFailure;

use super::Store;
use super::files::{disk, make_folders};
use crate::download::open;

const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Nobody holds the lock of the store for so long, unless their disk hangs.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// A lock on a file; dropping it, or the end of the process, releases it.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "closing the file releases the lock")] Option<File>);

/// The lock, or `None` if another process or another part of this process has it.
pub(crate) fn try_lock(path: &Path) -> io::Result<Option<Lock>> {
    let file = open(OpenOptions::new().read(true).write(true).create(true).truncate(false), path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock(Some(file)))),
        Err(TryLockError::WouldBlock) => Ok(None),
        // Some network file systems have no locks. Two downloads would then write the same bytes to the same places.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(Some(Lock(None))),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

impl Store {
    /// Waits until no other process publishes or removes a model of this store. Whoever publishes looks under this lock
    /// whether all blobs are there, and whoever removes looks under it which of them are needed. Blocks; do nothing that
    /// takes long while you hold it.
    pub(crate) fn lock(&self) -> Result<Lock, DownloadFailure> {
        make_folders::<&str>(self.root(), &[])?;
        self.lock_if_there()
    }

    /// As `lock`, but a store that is not there or cannot be written to needs none: nothing can change in it.
    pub(crate) fn lock_if_there(&self) -> Result<Lock, DownloadFailure> {
        use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
        let (path, started) = (self.root().join(".lock"), Instant::now());
        loop {
            match try_lock(&path) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) if started.elapsed() < LONGEST_WAIT => thread::sleep(POLL_INTERVAL),
                Ok(None) => {
                    let message = "another process has held this lock for a minute; try again later".to_owned();
                    return Err(DownloadFailure::Disk { path, message });
                }
                Err(error)
                    if matches!(error.kind(), NotFound | NotADirectory | PermissionDenied | ReadOnlyFilesystem) =>
                {
                    return Ok(Lock(None));
                }
                Err(error) => return Err(disk(&path, &error)),
            }
        }
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

    #[test]
    fn a_store_that_is_not_there_is_not_made_by_a_lock() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("store"));
        store.lock_if_there().unwrap();
        assert!(!store.root().exists());
        let _lock = store.lock().unwrap();
        assert!(try_lock(&store.root().join(".lock")).unwrap().is_none());
    }
}
