//! Reads a file and tracks how much of it is left, so that nothing is allocated for bytes that cannot exist.

use std::io::{self, BufReader, Read, Seek};

use super::GgufError;

/// Why a read failed, before the file's path is known.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The operating system reported an error.
    Io(io::Error),
    /// The content is invalid.
    Gguf(GgufError),
}

impl From<io::Error> for ReadError {
    fn from(source: io::Error) -> Self {
        Self::Io(source)
    }
}

impl From<GgufError> for ReadError {
    fn from(error: GgufError) -> Self {
        Self::Gguf(error)
    }
}

/// Reads a file of known length sequentially.
pub(super) struct Reader<R> {
    inner: BufReader<R>,
    at: u64,
    file_len: u64,
}

impl<R: Read + Seek> Reader<R> {
    pub(super) fn new(inner: R, file_len: u64) -> Self {
        Self { inner: BufReader::new(inner), at: 0, file_len }
    }

    /// The offset of the next byte to read.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Refuses a count of items that take at least `each` bytes each if the rest of the file cannot hold them.
    pub(super) fn count(&self, what: &'static str, count: u64, each: u64, most: u64) -> Result<u64, GgufError> {
        let limit = most.min((self.file_len - self.at) / each);
        if count > limit {
            return Err(GgufError::TooMany { what, count, limit });
        }
        Ok(count)
    }

    pub(super) fn bytes<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ReadError> {
        let mut bytes = [0; N];
        self.advance(what, N as u64)?;
        self.inner.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, ReadError> {
        Ok(u32::from_le_bytes(self.bytes(what)?))
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, ReadError> {
        Ok(u64::from_le_bytes(self.bytes(what)?))
    }

    /// Reads a string into `text`, which is cleared first.
    pub(super) fn string(&mut self, what: &'static str, limit: u64, text: &mut Vec<u8>) -> Result<(), ReadError> {
        let len = self.string_len(what, limit)?;
        self.advance(what, len)?;
        text.clear();
        text.resize(usize::try_from(len).expect("the callers' limits are small"), 0);
        self.inner.read_exact(text)?;
        Ok(())
    }

    /// Skips a string.
    pub(super) fn skip_string(&mut self, what: &'static str, limit: u64) -> Result<(), ReadError> {
        let len = self.string_len(what, limit)?;
        self.skip(what, len)
    }

    pub(super) fn skip(&mut self, what: &'static str, len: u64) -> Result<(), ReadError> {
        self.advance(what, len)?;
        let step = i64::try_from(len).expect("a file's length fits i64");
        self.inner.seek_relative(step)?;
        Ok(())
    }

    fn string_len(&mut self, what: &'static str, limit: u64) -> Result<u64, ReadError> {
        let at = self.at;
        let len = self.u64(what)?;
        if len > limit {
            return Err(GgufError::TooLong { what, at, len, limit }.into());
        }
        Ok(len)
    }

    fn advance(&mut self, what: &'static str, needed: u64) -> Result<(), GgufError> {
        if needed > self.file_len - self.at {
            return Err(GgufError::Truncated { what, at: self.at, needed, file_len: self.file_len });
        }
        self.at += needed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::{GgufError, ReadError, Reader};

    fn reader(bytes: &[u8]) -> Reader<Cursor<Vec<u8>>> {
        Reader::new(Cursor::new(bytes.to_vec()), bytes.len() as u64)
    }

    #[test]
    fn nothing_is_read_or_skipped_beyond_the_end() {
        let mut reader = reader(&[1, 0, 0, 0, 9]);
        assert_eq!(reader.u32("a number").unwrap(), 1);
        let refused = reader.u32("a number");
        assert!(matches!(
            refused,
            Err(ReadError::Gguf(GgufError::Truncated { what: "a number", at: 4, needed: 4, file_len: 5 }))
        ));
        assert!(reader.skip("the rest", 2).is_err());
        reader.skip("the rest", 1).unwrap();
        assert_eq!(reader.at(), 5);
    }

    #[test]
    fn a_string_is_bounded_before_it_is_allocated() {
        let mut text = Vec::new();
        let mut long = reader(&u64::MAX.to_le_bytes());
        assert!(matches!(
            long.string("a string", 8, &mut text),
            Err(ReadError::Gguf(GgufError::TooLong { at: 0, len: u64::MAX, limit: 8, .. }))
        ));
        let mut cut = reader(&1_000_000_u64.to_le_bytes());
        assert!(cut.string("a string", u64::MAX, &mut text).is_err());
        assert_eq!(text.capacity(), 0);
    }

    #[test]
    fn a_count_is_bounded_by_what_the_rest_can_hold() {
        let reader = reader(&[0; 40]);
        reader.count("things", 10, 4, 100).unwrap();
        assert!(matches!(reader.count("things", 11, 4, 100), Err(GgufError::TooMany { limit: 10, .. })));
        assert!(matches!(reader.count("things", 10, 4, 5), Err(GgufError::TooMany { limit: 5, .. })));
    }

    #[test]
    fn a_file_that_shrinks_while_it_is_read_is_an_error() {
        let mut reader = Reader::new(Cursor::new(vec![0; 2]), 8);
        assert!(matches!(reader.u64("a number"), Err(ReadError::Io(_))));
    }
}
