//! The header of one GGUF file: its version, metadata and tensors, and the check that the tensors' data is in the file.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::Path;

use super::GgufError;
use super::metadata::Metadata;
use super::reader::{ReadError, Reader};
use super::tensors::{self, Tensor};

/// `GGUF_DEFAULT_ALIGNMENT`.
const ALIGNMENT_DEFAULT: u32 = 32;
/// The largest memory page that files are aligned to.
const ALIGNMENT_MOST: u32 = 1 << 21;

/// The contents of one file's header.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) metadata: Metadata,
    pub(super) tensors: Vec<Tensor>,
    pub(super) file_len: u64,
}

impl Header {
    /// Reads the header of the file at `path`.
    pub(super) fn read(path: &Path) -> Result<Self, GgufError> {
        let io = |source| GgufError::Io { path: path.to_owned(), source };
        // This check comes before the file is opened, because opening a pipe would wait forever.
        if !fs::metadata(path).map_err(io)?.is_file() {
            return Err(GgufError::NotAFile { path: path.to_owned() });
        }
        let file = File::open(path).map_err(io)?;
        let file_len = file.metadata().map_err(io)?.len();
        Self::parse(file, file_len).map_err(|error| match error {
            ReadError::Io(source) => io(source),
            ReadError::Gguf(error) => error,
        })
    }

    /// Reads the header of a file of `file_len` bytes.
    fn parse<R: Read + Seek>(file: R, file_len: u64) -> Result<Self, ReadError> {
        if file_len == 0 {
            return Err(GgufError::Empty.into());
        }
        let mut reader = Reader::new(file, file_len);
        let found = reader.bytes("the magic")?;
        if found != *b"GGUF" {
            return Err(GgufError::WrongMagic { found }.into());
        }
        let version = reader.u32("the version")?;
        check_version(version)?;
        let tensors = reader.u64("the number of tensors")?;
        let keys = reader.u64("the number of metadata keys")?;
        let metadata = Metadata::read(&mut reader, keys)?;
        let alignment = alignment(&metadata)?;
        let tensors = tensors::read(&mut reader, tensors)?;
        tensors::check_layout(&tensors, reader.at(), alignment.into(), file_len)?;
        Ok(Self { version, metadata, tensors, file_len })
    }
}

fn check_version(version: u32) -> Result<(), GgufError> {
    match version {
        2 | 3 => Ok(()),
        // The value is a small number in the other byte order.
        _ if version != 0 && version.trailing_zeros() >= 16 => Err(GgufError::BigEndian { version }),
        _ => Err(GgufError::UnsupportedVersion { version }),
    }
}

fn alignment(metadata: &Metadata) -> Result<u32, GgufError> {
    let alignment = metadata.u32("general.alignment")?.unwrap_or(ALIGNMENT_DEFAULT);
    if !alignment.is_power_of_two() || alignment > ALIGNMENT_MOST {
        return Err(GgufError::BadAlignment { alignment, limit: ALIGNMENT_MOST });
    }
    Ok(alignment)
}
