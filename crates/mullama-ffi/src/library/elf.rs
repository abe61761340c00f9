//! Reads one section of an ELF file, without loading the file: loading a library already runs code of it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

const HEADER_BYTES: usize = 64;
const SECTION_BYTES: usize = 64;
/// Above what a build id or the names of a library's sections need.
const MAX_SECTION_BYTES: u64 = 1 << 20;

/// The content of the section with this name, or `None` if the file has none. Only 64-bit little-endian files are read.
pub(super) fn section(file: &mut File, name: &str) -> io::Result<Option<Vec<u8>>> {
    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header)?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Err(damaged("it is no 64-bit ELF file"));
    }
    if usize::from(u16_at(&header, 0x3a)) != SECTION_BYTES {
        return Err(damaged("its section headers have an unknown size"));
    }
    let mut table = vec![0; SECTION_BYTES * usize::from(u16_at(&header, 0x3c))];
    file.seek(SeekFrom::Start(u64_at(&header, 0x28)))?;
    file.read_exact(&mut table)?;
    let (sections, _) = table.as_chunks::<SECTION_BYTES>();
    let names = sections.get(usize::from(u16_at(&header, 0x3e))).ok_or_else(|| damaged("it names no sections"))?;
    let names = content(file, names)?;
    for section in sections {
        let start = usize::try_from(u32_at(section, 0)).unwrap_or(usize::MAX);
        if names.get(start..).is_some_and(|rest| rest.split(|byte| *byte == 0).next() == Some(name.as_bytes())) {
            return content(file, section).map(Some);
        }
    }
    Ok(None)
}

fn content(file: &mut File, section: &[u8; SECTION_BYTES]) -> io::Result<Vec<u8>> {
    let bytes = u64_at(section, 32);
    if bytes > MAX_SECTION_BYTES {
        return Err(damaged("a section of it is too large"));
    }
    let mut content = Vec::new();
    file.seek(SeekFrom::Start(u64_at(section, 24)))?;
    file.take(bytes).read_to_end(&mut content)?;
    Ok(content)
}

fn damaged(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn u16_at<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
