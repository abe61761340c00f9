//! The bytes of an answer, frame by frame.

use std::io::Write as _;

use serde::Serialize;

/// Frames that wait to be written: server-sent events, or lines of JSON.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    /// A server-sent event without a name.
    pub(crate) fn event(&mut self, data: &impl Serialize) {
        self.bytes.extend_from_slice(b"data: ");
        self.json(data);
        self.bytes.extend_from_slice(b"\n\n");
    }

    /// A server-sent event with a name.
    pub(crate) fn named_event(&mut self, name: &str, data: &impl Serialize) {
        let _ = writeln!(self.bytes, "event: {name}");
        self.event(data);
    }

    /// A server-sent event whose data is a word and not JSON.
    pub(crate) fn word(&mut self, word: &str) {
        let _ = write!(self.bytes, "data: {word}\n\n");
    }

    /// A comment, which clients ignore.
    pub(crate) fn comment(&mut self, words: &str) {
        let _ = write!(self.bytes, ": {words}\n\n");
    }

    /// A line of JSON.
    pub(crate) fn line(&mut self, data: &impl Serialize) {
        self.json(data);
        self.bytes.push(b'\n');
    }

    fn json(&mut self, data: &impl Serialize) {
        // Neither a dialect's values nor a vector of bytes can fail. JSON has no line breaks, so an event has one line.
        let _ = serde_json::to_writer(&mut self.bytes, data);
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}
