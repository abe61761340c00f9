//! Downloads one blob: into a part file, in parts, verified, and continued where an earlier attempt stopped.
//!
//! Flow: lock → part file and its record → [`attempt`]: parts ∥ digest ∥ record → digest and GGUF check → rename.
//!
//! An attempt ends with the whole content, with a failure, or with the wish to start over: when the server's content
//! changed, or when the file does not have the bytes that its record lists.

mod answer;
mod attempt;
mod hashing;
mod lock;
mod part;
mod part_file;
mod plan;
mod publish;
mod record;
mod source;
mod space;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use mullama::DownloadFailure;
use tokio::task::JoinError;
use url::Url;

use crate::http::{Http, RequestError, Tries, jittered, shown};
use crate::progress::Tracker;
use crate::store::Store;
use crate::store::digest::Digest;
use crate::store::files::disk;
use crate::store::hugging_face::Repo;
use attempt::{Attempt, Complete};
use part_file::PartFile;

pub(crate) use publish::{check_model, without_path};
pub(crate) use record::open;

/// Tries in a row without new bytes before the download fails.
const TRIES: u32 = 6;
/// How often the file may change on the server, or turn out to be damaged, before the download fails.
const MOST_STARTS: u32 = 4;

/// A blob to be downloaded.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub(crate) url: Url,
    /// The name that progress shows.
    pub(crate) file: String,
    pub(crate) digest: Option<Digest>,
    /// Its length, if it is known.
    pub(crate) len: Option<u64>,
    /// The most bytes that it may have.
    pub(crate) most: u64,
    /// Whether it is a model by itself, which must pass the GGUF check.
    pub(crate) is_model: bool,
    pub(crate) place: Place,
    pub(crate) home: Home,
    pub(crate) lock: PathBuf,
}

/// To whose folders a blob and its lock belong.
#[derive(Debug, Clone)]
pub(crate) enum Home {
    /// mullama's store.
    Store(Store),
    /// A repository in the shared cache, whose folders are removed under the lock of the store.
    Repo(Store, Repo),
}

impl Home {
    /// Makes the folders. Blocks.
    pub(crate) fn prepare(&self) -> Result<(), DownloadFailure> {
        match self {
            Self::Store(store) => store.prepare_blobs().map(|_| ()),
            Self::Repo(store, repo) => {
                let _lock = store.lock()?;
                repo.prepare()
            }
        }
    }
}

/// Where a blob goes. The part file is next to it.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// At this path.
    Path(PathBuf),
    /// Where the store keeps files from addresses; the path follows from the digest, once that is known.
    Url(Store),
}

/// A blob that is complete.
#[derive(Debug, Clone)]
pub(crate) struct Fetched {
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
}

/// How an attempt ended, if not with the whole content.
#[derive(Debug)]
enum Ended {
    /// What was downloaded cannot be used: start again with an empty file.
    StartOver(DownloadFailure),
    /// The server does not support ranges, so the file must come in one piece, from the start.
    NoRanges,
    /// The connection was lost after this many bytes of the one piece.
    Broke(RequestError, u64),
    Failed(DownloadFailure),
}

/// Downloads a blob, unless it exists.
pub(crate) async fn fetch(
    http: &Arc<Http>,
    blob: &Blob,
    tracker: &mut Tracker<'_>,
) -> Result<Fetched, DownloadFailure> {
    tracker.file(&blob.file);
    let part = blob.part();
    if let Some(found) = existing(blob).await?
        && !PartFile::has_record(&part)
    {
        tracker.file_done(found.len);
        return Ok(found);
    }
    let lock = Arc::new(lock::acquire(blob, tracker).await?);
    let attempt = Attempt { http, blob, part, lock, has_ranges: true };
    // Another process that held the lock may have downloaded it, or was killed before it removed its record.
    if let Some(found) = existing(blob).await? {
        attempt.delete().await?;
        tracker.file_done(found.len);
        return Ok(found);
    }
    let fetched = download(attempt, tracker).await?;
    tracker.file_done(fetched.len);
    Ok(fetched)
}

