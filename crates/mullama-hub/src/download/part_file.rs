//! The part file: parts are written to it in any order, while the digest follows them and the record lists them.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::answer::Identity;
use super::hashing::hex;
use super::plan::Ranges;
use super::record::{self, Prefix, Record};
use crate::store::lock::Lock;

/// An open part file. Blocking work holds it too, so that the lock outlives every write.
#[derive(Debug)]
pub(super) struct PartFile {
    file: File,
    path: PathBuf,
    record_path: PathBuf,
    state: Mutex<State>,
    /// Signalled when bytes were written, and at the end; the digest waits here.
    changed: Condvar,
    /// Held while a record is saved, so that an older one never replaces a newer one.
    saving: Mutex<()>,
    /// Held while bytes are written: the kernel writes to a file one call at a time, and threads that wait for that in the
    /// kernel keep the processor busy.
    writing: Mutex<()>,
    _lock: Arc<Lock>,
}

#[derive(Debug)]
struct State {
    ranges: Ranges,
    /// The length of the whole file, once all of it was written.
    complete: Option<u64>,
    stopped: bool,
    hashed: u64,
    hasher: Sha256,
}

impl PartFile {
    /// Opens the part file at `path`, and keeps the bytes that its record lists, if `fits` accepts the record.
    pub(super) fn open(
        path: &Path,
        lock: Arc<Lock>,
        fits: impl FnOnce(&Record, u64) -> bool,
    ) -> io::Result<(Self, Option<Record>)> {
        let record_path = record_path(path);
        let file = record::open(OpenOptions::new().read(true).write(true).create(true).truncate(false), path)?;
        let record = Record::load(&record_path);
        let len = file.metadata()?.len();
        let record = record.filter(|record| fits(record, len));
        if record.is_none() {
            remove(&record_path)?;
        }
        let ranges = record.as_ref().map(|record| record.ranges.clone()).unwrap_or_default();
        // What was written after the record was saved is fetched again.
        file.set_len(ranges.end())?;
        let state = State { ranges, complete: None, stopped: false, hashed: 0, hasher: Sha256::new() };
        let (path, state) = (path.to_owned(), Mutex::new(state));
        Ok((
            Self {
                file,
                path,
                record_path,
                state,
                changed: Condvar::new(),
                saving: Mutex::new(()),
                writing: Mutex::new(()),
                _lock: lock,
            },
            record,
        ))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Deletes the file and its record. The record goes first: it must not list bytes that do not exist.
    pub(super) fn delete(path: &Path) -> io::Result<()> {
        remove(&record_path(path))?;
        remove(path)
    }

    /// Whether there is a record of the file, which stays if a process is killed just after the file has become the blob.
    pub(super) fn has_record(path: &Path) -> bool {
        record_path(path).is_file()
    }

    /// Deletes the record of a part file that has become the blob.
    pub(super) fn forget(path: &Path) -> io::Result<()> {
        remove(&record_path(path))
    }

    /// Writes chunks one after the other, from the offset `at`. Blocks.
    pub(super) fn write(&self, at: u64, chunks: &[Bytes]) -> io::Result<()> {
        let mut end = at;
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in chunks {
            write_all_at(&self.file, chunk, end)?;
            end += chunk.len() as u64;
        }
        drop(writing);
        self.state().ranges.insert(at..end);
        self.changed.notify_one();
        Ok(())
    }

    /// Fills `buffer` with the bytes at `at`, which were written before. Blocks.
    pub(super) fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        read_exact_at(&self.file, buffer, at)
    }

    pub(super) fn covered(&self) -> u64 {
        self.state().ranges.covered()
    }

    pub(super) fn missing(&self, len: u64) -> Vec<Range<u64>> {
        self.state().ranges.missing(len)
    }

    /// All `len` bytes were written.
    pub(super) fn complete(&self, len: u64) {
        self.state().complete = Some(len);
        self.changed.notify_one();
    }

    /// Ends the work on the digest.
    pub(super) fn stop(&self) {
        self.state().stopped = true;
        self.changed.notify_one();
    }

    /// Waits until more than the first `at` bytes are contiguous, and returns how many are; `None` if there will not be
    /// more.
    pub(super) fn wait_for_bytes(&self, at: u64) -> Option<u64> {
        let state = self.state();
        let waits = |state: &mut State| !state.stopped && state.ranges.frontier() <= at && state.complete != Some(at);
        let state = self.changed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
        (!state.stopped && state.ranges.frontier() > at).then(|| state.ranges.frontier())
    }

    pub(super) fn is_complete(&self, len: u64) -> bool {
        self.state().complete == Some(len)
    }

    /// The digest has come to `at`.
    pub(super) fn hashed(&self, at: u64, hasher: &Sha256) {
        let mut state = self.state();
        state.hashed = at;
        state.hasher.clone_from(hasher);
    }

    /// Synchronizes what was written with the disk, and then records it. Blocks.
    pub(super) fn save(&self, digest: Option<&str>, len: u64, identity: Identity) -> io::Result<()> {
        let _saving = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let (ranges, covered, hasher) = {
            let state = self.state();
            (state.ranges.clone(), state.hashed, state.hasher.clone())
        };
        self.file.sync_data()?;
        let prefix = Prefix { len: covered, sha256: hex(&hasher) };
        let mut record = Record::new(len, identity, ranges, prefix);
        record.digest = digest.map(str::to_owned);
        record.save(&self.record_path)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn record_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".json");
    name.into()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(unix)]
fn read_exact_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, at)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, bytes, at)?;
        (bytes, at) = (&bytes[written..], at + written as u64);
    }
    Ok(())
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut buffer: &mut [u8], mut at: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => (buffer, at) = (&mut buffer[read..], at + read as u64),
        }
    }
    Ok(())
}
