//! Locks on files: one for each download, and one for the store, which is only ever held for a moment.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use mullama::DownloadFailure;

use super::Store;
use super::files::{disk, make_folders};
use crate::download::open;

const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// How often a file is opened that others remove at the same time.
const OPEN_TRIES: u32 = 16;
/// Nobody holds the lock of the store for so long, unless their disk hangs.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// A lock on a file; dropping it, or the end of the process, releases it.
#[derive(Debug)]
pub(crate) struct Lock {
    /// Closing the file releases the lock; `None` where there are no locks.
    file: Option<File>,
    /// The file is removed with the lock if this is its path.
    passing: Option<PathBuf>,
}

impl Lock {
    /// Says in the file what the lock is held for; one that cannot be written to says nothing.
    pub(crate) fn describe(&self, purpose: &str) {
        if let Some(mut file) = self.file.as_ref() {
            let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(purpose.as_bytes()));
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While the lock is held, so that nobody else has it. Whoever waits for it notices that the file is gone.
        if let (Some(file), Some(path)) = (&self.file, &self.passing)
            && is_at(file, path)
        {
            let _ = fs::remove_file(path);
        }
    }
}

/// The lock, or `None` if another process or another part of this process has it. The file stays.
pub(crate) fn try_lock(path: &Path) -> io::Result<Option<Lock>> {
    for _ in 0..OPEN_TRIES {
        let file = open(OpenOptions::new().read(true).write(true).create(true).truncate(false), path)?;
        match file.try_lock() {
            // Whoever had the lock removed the file, so others lock another one.
            Ok(()) if !is_at(&file, path) => {}
            Ok(()) => return Ok(Some(Lock { file: Some(file), passing: None })),
            Err(TryLockError::WouldBlock) => return Ok(None),
            // Some network file systems have no locks. Two downloads would then write the same bytes to the same places.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                return Ok(Some(Lock { file: None, passing: None }));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(None)
}

/// As `try_lock`, but the file is removed when the lock is dropped.
pub(crate) fn try_passing_lock(path: &Path) -> io::Result<Option<Lock>> {
    let mut lock = try_lock(path)?;
    if let Some(lock) = &mut lock {
        lock.passing = Some(path.to_owned());
    }
    Ok(lock)
}

/// Whether a path still leads to the open file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |found: fs::Metadata| (found.dev(), found.ino());
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(there)) => identity(open) == identity(there),
        _ => false,
    }
}

/// Where files that are open cannot be removed, they stay.
#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
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
                    return Ok(Lock { file: None, passing: None });
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
    fn the_file_of_a_passing_lock_goes_with_it_and_that_of_another_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.lock");
        let lock = try_passing_lock(&path).unwrap().unwrap();
        lock.describe("a long purpose");
        lock.describe("a purpose");
        assert_eq!(fs::read_to_string(&path).unwrap(), "a purpose");
        assert!(try_passing_lock(&path).unwrap().is_none() && path.exists());
        drop(lock);
        assert_eq!(path.exists(), !cfg!(unix));
        drop(try_lock(&path).unwrap());
        assert!(path.exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_whose_file_is_replaced_does_not_remove_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.lock");
        let old = try_passing_lock(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let new = try_passing_lock(&path).unwrap();
        assert!(old.is_some() && new.is_some());
        drop(old);
        assert!(path.exists() && try_passing_lock(&path).unwrap().is_none());
    }

    /// Threads stand for processes here: each opens the file by itself, and the system tells them no more apart.
    #[test]
    fn only_one_at_a_time_has_a_lock_whose_file_comes_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let (path, inside) = (folder.path().join("x.lock"), std::sync::atomic::AtomicU32::new(0));
        let end = Instant::now() + Duration::from_secs(2);
        let taken = thread::scope(|scope| {
            let take = || {
                let mut taken = 0_u32;
                while Instant::now() < end {
                    if let Some(_lock) = try_passing_lock(&path).unwrap() {
                        assert_eq!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0, "two have the lock");
                        thread::yield_now();
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        taken += 1;
                    }
                }
                taken
            };
            let threads = [(); 4].map(|()| scope.spawn(take));
            threads.map(|thread| thread.join().unwrap()).iter().sum::<u32>()
        });
        assert!(taken > 100, "{taken}");
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
