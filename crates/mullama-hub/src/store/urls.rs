//! Models that were downloaded from a plain address: which blob an address stands for.

use std::path::PathBuf;

use mullama::DownloadFailure;
use serde::{Deserialize, Serialize};
use url::Url;

use super::digest::Digest;
use super::files::{self, Problems, read_small};
use super::{Store, key_of};
use crate::Unreadable;
use crate::name::bare_url;

/// Most bytes of a record.
const RECORD_LEN_MOST: u64 = 16 << 10;

/// A model that was downloaded from an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UrlModel {
    /// The address, without its query.
    pub(crate) url: String,
    /// The digest of its blob.
    pub(crate) digest: Digest,
    /// The length of its blob.
    pub(crate) len: u64,
    /// The file of the record.
    pub(crate) record: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Record {
    url: String,
    digest: String,
    len: u64,
}

impl Store {
    /// Publishes that the blob `digest` is what `url` stands for. Atomic.
    pub(crate) fn write_url(&self, url: &Url, digest: &Digest, len: u64) -> Result<(), DownloadFailure> {
        let folder = files::make_folders(self.root(), &["urls"])?;
        let record = serde_json::json!(Record { url: bare_url(url), digest: digest.to_string(), len });
        files::write(&folder, &key_of(url.as_str().as_bytes()), record.to_string().as_bytes())
    }

    /// Where a file that is downloaded from `url` is kept until its digest is known: a name in the folder of blobs
    /// that depends on the whole address and reveals nothing of it.
    pub(crate) fn url_blob(&self, url: &Url) -> PathBuf {
        self.root().join("blobs").join(format!("url-{}", key_of(url.as_str().as_bytes())))
    }

    /// What an address stands for. One without a query also finds what was downloaded with one.
    pub(crate) fn url_model(&self, url: &Url) -> Option<UrlModel> {
        let exact = self.read_url(&key_of(url.as_str().as_bytes()));
        let alike = || {
            self.url_models(&Problems::default())
                .into_iter()
                .find(|model| url.query().is_none() && model.url == url.as_str())
        };
        exact.or_else(alike)
    }

    /// All models that were downloaded from addresses.
    pub(crate) fn url_models(&self, problems: &Problems) -> Vec<UrlModel> {
        problems.names_in(&self.root().join("urls")).iter().filter_map(|key| self.read_url(key)).collect()
    }

    /// The blobs of all models that were downloaded from addresses.
    ///
    /// # Errors
    ///
    /// Why it is not known which there are.
    pub(crate) fn url_digests(&self) -> Result<Vec<Digest>, Unreadable> {
        let folder = self.root().join("urls");
        let read = |key: String| match self.read_url(&key) {
            Some(model) => Ok(model.digest),
            None => Err(Unreadable::new(&folder.join(key), "it is not a record of mullama")),
        };
        files::all_names_in(&folder)?.into_iter().map(read).collect()
    }

    fn read_url(&self, key: &str) -> Option<UrlModel> {
        let path = self.root().join("urls").join(key);
        let record = serde_json::from_slice::<Record>(&read_small(&path, RECORD_LEN_MOST).ok()?).ok()?;
        Some(UrlModel { digest: Digest::parse(&record.digest)?, url: record.url, len: record.len, record: path })
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::super::digest::Digest;
    use super::Store;

    #[test]
    fn an_address_is_found_again_and_its_query_is_not_on_the_disk() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path().to_owned());
        let signed = Url::parse("https://example.com/a.gguf?sig=hunter2").unwrap();
        let digest = Digest::parse(&"a".repeat(64)).unwrap();
        store.write_url(&signed, &digest, 7).unwrap();
        assert_eq!(store.url_model(&signed).unwrap().digest, digest);
        let bare = Url::parse("https://example.com/a.gguf").unwrap();
        let found = store.url_model(&bare).unwrap();
        assert!(!std::fs::read_to_string(&found.record).unwrap().contains("hunter2"));
        assert_eq!(store.url_model(&Url::parse("https://example.com/a.gguf?v=2").unwrap()), None);
        assert_ne!(store.url_blob(&bare), store.url_blob(&signed));
    }
}
