//! Reads and writes small files of a store: bounded, atomic, and never through a link to elsewhere.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use mullama::DownloadFailure;

use crate::Unreadable;

/// Most entries of one folder that are looked at.
pub(crate) const ENTRIES_MOST: usize = 20_000;

/// How deep folders are looked into.
pub(crate) const DEPTH_MOST: usize = 8;
/// Most files and folders that are reported as unreadable.
const PROBLEMS_MOST: usize = 100;
/// How often folders are made, while somebody else removes them.
const FOLDER_TRIES: u32 = 8;

/// The content of a regular file of at most `most` bytes.
pub(crate) fn read_small(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait forever.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

/// Creates the folders `parts` below `root`, which may be a link, and refuses those that are links. Returns the last.
pub(crate) fn make_folders<S: AsRef<str>>(root: &Path, parts: &[S]) -> Result<PathBuf, DownloadFailure> {
    // Whoever removes the last file of a folder removes the folder, maybe before the next one is in it.
    for _ in 1..FOLDER_TRIES {
        if let Ok(folder) = make_folders_once(root, parts) {
            return Ok(folder);
        }
    }
    make_folders_once(root, parts)
}

fn make_folders_once<S: AsRef<str>>(root: &Path, parts: &[S]) -> Result<PathBuf, DownloadFailure> {
    fs::create_dir_all(root).map_err(|error| disk(root, &error))?;
    let mut folder = root.to_owned();
    for part in parts {
        folder.push(part.as_ref());
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(disk(&folder, &error)),
            _ => {}
        }
        // This does not follow a link.
        let found = fs::symlink_metadata(&folder).map_err(|error| disk(&folder, &error))?;
        if !found.is_dir() {
            let message = "it must be a folder; mullama does not write through links".to_owned();
            return Err(DownloadFailure::Disk { path: folder, message });
        }
    }
    Ok(folder)
}

/// Writes a file so that every reader, also after a crash, sees the old content or the new one.
pub(crate) fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), DownloadFailure> {
    let path = folder.join(name);
    write_new(folder, &path, bytes).map_err(|error| disk(&path, &error))
}

fn write_new(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(folder)?;
    file.write_all(bytes)?;
    share(file.as_file())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    sync_folder(folder)
}

/// Temporary files are for their owner alone, but models are not secret.
#[cfg(unix)]
fn share(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn share(_file: &File) -> io::Result<()> {
    Ok(())
}

/// Makes what was renamed in a folder last through a crash. Windows does this by itself.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Removes a file; `false` if there is none.
pub(crate) fn remove(path: &Path) -> Result<bool, DownloadFailure> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(disk(path, &error)),
    }
}

/// Removes the folder and those above it that become empty, up to `root`, which stays.
pub(crate) fn remove_empty_folders(folder: &Path, root: &Path) {
    let below = folder.ancestors().take_while(|folder| folder.starts_with(root) && *folder != root);
    for folder in below {
        match fs::remove_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return,
            _ => {}
        }
    }
}

/// All names in a folder, without hidden ones; none if there is no such folder.
///
/// # Errors
///
/// Why it is not known what is in the folder.
pub(crate) fn all_names_in(folder: &Path) -> Result<Vec<String>, Unreadable> {
    let unreadable = |error: io::Error| Unreadable::new(folder, error);
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.map_err(unreadable)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(unreadable)?.file_name();
        names.extend(name.into_string().ok().filter(|name| !name.starts_with('.')));
        if names.len() > ENTRIES_MOST {
            return Err(Unreadable::new(folder, format_args!("it has more than {ENTRIES_MOST} entries")));
        }
    }
    Ok(names)
}

/// The names in a folder, without hidden ones, in order; none if it cannot be read.
pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let names = entries.take(ENTRIES_MOST).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names = names.filter(|name| !name.starts_with('.')).collect::<Vec<_>>();
    names.sort_unstable();
    names
}

/// What could not be read while stores were looked through.
#[derive(Debug, Default)]
pub(crate) struct Problems(RefCell<Vec<Unreadable>>);

impl Problems {
    /// Notes one, unless there are too many already.
    pub(crate) fn note(&self, problem: Unreadable) {
        let mut noted = self.0.borrow_mut();
        if noted.len() < PROBLEMS_MOST && !noted.contains(&problem) {
            noted.push(problem);
        }
    }

    /// The names in a folder, as `names_in`; that it cannot be read is noted.
    pub(crate) fn names_in(&self, folder: &Path) -> Vec<String> {
        if let Err(problem) = all_names_in(folder) {
            self.note(problem);
        }
        names_in(folder)
    }

    /// Notes that there is something else than a folder at the path of a store, or that nobody knows. A store that is
    /// missing is no problem.
    pub(crate) fn check_store(&self, root: &Path) {
        match fs::metadata(root) {
            Ok(found) if !found.is_dir() => self.note(Unreadable::new(root, "it is not a folder")),
            Err(error) if error.kind() != io::ErrorKind::NotFound => self.note(Unreadable::new(root, error)),
            _ => {}
        }
    }

    /// What was noted.
    pub(crate) fn into_list(self) -> Vec<Unreadable> {
        self.0.into_inner()
    }
}

/// The regular files below a folder, as far as they can be read; folders that are links are not entered.
pub(crate) fn below(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![(folder.to_owned(), 0)], Vec::new());
    while let Some((folder, depth)) = folders.pop() {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            if found.len() + folders.len() >= ENTRIES_MOST {
                return found;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < DEPTH_MOST => folders.push((entry.path(), depth + 1)),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}

/// The path of a file whose name begins like that of a blob.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// An error of the disk.
pub(crate) fn disk(path: &Path, error: &io::Error) -> DownloadFailure {
    DownloadFailure::Disk { path: path.to_owned(), message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{make_folders, read_small, remove_empty_folders, write};

    #[test]
    fn a_file_is_replaced_as_a_whole_and_leaves_nothing_beside_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = make_folders(root.path(), &["a", "b"]).unwrap();
        write(&folder, "x", b"old").unwrap();
        write(&folder, "x", b"new").unwrap();
        assert_eq!(fs::read(folder.join("x")).unwrap(), b"new");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_written_through_a_link() {
        let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink(elsewhere.path(), root.path().join("a")).unwrap();
        assert!(make_folders(root.path(), &["a", "b"]).is_err());
        let target = elsewhere.path().join("target");
        fs::write(&target, "untouched").unwrap();
        std::os::unix::fs::symlink(&target, root.path().join("x")).unwrap();
        write(root.path(), "x", b"new").unwrap();
        assert_eq!(fs::read(target).unwrap(), b"untouched");
        assert_eq!(fs::read(root.path().join("x")).unwrap(), b"new");
    }

    #[test]
    fn what_is_too_long_or_no_file_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "x", &[7; 11]).unwrap();
        assert!(read_small(&root.path().join("x"), 10).is_err());
        assert_eq!(read_small(&root.path().join("x"), 11).unwrap().len(), 11);
        assert!(read_small(root.path(), 10).is_err());
    }

    #[test]
    fn only_empty_folders_are_removed_and_never_the_root() {
        let root = tempfile::tempdir().unwrap();
        let folder = make_folders(root.path(), &["a", "b", "c"]).unwrap();
        write(&root.path().join("a"), "x", b"").unwrap();
        remove_empty_folders(&folder, root.path());
        assert!(root.path().join("a").is_dir() && !root.path().join("a/b").exists());
    }
}
