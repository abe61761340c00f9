//! When models were used last: one empty file per model, whose time of change is the answer.

use std::fs::{File, FileTimes};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::files::{self, names_in};
use super::{Store, key_of};

/// Most models that are remembered; far more than anybody has.
const MODELS_MOST: usize = 10_000;

impl Store {
    /// Remembers that the model at `path` is used now. A store that cannot be written to is no error.
    pub(crate) fn touch(&self, path: &Path) {
        let Ok(folder) = files::make_folders(self.root(), &["last-used"]) else {
            return;
        };
        let at = self.last_used_path(path);
        if !at.exists() && names_in(&folder).len() >= MODELS_MOST {
            return;
        }
        if files::write(&folder, &key_of(path.as_os_str().as_encoded_bytes()), b"").is_ok()
            && let Ok(file) = File::options().write(true).open(&at)
        {
            let _ = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
        }
    }

    /// When the model at `path` was used last, in seconds since 1970; `None` if it never was.
    pub(crate) fn last_used(&self, path: &Path) -> Option<u64> {
        let modified = std::fs::metadata(self.last_used_path(path)).and_then(|found| found.modified()).ok()?;
        modified.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
    }

    /// Forgets when the model at `path` was used last.
    pub(crate) fn forget_last_used(&self, path: &Path) {
        let _ = files::remove(&self.last_used_path(path));
    }

    fn last_used_path(&self, path: &Path) -> PathBuf {
        self.root().join("last-used").join(key_of(path.as_os_str().as_encoded_bytes()))
    }
}
