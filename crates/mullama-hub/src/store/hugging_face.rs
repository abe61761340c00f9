//! The shared cache of Hugging Face, as `huggingface_hub` lays it out: `models--<user>--<repo>` with `blobs`,
//! `snapshots` and `refs`, and locks in `.locks`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use mullama::DownloadFailure;

use super::files::{self, Problems, disk, names_in, read_small};
use super::lock::{Lock, try_lock};
use super::repo_files::LocalRepo;
use crate::name::{is_file_path, is_repo_name};

/// Most locks of a repository that are taken at once; each is an open file.
const LOCKS_MOST: usize = 200;

/// The shared cache of Hugging Face.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache in the folder `root`.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder of one repository. Both names were checked by `ModelName::parse`.
    pub(crate) fn repo(&self, user: &str, repo: &str) -> Repo {
        Repo { cache: self.root.clone(), user: user.to_owned(), name: repo.to_owned() }
    }

    /// All repositories of models.
    pub(crate) fn repos(&self, problems: &Problems) -> Vec<Repo> {
        let repo = |folder: String| {
            let (user, repo) = folder.strip_prefix("models--")?.split_once("--")?;
            (is_repo_name(user) && is_repo_name(repo)).then(|| self.repo(user, repo))
        };
        problems.names_in(&self.root).into_iter().filter_map(repo).collect()
    }
}

/// One repository in the cache.
#[derive(Debug, Clone)]
pub(crate) struct Repo {
    cache: PathBuf,
    user: String,
    name: String,
}

impl Repo {
    /// Creates the folders of blobs and locks, and refuses those that are links to elsewhere.
    pub(crate) fn prepare(&self) -> Result<(), DownloadFailure> {
        files::make_folders(&self.cache, &[&self.folder_name(), "blobs"])?;
        files::make_folders(&self.cache, &[".locks", &self.folder_name()]).map(|_| ())
    }

    /// Where the blob with this `ETag` is, or will be. The `ETag` is the SHA-256 of a file in LFS, or the Git object id,
    /// without quotes and `W/`; anything but hexadecimal digits is refused as [`DownloadFailure::Protocol`].
    pub(crate) fn blob(&self, etag: &str) -> Result<PathBuf, DownloadFailure> {
        Ok(self.folder().join("blobs").join(self.hex(etag)?))
    }

    /// The file whose lock `huggingface_hub` holds while it downloads that blob: `.locks/<repo>/<etag>.lock`.
    pub(crate) fn lock(&self, etag: &str) -> Result<PathBuf, DownloadFailure> {
        let etag = self.hex(etag)?;
        Ok(self.cache.join(".locks").join(self.folder_name()).join(format!("{etag}.lock")))
    }

    /// Where the file `path` of the revision `commit` is, or will be. Paths that could leave the folder are refused.
    pub(crate) fn snapshot(&self, commit: &str, path: &str) -> Result<PathBuf, DownloadFailure> {
        let commit = self.hex(commit)?;
        if !is_file_path(path) {
            return Err(self.refuse("a file name", path));
        }
        Ok(self.folder().join("snapshots").join(commit).join(path))
    }

    /// Publishes a blob as the file `path` of the revision `commit`: a relative link, or a hard link or the file itself
    /// where there are no links. Returns the path in the snapshot. Atomic.
    pub(crate) fn publish(&self, commit: &str, path: &str, etag: &str) -> Result<PathBuf, DownloadFailure> {
        let (at, blob) = (self.snapshot(commit, path)?, self.blob(etag)?);
        let parts = path.split('/').collect::<Vec<_>>();
        let folder_name = self.folder_name();
        let mut folders = vec![folder_name.as_str(), "snapshots", commit];
        folders.extend(&parts[..parts.len() - 1]);
        let folder = files::make_folders(&self.cache, &folders)?;
        let target = PathBuf::from("../".repeat(parts.len() + 1)).join("blobs").join(etag);
        if fs::read_link(&at).is_ok_and(|found| found == target) {
            return Ok(at);
        }
        let temporary = folder.join(format!(".tmp-{:016x}", fastrand::u64(..)));
        let linked = link(&target, &temporary).or_else(|_| fs::hard_link(&blob, &temporary));
        let moved = match linked {
            Ok(()) => fs::rename(&temporary, &at),
            Err(_) => fs::rename(&blob, &at),
        };
        moved.and_then(|()| files::sync_folder(&folder)).map_err(|error| disk(&at, &error))?;
        Ok(at)
    }