/// Attempts until one brings the whole content, or a failure.
async fn download(mut attempt: Attempt<'_>, tracker: &mut Tracker<'_>) -> Result<Fetched, DownloadFailure> {
    let mut starts = Tries::new(MOST_STARTS, 0);
    let mut pieces = Tries::new(TRIES, 0);
    loop {
        let (wait, failure) = match attempt.run(tracker).await {
            Ok(complete) => match settle(&attempt, complete).await {
                Err(Ended::StartOver(failure)) => (starts.failed(RequestError::SOON, 0), failure),
                Err(Ended::Failed(failure)) => return Err(failure),
                Err(Ended::NoRanges | Ended::Broke(..)) => unreachable!("the content is complete"),
                Ok(fetched) => return Ok(fetched),
            },
            Err(Ended::Failed(failure)) => return Err(failure),
            Err(Ended::NoRanges) => {
                attempt.has_ranges = false;
                attempt.delete().await?;
                continue;
            }
            Err(Ended::Broke(error, arrived)) => (pieces.failed(error.kind, arrived), pieces.exhausted(error.failure)),
            Err(Ended::StartOver(failure)) => (starts.failed(RequestError::SOON, 0), failure),
        };
        tracing::debug!(file = attempt.blob.file, %failure, "the download begins again");
        attempt.delete().await?;
        tokio::time::sleep(jittered(wait.ok_or(failure)?)).await;
    }
}

/// Verifies a complete part file and makes it the blob.
async fn settle(attempt: &Attempt<'_>, complete: Complete) -> Result<Fetched, Ended> {
    let (blob, url) = (attempt.blob, shown(&attempt.blob.url));
    let wrong = blob.digest.as_ref().filter(|digest| digest.hex() != complete.sha256);
    if let Some(expected) = wrong {
        let failure = DownloadFailure::Digest { url, expected: expected.hex().to_owned(), actual: complete.sha256 };
        // The bytes of an earlier attempt may be those that are wrong.
        if complete.continued {
            return Err(Ended::StartOver(failure));
        }
        attempt.delete().await.map_err(Ended::Failed)?;
        return Err(Ended::Failed(failure));
    }
    let digest = Digest::parse(&complete.sha256).expect("it is a SHA-256 in hexadecimal");
    let blob = blob.clone();
    blocking(move || publish(&blob, &complete, &digest)).await.map_err(Ended::Failed)
}

/// Gives a verified part file its name, if it is what it should be. Blocks.
fn publish(blob: &Blob, complete: &Complete, digest: &Digest) -> Result<Fetched, DownloadFailure> {
    let (file, part, len) = (complete.file.file(), complete.file.path(), complete.len);
    let failed = |error: io::Error| disk(part, &error);
    if blob.is_model
        && let Err(failure) = check_model(part, &shown(&blob.url))
    {
        PartFile::delete(part).map_err(failed)?;
        return Err(failure);
    }
    let path = match &blob.place {
        Place::Path(path) => path.clone(),
        Place::Url(store) => store.blob(digest),
    };
    // From here on no process may remove the blob, until the store has recorded its address.
    let _lock = match &blob.place {
        Place::Url(store) => Some(store.lock()?),
        Place::Path(_) => None,
    };
    publish::publish(part, file, &path)?;
    PartFile::forget(part).map_err(failed)?;
    if let Place::Url(store) = &blob.place {
        // While the lock is held, so that the next holder finds the blob.
        store.write_url(&blob.url, digest, len)?;
    }
    Ok(Fetched { path, len })
}

impl Blob {
    /// The part file.
    fn part(&self) -> PathBuf {
        let mut name = match &self.place {
            Place::Path(path) => path.clone(),
            Place::Url(store) => store.url_blob(&self.url),
        }
        .into_os_string();
        name.push(".part");
        name.into()
    }
}

/// The blob, if it exists: a file of the right length, whose bytes were verified before it got its name.
async fn existing(blob: &Blob) -> Result<Option<Fetched>, DownloadFailure> {
    let (place, url, len, is_model) = (blob.place.clone(), blob.url.clone(), blob.len, blob.is_model);
    let found = move || match place {
        Place::Path(path) => file_at(path, len),
        Place::Url(store) => match store.url_model(&url) {
            Some(model) => file_at(store.blob(&model.digest), Some(model.len)),
            None => Ok(None),
        },
    };
    // One that was damaged later, so that no program can load it, is downloaded again.
    let is_usable = move |found: &Fetched| !is_model || check_model(&found.path, "").is_ok();
    blocking(move || Ok(found()?.filter(is_usable))).await
}

fn file_at(path: PathBuf, len: Option<u64>) -> Result<Option<Fetched>, DownloadFailure> {
    match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_file() && len.is_none_or(|len| len == metadata.len()) => {
            Ok(Some(Fetched { path, len: metadata.len() }))
        }
        Ok(metadata) if metadata.is_dir() => Err(disk(&path, &io::ErrorKind::IsADirectory.into())),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(disk(&path, &error)),
    }
}

/// Runs blocking work on a thread for it. It is not cancelled with the caller, so it owns all that it uses.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    joined(tokio::task::spawn_blocking(work).await)
}

/// The result of blocking work; its panic continues here.
fn joined<T>(result: Result<T, JoinError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => unreachable!("blocking work is never cancelled while it is awaited: {error}"),
        },
    }
}
