//! The digest of a file that is still being written: follows its contiguous bytes from the start.
//!
//! The bytes are read back from the file, which the system's page cache holds. So the digest covers what a reader of the
//! file will get, including the bytes of earlier attempts.

use std::fmt::Write;
use std::io;

use sha2::{Digest as _, Sha256};

use super::part_file::PartFile;
use super::record::Prefix;

/// Bytes per read: few enough for the processor's cache.
const CHUNK_LEN: usize = 256 << 10;

/// Why the digest could not be computed.
#[derive(Debug)]
pub(super) enum NoDigest {
    /// The file cannot be read.
    Disk(io::Error),
    /// The file no longer has the bytes that its record lists.
    Damaged,
    /// The attempt ended before the file was complete.
    Stopped,
}

/// Computes the digest of a file until it is complete. Blocks.
pub(super) fn follow(file: &PartFile, recorded: Option<&Prefix>) -> Result<String, NoDigest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK_LEN];
    let mut at = 0;
    while let Some(frontier) = file.wait_for_bytes(at) {
        let boundary = recorded.map(|prefix| prefix.len).filter(|&len| len > at);
        let end = frontier.min(boundary.unwrap_or(u64::MAX)).min(at + CHUNK_LEN as u64);
        let chunk = &mut buffer[..usize::try_from(end - at).expect("a chunk is short")];
        file.read_at(chunk, at).map_err(NoDigest::Disk)?;
        hasher.update(&*chunk);
        at = end;
        if let Some(prefix) = recorded.filter(|prefix| prefix.len == at)
            && prefix.sha256 != hex(&hasher)
        {
            return Err(NoDigest::Damaged);
        }
        file.hashed(at, &hasher);
    }
    if file.is_complete(at) { Ok(hex(&hasher)) } else { Err(NoDigest::Stopped) }
}

/// The digest of what was hashed until now.
pub(super) fn hex(hasher: &Sha256) -> String {
    hasher.clone().finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