    /// Lets the branch `revision` (`main`) stand for `commit`, once all files are published. Atomic.
    pub(crate) fn write_ref(&self, revision: &str, commit: &str) -> Result<(), DownloadFailure> {
        if !is_repo_name(revision) {
            return Err(self.refuse("a revision", revision));
        }
        let commit = self.hex(commit)?;
        let folder = files::make_folders(&self.cache, &[&self.folder_name(), "refs"])?;
        files::write(&folder, revision, commit.as_bytes())
    }

    /// Removes what stands for the revision `commit` once none of its files is left, and the folders that are empty then,
    /// with the locks of a repository of which nothing is left. Call it under the lock of the store.
    pub(crate) fn forget(&self, commit: &str) -> Result<(), DownloadFailure> {
        if !self.folder().join("snapshots").join(self.hex(commit)?).exists() {
            for at in files::below(&self.folder().join("refs")) {
                if read_small(&at, 128).is_ok_and(|found| found.trim_ascii() == commit.as_bytes()) {
                    files::remove(&at)?;
                    if let Some(folder) = at.parent() {
                        files::remove_empty_folders(folder, &self.folder());
                    }
                }
            }
        }
        // Whoever downloads a file of the repository needs its folders.
        let Some(locks) = self.locks() else { return Ok(()) };
        for inner in ["refs", "snapshots", "blobs"] {
            files::remove_empty_folders(&self.folder().join(inner), &self.cache);
        }
        if !self.folder().exists() {
            for (path, _lock) in &locks {
                files::remove(path)?;
            }
            files::remove_empty_folders(&self.cache.join(".locks").join(self.folder_name()), &self.cache);
        }
        Ok(())
    }

    /// All locks of the repository; `None` if somebody has one of them.
    fn locks(&self) -> Option<Vec<(PathBuf, Lock)>> {
        let folder = self.cache.join(".locks").join(self.folder_name());
        let names = names_in(&folder);
        if names.len() > LOCKS_MOST {
            return None;
        }
        let locked = |name: String| {
            let path = folder.join(name);
            let lock = try_lock(&path).ok().flatten()?;
            Some((path, lock))
        };
        names.into_iter().map(locked).collect()
    }

    /// The revisions on this machine: that of `main` first, then the newest.
    pub(crate) fn snapshots(&self, problems: &Problems) -> Vec<LocalRepo> {
        let folder = self.folder().join("snapshots");
        let main = read_small(&self.folder().join("refs").join("main"), 128).unwrap_or_default();
        let mut commits = problems.names_in(&folder);
        commits.sort_by_key(|commit| {
            let modified = fs::metadata(folder.join(commit)).and_then(|found| found.modified());
            let age = modified.ok().and_then(|time| SystemTime::now().duration_since(time).ok());
            (commit.as_bytes() != main.trim_ascii(), age.unwrap_or_default())
        });
        let read = |commit: &String| LocalRepo::read(&self.user, &self.name, folder.join(commit), problems);
        commits.iter().map(read).collect()
    }

    /// The folder of the repository.
    pub(crate) fn folder(&self) -> PathBuf {
        self.cache.join(self.folder_name())
    }

    fn folder_name(&self) -> String {
        format!("models--{}--{}", self.user, self.name)
    }

    /// The text if it is a SHA-1 or a SHA-256 in hexadecimal.
    fn hex<'a>(&self, text: &'a str) -> Result<&'a str, DownloadFailure> {
        let is_hex = matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_hex { Ok(text) } else { Err(self.refuse("a digest", text)) }
    }

    fn refuse(&self, what: &str, text: &str) -> DownloadFailure {
        let shown = text.chars().take(80).flat_map(char::escape_debug).collect::<String>();
        let url = format!("hf.co/{}/{}", self.user, self.name);
        DownloadFailure::Protocol { url, message: format!("{what} that cannot be used: {shown:?}") }
    }
}

/// Makes a relative link to a file.
#[cfg(unix)]
fn link(target: &Path, at: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, at)
}

