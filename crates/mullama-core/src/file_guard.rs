//! Detects that a mapped model file was changed in place, before the engine computes with the changed weights.
//!
//! llama.cpp maps the weights, so writing to the file changes the model, and reading a page that was truncated away
//! ends the process with SIGBUS. Nothing can prevent that during a step, but later requests are refused.

use std::fs::{File, Metadata};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::{ModelLoadFailure, MullamaError, StreamFailure};

/// The files that a model is mapped from, in their state at the time of loading. Empty if nothing is mapped.
///
/// It keeps the files open, so that it checks the mapped data: a file that was deleted or replaced by renaming another
/// one over it stays unchanged for this process and does no harm.
#[derive(Debug, Default)]
pub(crate) struct FileGuard {
    files: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    file: File,
    version: Version,
}

/// Metadata that changes when a file is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    len: u64,
    modified: Option<SystemTime>,
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        Self { len: metadata.len(), modified: metadata.modified().ok() }
    }
}

impl FileGuard {
    /// Opens the files and records their state.
    pub(crate) fn open(paths: impl IntoIterator<Item = PathBuf>) -> Result<Self, MullamaError> {
        let open = |path: PathBuf| {
            let opened = File::open(&path).and_then(|file| Ok((Version::of(&file.metadata()?), file)));
            match opened {
                Ok((version, file)) => Ok(Watched { path, file, version }),
                Err(error) => Err(MullamaError::ModelLoad { path, source: ModelLoadFailure::Io(Arc::new(error)) }),
            }
        };
        Ok(Self { files: paths.into_iter().map(open).collect::<Result<_, _>>()? })
    }

    /// Checks that the files were not written to since then. One `fstat` per file takes about a microsecond.
    pub(crate) fn check(&self) -> Result<(), MullamaError> {
        let changed = self.files.iter().find(|watched| !watched.is_unchanged(watched.file.metadata()));
        match changed {
            None => Ok(()),
            Some(watched) => {
                let (path, len) = (watched.path.clone(), watched.version.len);
                Err(MullamaError::StreamingError(StreamFailure::ModelFileChanged { path, len }))
            }
        }
    }

    /// Checks at the end of a load that the paths still refer to the files that were opened before it began.
    pub(crate) fn check_paths(&self) -> Result<(), MullamaError> {
        let changed = self.files.iter().find(|watched| !watched.is_unchanged(std::fs::metadata(&watched.path)));
        match changed {
            None => Ok(()),
            Some(watched) => Err(MullamaError::ModelLoad {
                path: watched.path.clone(),
                source: ModelLoadFailure::ChangedWhileLoading,
            }),
        }
    }
}

impl Watched {
    fn is_unchanged(&self, metadata: std::io::Result<Metadata>) -> bool {
        metadata.is_ok_and(|metadata| Version::of(&metadata) == self.version)
    }
}
