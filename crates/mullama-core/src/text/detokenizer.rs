//! Turns token bytes into text, holding back an incomplete character until its last byte arrives.
//!
//! Flow: sample → **detokenize** → stop.

use std::str::from_utf8;

/// An incomplete character has at most three of its four bytes.
const MAX_INCOMPLETE: usize = 3;

/// Joins the bytes of tokens to whole characters. The text equals [`String::from_utf8_lossy`] of all bytes together,
/// regardless of how they are divided among tokens.
#[derive(Debug, Default)]
pub(crate) struct Detokenizer {
    incomplete: Vec<u8>,
}

impl Detokenizer {
    /// Processes the bytes of one token and appends the text that became certain.
    pub(crate) fn push(&mut self, bytes: &[u8], text: &mut String) {
        if self.incomplete.is_empty() {
            let rest = decode(bytes, text);
            self.incomplete.extend_from_slice(rest);
            return;
        }
        self.incomplete.extend_from_slice(bytes);
        let whole = std::mem::take(&mut self.incomplete);
        let rest = decode(&whole, text);
        self.incomplete.extend_from_slice(rest);
    }

    /// Ends the text: an incomplete character becomes U+FFFD.
    pub(crate) fn finish(&mut self, text: &mut String) {
        debug_assert!(self.incomplete.len() <= MAX_INCOMPLETE, "only an incomplete character is held");
        if !std::mem::take(&mut self.incomplete).is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// Appends the complete characters of `bytes` to `text`; returns the incomplete one at the end.
fn decode<'a>(mut bytes: &'a [u8], text: &mut String) -> &'a [u8] {
    loop {
        let error = match from_utf8(bytes) {
            Ok(valid) => {
                text.push_str(valid);
                return &[];
            }
            Err(error) => error,
        };
        let (valid, rest) = bytes.split_at(error.valid_up_to());
        text.push_str(from_utf8(valid).expect("valid_up_to says so"));
        // `error_len` is `None` only where more bytes can complete the character.
        let Some(impossible) = error.error_len() else { return rest };
        text.push(char::REPLACEMENT_CHARACTER);
        bytes = &rest[impossible..];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn in_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
        let mut detokenizer = Detokenizer::default();
        let mut text = String::new();
        for piece in pieces {
            detokenizer.push(piece, &mut text);
        }
        detokenizer.finish(&mut text);
        text
    }

    /// Bytes near the edges of UTF-8: characters of all lengths, truncated ones and stray bytes.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let character = any::<char>().prop_map(|c| c.to_string().into_bytes());
        let cut = any::<char>().prop_map(|c| c.to_string().as_bytes()[..1].to_vec());
        let stray = prop::collection::vec(any::<u8>(), 0..4);
        prop::collection::vec(prop_oneof![character, cut, stray], 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn any_chunking_of_the_bytes_gives_the_same_text(bytes in bytes(), size in 1_usize..5) {
            prop_assert_eq!(in_pieces(bytes.chunks(size)), String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn only_an_incomplete_character_is_held_back(bytes in bytes()) {
            let mut detokenizer = Detokenizer::default();
            let mut text = String::new();
            for byte in &bytes {
                detokenizer.push(&[*byte], &mut text);
                prop_assert!(detokenizer.incomplete.len() <= MAX_INCOMPLETE);
            }
        }
    }

    #[test]
    fn an_emoji_split_over_four_tokens_arrives_whole_with_the_last() {
        let mut detokenizer = Detokenizer::default();
        let pieces = "🦊".as_bytes().chunks(1).map(|byte| {
            let mut text = String::new();
            detokenizer.push(byte, &mut text);
            text
        });
        assert_eq!(pieces.collect::<Vec<_>>(), ["", "", "", "🦊"]);
    }

    #[test]
    fn a_stray_byte_becomes_a_replacement_character_at_once() {
        let mut text = String::new();
        Detokenizer::default().push(&[b'a', 0xFF, b'b'], &mut text);
        assert_eq!(text, "a\u{FFFD}b");
    }
}
