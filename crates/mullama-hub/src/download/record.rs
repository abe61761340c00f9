//! The record of a part file: which download the file belongs to, and which of its bytes are certainly on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::answer::Identity;
use super::plan::Ranges;

/// Raised when the meaning of a field changes; a record of another version is not used.
const VERSION: u32 = 1;
/// The most bytes of a record. Eight connections leave a handful of ranges.
const MOST_BYTES: u64 = 1 << 20;

/// What is known about a part file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    /// The digest of the whole content, if it is known, in hexadecimal.
    pub(super) digest: Option<String>,
    /// The length of the whole content.
    pub(super) len: u64,
    /// Which content it was.
    pub(super) identity: Identity,
    /// The bytes that were written, and synchronized with the disk.
    pub(super) ranges: Ranges,
    /// The digest of the first bytes: what shows that the file still has what was written into it.
    pub(super) prefix: Prefix,
}

/// The first bytes of a file and their digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Prefix {
    pub(super) len: u64,
    pub(super) sha256: String,
}

impl Record {
    pub(super) fn new(len: u64, identity: Identity, ranges: Ranges, prefix: Prefix) -> Self {
        Self { version: VERSION, digest: None, len, identity, ranges, prefix }
    }

    /// Whether it belongs to the content with this digest and length, and to a part file of `file_len` bytes.
    ///
    /// Without a digest, only a server that names its contents can tell whether this one is still the same.
    pub(super) fn fits(&self, digest: Option<&str>, len: Option<u64>, file_len: u64) -> bool {
        self.version == VERSION
            && self.digest.as_deref() == digest
            && len.is_none_or(|len| len == self.len)
            && (digest.is_some() || self.identity.validator.is_some())
            && self.ranges.end() <= self.len.min(file_len)
            && self.prefix.len <= self.ranges.frontier()
    }

    /// The record at `path`, if there is one that can be read.
    pub(super) fn load(path: &Path) -> Option<Self> {
        let mut bytes = Vec::new();
        let file = open(OpenOptions::new().read(true), path).ok()?;
        file.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Replaces the record at `path`. A crash leaves the old one or the new one.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let replacement = path.with_extension("json.new");
        match fs::remove_file(&replacement) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = open(OpenOptions::new().write(true).create_new(true), &replacement)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&replacement, path)
    }
}

/// Opens a file, but not what a symbolic link at its path leads to.
pub(crate) fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, libc::O_NOFOLLOW);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let identity = Identity { validator: Some("\"x\"".to_owned()), url: "https://a/b".to_owned() };
        let ranges = Ranges::try_from(vec![(0, 10), (20, 30)]).unwrap();
        let prefix = Prefix { len: 8, sha256: "00".repeat(32) };
        Record { digest: Some("ab".repeat(32)), ..Record::new(40, identity, ranges, prefix) }
    }

    #[test]
    fn a_saved_record_is_loaded_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.part.json");
        record().save(&path).unwrap();
        record().save(&path).unwrap();
        assert_eq!(Record::load(&path), Some(record()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_record_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.part.json");
        record().save(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            assert_eq!(Record::load(&path), None);
        }
        assert_eq!(Record::load(folder.path()), None);
    }

    #[test]
    fn a_record_of_another_content_or_file_is_not_used() {
        let (good, digest) = (record(), "ab".repeat(32));
        assert!(good.fits(Some(&digest), Some(40), 30));
        assert!(good.fits(Some(&digest), None, 31));
        assert!(!good.fits(Some(&digest), Some(41), 30), "the length differs");
        assert!(!good.fits(Some(&digest), Some(40), 29), "the file is too short");
        assert!(!good.fits(None, Some(40), 30), "the digest was known");
        assert!(!Record { version: 2, ..record() }.fits(Some(&digest), Some(40), 30));
        let nameless = Identity { validator: None, url: String::new() };
        assert!(!Record { digest: None, identity: nameless, ..record() }.fits(None, Some(40), 30));
        let beyond = Prefix { len: 11, ..record().prefix };
        assert!(!Record { prefix: beyond, ..record() }.fits(Some(&digest), Some(40), 30));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_is_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (folder.path().join("x.part.json"), folder.path().join("elsewhere"));
        fs::write(&elsewhere, "precious").unwrap();
        std::os::unix::fs::symlink(&elsewhere, folder.path().join("x.part.json.new")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        record().save(&path).unwrap();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "precious");
        assert_eq!(Record::load(&path), Some(record()));
    }
}
