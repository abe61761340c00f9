//! Notices that a mapped model file was changed in place, before the engine computes with what is left of it.
//!
//! llama.cpp maps the weights, so whoever writes to the file writes to the model, and reading a page that was cut off ends
//! the process with SIGBUS. Nothing can prevent that while a step runs. A request that comes later is refused instead.

use std::fs::{File, Metadata};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::{ModelLoadFailure, MullamaError, StreamFailure};

/// The files that a model is mapped from, as they were when it was loaded. It is empty where nothing is mapped.
///
/// It keeps the files open, so that it looks at what is mapped: a file that was deleted, or replaced by renaming another one
/// over it, stays as it was for this process and does no harm.
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

/// What changes when somebody writes to a file.
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
    /// Opens the files and remembers how they are.
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

    /// Checks that nobody wrote to a file since. One `fstat` per file: about a microsecond.
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

    /// Checks at the end of a load that the paths still lead to the files that were open before it began.
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