#[cfg(windows)]
fn link(target: &Path, at: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, at)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Cache, Problems};
    use crate::ModelName;

    const COMMIT: &str = "0123456789012345678901234567890123456789";
    const OLD: &str = "9999999999012345678901234567890123456789";
    const ETAG: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn a_published_file_is_found_through_its_link() {
        let root = tempfile::tempdir().unwrap();
        let repo = Cache::new(root.path().to_owned()).repo("user", "repo");
        repo.prepare().unwrap();
        fs::write(repo.blob(ETAG).unwrap(), "weights").unwrap();
        let at = repo.publish(COMMIT, "sub/m-Q8_0.gguf", ETAG).unwrap();
        assert_eq!(repo.publish(COMMIT, "sub/m-Q8_0.gguf", ETAG).unwrap(), at);
        repo.write_ref("main", COMMIT).unwrap();
        assert_eq!(fs::read(&at).unwrap(), b"weights");
        assert_eq!(fs::read(repo.folder().join("refs/main")).unwrap(), COMMIT.as_bytes());
        #[cfg(unix)]
        assert_eq!(fs::read_link(&at).unwrap().to_str().unwrap(), format!("../../../blobs/{ETAG}"));
        assert!(repo.lock(ETAG).unwrap().ends_with(format!(".locks/models--user--repo/{ETAG}.lock")));
        let Ok(ModelName::HuggingFace(name)) = ModelName::parse("hf.co/user/repo:q8_0") else { panic!("no name") };
        assert_eq!(repo.snapshots(&Problems::default())[0].choose(&name).unwrap(), at);
    }

    #[test]
    fn main_comes_before_other_revisions_and_files_without_links_count() {
        let root = tempfile::tempdir().unwrap();
        let repo = Cache::new(root.path().to_owned()).repo("user", "repo");
        for (commit, file) in [(COMMIT, "m-Q4_K_M.gguf"), (OLD, "m-Q4_K_M.gguf"), (OLD, "m-Q8_0.gguf")] {
            let at = repo.snapshot(commit, file).unwrap();
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            fs::write(at, "x").unwrap();
        }
        repo.write_ref("main", COMMIT).unwrap();
        let all = repo.snapshots(&Problems::default());
        assert_eq!(all[0].models().len(), 1);
        assert_eq!(all[1].models()[1].0, "hf.co/user/repo:Q8_0");
    }

    #[test]
    fn nothing_from_a_server_leaves_the_cache() {
        let repo = Cache::new("/cache".into()).repo("user", "repo");
        for etag in ["", "..", "../x", "a/b", &ETAG[1..], &ETAG.replace('a', "g"), "W/\"x\""] {
            assert!(repo.blob(etag).is_err() && repo.lock(etag).is_err() && repo.snapshot(etag, "a").is_err());
        }
        for path in ["", "..", "a/../../b", "/a", "a\\b", "nul", "a\0"] {
            assert!(repo.snapshot(COMMIT, path).is_err() && repo.publish(COMMIT, path, ETAG).is_err(), "{path:?}");
        }
        assert!(repo.write_ref("../x", COMMIT).is_err() && repo.write_ref("main", "x").is_err());
    }

    #[test]
    fn no_branch_stands_for_a_revision_that_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let repo = Cache::new(root.path().to_owned()).repo("user", "repo");
        repo.prepare().unwrap();
        repo.write_ref("main", OLD).unwrap();
        let inner = repo.folder().join("refs/refs/pr");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("1"), COMMIT).unwrap();
        repo.forget(COMMIT).unwrap();
        assert!(!repo.folder().join("refs/refs").exists() && repo.folder().join("refs/main").exists());
        fs::write(repo.lock(ETAG).unwrap(), "").unwrap();
        repo.forget(OLD).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_folders_of_a_repository_stay_while_somebody_has_one_of_its_locks() {
        let root = tempfile::tempdir().unwrap();
        let repo = Cache::new(root.path().to_owned()).repo("user", "repo");
        repo.prepare().unwrap();
        let lock = super::try_lock(&repo.lock(ETAG).unwrap()).unwrap();
        repo.forget(COMMIT).unwrap();
        assert!(repo.folder().join("blobs").exists() && repo.lock(ETAG).unwrap().exists());
        drop(lock);
        repo.forget(COMMIT).unwrap();
        assert!(!repo.folder().exists() && !repo.lock(ETAG).unwrap().exists());
    }
}
