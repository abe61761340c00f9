//! Turns a complete part file into the blob, once it is on the disk and has passed the GGUF check.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use mullama::DownloadFailure;
use mullama::gguf;

use super::space;
use crate::store::files::{disk, sync_folder};

/// Renames the part file to `blob`. The data is synchronized before and the folder after that, so that a crash at any
/// moment leaves the part file or a complete blob.
pub(super) fn publish(part: &Path, file: &File, blob: &Path) -> Result<(), DownloadFailure> {
    let failed = |error: io::Error| space::write_failure(part, 0, &error);
    file.sync_all().map_err(failed)?;
    fs::rename(part, blob).map_err(|error| disk(blob, &error))?;
    blob.parent().map_or(Ok(()), sync_folder).map_err(|error| disk(blob, &error))
}

/// Refuses a file that could not be loaded as a model. `url` is its address.
pub(crate) fn check_model(path: &Path, url: &str) -> Result<(), DownloadFailure> {
    match gguf::check(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(DownloadFailure::InvalidFile { url: url.to_owned(), message: without_path(&error, path) }),
    }
}

/// What is wrong with the file, without its path, which means nothing to the user.
pub(crate) fn without_path(error: &gguf::GgufError, path: &Path) -> String {
    error.to_string().replace(&path.display().to_string(), "it")
}
