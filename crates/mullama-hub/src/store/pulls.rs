//! Which files of the shared Hugging Face cache mullama downloaded, so that it removes no other.

use std::path::PathBuf;

use mullama::DownloadFailure;
use serde::{Deserialize, Serialize};

use super::files::{self, names_in, read_small};
use super::{Store, key_of};
use crate::HuggingFaceName;

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
