//! The files of models: where they are, and when they were changed.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mullama_hub::{Defaults, Hub};

use crate::error::ApiError;
use crate::models::ModelSource;
use crate::stop::unfinished;

/// Where a model is, and what its publisher recommends.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) defaults: Defaults,
}

/// Works with files on a thread for blocking work.
pub(crate) async fn on_files<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| unfinished(&error))
}

/// Where the file of a model is; an empty path if it is not on this machine yet.
pub(crate) fn found(source: &ModelSource, hub: Option<&Hub>) -> Found {
    let at = |path: &Path| Found { path: path.to_owned(), ..Found::default() };
    match (source, hub) {
        (ModelSource::File(path), _) => at(path),
        (ModelSource::Loaded(model), _) => at(model.path()),
        (ModelSource::Named(name), None) => at(Path::new(name)),
        (ModelSource::Named(name), Some(hub)) => hub
            .find(name)
            .map_or_else(|_| Found::default(), |local| Found { path: local.path, defaults: local.defaults }),
    }
}

/// When the file of a model was last changed; 1970-01-01 if it is not there.
pub(crate) fn modified(source: &ModelSource, hub: Option<&Hub>) -> SystemTime {
    modification(&found(source, hub).path)
}

/// As [`modified`], of the file itself.
pub(crate) fn modification(path: &Path) -> SystemTime {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.unwrap_or(SystemTime::UNIX_EPOCH)
}
