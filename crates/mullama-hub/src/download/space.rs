//! Whether a file fits on its disk.

use std::io;
use std::path::Path;

use mullama::DownloadFailure;

use crate::store::files::disk;

/// Refuses a download of which `needed` more bytes do not fit into the folder of `path`.
pub(super) fn check(path: &Path, needed: u64) -> Result<(), DownloadFailure> {
    // Where the system cannot tell, writing will.
    match free(path) {
        Ok(free) if free < needed => Err(DownloadFailure::NoSpace { path: path.to_owned(), needed, free }),
        _ => Ok(()),
    }
}

/// The failure for an error of writing, when `needed` more bytes had to be written.
pub(super) fn write_failure(path: &Path, needed: u64, error: &io::Error) -> DownloadFailure {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            let free = free(path).unwrap_or(0).min(needed.saturating_sub(1));
            DownloadFailure::NoSpace { path: path.to_owned(), needed, free }
        }
        _ => disk(path, error),
    }
}

fn free(path: &Path) -> io::Result<u64> {
    fs4::available_space(path.parent().unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_disk_has_is_refused_with_both_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        assert_eq!(check(&path, 1), Ok(()));
        let Err(DownloadFailure::NoSpace { needed, free, .. }) = check(&path, u64::MAX) else { panic!("it fits") };
        assert!(needed == u64::MAX && free > 0 && free < needed);
    }
}
