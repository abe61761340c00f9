//! The files of a repository of Hugging Face: where they go, and their publication in the shared cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mullama::DownloadFailure;
use url::Url;

use crate::HuggingFaceName;
use crate::download::{Blob, Home, Place, blocking, check_model};
use crate::http::shown;
use crate::quant::RepoFile;
use crate::store::digest::Digest;
use crate::store::files::disk;
use crate::store::hugging_face::Repo;
use crate::store::manifest::MODEL_LAYER_LEN_MOST;
use crate::store::{Pulled, Store};

/// A file of a repository and where it goes.
pub(super) struct RepoBlob {
    pub(super) path: String,
    pub(super) etag: String,
    pub(super) blob: Blob,
}

impl RepoBlob {
    pub(super) fn new(
        home: Home,
        repo: &Repo,
        (file, url): (&RepoFile, Url),
        is_model: bool,
    ) -> Result<Self, DownloadFailure> {
        let Some(etag) = file.etag.clone() else {
            let message = "the repository does not give the digest of the file".to_owned();
            return Err(DownloadFailure::Protocol { url: shown(&url), message });
        };
        if let Some(len) = file.len.filter(|len| *len > MODEL_LAYER_LEN_MOST) {
            let message = format!("the file has {len} bytes, but must have at most {MODEL_LAYER_LEN_MOST}");
            return Err(DownloadFailure::Protocol { url: shown(&url), message });
        }
        let blob = Blob {
            url,
            file: file.path.clone(),
            digest: Digest::parse(&etag),
            len: file.len,
            most: file.len.unwrap_or(MODEL_LAYER_LEN_MOST).min(MODEL_LAYER_LEN_MOST),
            is_model,
            lock: repo.lock(&etag)?,
            home,
            place: Place::Path(repo.blob(&etag)?),
        };
        Ok(Self { path: file.path.clone(), etag, blob })
    }
}

/// What mullama downloads of a repository.
pub(super) type Record = (HuggingFaceName, Pulled);

/// Publishes the files of a revision, and returns the path of the first; `None` if one of them is missing.
pub(super) async fn publish_files(
    store: Store,
    repo: Repo,
    commit: &str,
    files: &Arc<Vec<RepoBlob>>,
    record: Option<Record>,
) -> Result<Option<PathBuf>, DownloadFailure> {
    let (commit, files) = (commit.to_owned(), Arc::clone(files));
    blocking(move || {
        let _lock = store.lock()?;
        for file in files.iter() {
            let is_published = repo.snapshot(&commit, &file.path)?.is_file();
            if !is_published && !repo.blob(&file.etag)?.is_file() {
                return Ok(None);
            }
        }
        if files.len() > 1 {
            check_parts(&repo, &files)?;
        }
        let mut first = None;
        for file in files.iter() {
            let path = repo.publish(&commit, &file.path, &file.etag)?;
            first.get_or_insert(path);
        }
        repo.write_ref("main", &commit)?;
        if let Some((name, pulled)) = record {
            // It may have been removed with what another process had downloaded before.
            store.record_pull(&name, &pulled)?;
        }
        Ok(Some(first.expect("a model has at least one file")))
    })
    .await
}

/// Checks a model in several files before it is published, which needs them under their names side by side.
fn check_parts(repo: &Repo, files: &[RepoBlob]) -> Result<(), DownloadFailure> {
    let root = repo.folder();
    let failed = |error: std::io::Error| disk(&root, &error);
    let folder = tempfile::Builder::new().prefix(".mullama-check-").tempdir_in(&root).map_err(failed)?;
    let mut first = None;
    for file in files {
        let name = file.path.rsplit('/').next().unwrap_or(&file.path);
        let path = folder.path().join(name);
        link(&repo.blob(&file.etag)?, &path).map_err(failed)?;
        first.get_or_insert(path);
    }
    let url = files.first().map(|file| shown(&file.blob.url)).unwrap_or_default();
    let checked = check_model(&first.expect("there are several files"), &url);
    if checked.is_err() {
        for file in files {
            let blob = repo.blob(&file.etag)?;
            fs::remove_file(&blob).map_err(|error| disk(&blob, &error))?;
        }
    }
    checked
}

fn link(blob: &Path, path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::symlink(blob, path);
    #[cfg(not(unix))]
    fs::hard_link(blob, path)
}
