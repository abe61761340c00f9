//! Which files pulls download: those of the shared Hugging Face cache, so that no other is removed, and those of a
//! registry until their manifest names them, so that they are removed although their pull never ended.

use std::path::PathBuf;

use mullama::DownloadFailure;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::files::{self, names_in, read_small};
use super::{Store, key_of};
use crate::{HuggingFaceName, RegistryName};

/// The folder of the records of pulls that have not ended.
const UNFINISHED: &str = "unfinished";
/// Most bytes of a record.
const RECORD_LEN_MOST: u64 = 1 << 20;

/// What a pull from Hugging Face downloads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pulled {
    /// The commit of the repository, in hexadecimal.
    pub(crate) commit: String,
    /// The files: their path in the repository, and the name of the blob (the SHA-256 of a file in LFS).
    pub(crate) files: Vec<(String, String)>,
}

/// A record of a pull.
#[derive(Debug, Clone)]
pub(crate) struct PullRecord {
    /// The name that was pulled.
    pub(crate) name: String,
    /// What it downloaded.
    pub(crate) pulled: Pulled,
    /// The file of the record.
    pub(crate) path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Record {
    name: String,
    #[serde(flatten)]
    pulled: Pulled,
}

impl Store {
    /// Records which files of the Hugging Face cache mullama downloaded itself, so that `remove` may delete them. Call
    /// it before the first of them is downloaded, and leave out those that were there before. Atomic.
    pub(crate) fn record_pull(&self, name: &HuggingFaceName, pulled: &Pulled) -> Result<(), DownloadFailure> {
        let folder = files::make_folders(self.root(), &["hugging-face", &name.user, &name.repo])?;
        let mut told = pulled.commit.clone();
        for (path, etag) in &pulled.files {
            told.extend(["\n", path, "\n", etag]);
        }
        let key = key_of(told.as_bytes());
        let record = serde_json::json!(Record { name: name.to_string(), pulled: pulled.clone() });
        files::write(&folder, &key, record.to_string().as_bytes())
    }

    /// Records which blobs a pull from a registry has to download. Call it before the first of them is downloaded. Atomic.
    pub(crate) fn begin_pull(&self, name: &RegistryName, missing: &[Digest]) -> Result<(), DownloadFailure> {
        let folder = files::make_folders(self.root(), &[UNFINISHED])?;
        let digests = missing.iter().map(ToString::to_string).collect::<Vec<_>>();
        files::write(&folder, &key_of(name.to_string().as_bytes()), serde_json::json!(digests).to_string().as_bytes())
    }

    /// The blobs of a pull that has not ended; none if there is no such pull.
    pub(crate) fn begun_pull(&self, name: &RegistryName) -> Vec<Digest> {
        let read = read_small(&self.begun_path(name), RECORD_LEN_MOST).ok();
        let digests = read.and_then(|bytes| serde_json::from_slice::<Vec<String>>(&bytes).ok()).unwrap_or_default();
        digests.iter().filter_map(|digest| Digest::parse(digest)).collect()
    }

    /// Forgets a pull: its manifest names its blobs, or they are removed.
    pub(crate) fn end_pull(&self, name: &RegistryName) -> Result<(), DownloadFailure> {
        files::remove(&self.begun_path(name)).map(drop)
    }

    fn begun_path(&self, name: &RegistryName) -> PathBuf {
        self.root().join(UNFINISHED).join(key_of(name.to_string().as_bytes()))
    }

    /// What mullama downloaded of a repository.
    pub(crate) fn pulls(&self, user: &str, repo: &str) -> Vec<PullRecord> {
        let folder = self.root().join("hugging-face").join(user).join(repo);
        let read = |key: String| {
            let path = folder.join(key);
            let record = serde_json::from_slice::<Record>(&read_small(&path, RECORD_LEN_MOST).ok()?).ok()?;
            Some(PullRecord { name: record.name, pulled: record.pulled, path })
        };
        names_in(&folder).into_iter().filter_map(read).collect()
    }
}
