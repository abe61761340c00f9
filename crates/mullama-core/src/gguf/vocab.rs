//! Checks the vocabulary of a model: the tokens that llama.cpp loads, and the special tokens that it adds to a prompt.

use std::collections::HashSet;

use super::GgufError;
use super::metadata::{Kind, Metadata, TOKENS_KEY, Tokens, Value};

/// llama.cpp creates dummy tokens for a model without a vocabulary, about fifty bytes each.
const DUMMY_TOKENS_MOST: u32 = 1 << 22;
/// llama.cpp's work on a token may grow with the square of its length.
const SQUARES_MOST: u64 = 1 << 30;
/// The tokenizer of plamo2 splits every suffix of every token into all its prefixes.
const CUBES_MOST: u64 = 1 << 32;

/// Checks the vocabulary; returns its number of tokens, if the file has one.
pub(super) fn check(metadata: &Metadata, arch: &str) -> Result<Option<u64>, GgufError> {
    let key = "tokenizer.ggml.model";
    let model = metadata.text(key)?.ok_or_else(|| GgufError::MissingKey { key: key.to_owned() })?;
    if model == "no_vocab" || model == "none" {
        return check_dummies(metadata, arch).map(|()| None);
    }
    let (vocab_len, tokens) = find_tokens(metadata)?;
    check_texts(tokens, model)?;
    check_lens(metadata, vocab_len)?;
    check_special(metadata, model, vocab_len)?;
    if model == "rwkv" {
        check_rwkv(tokens)?;
    }
    Ok(Some(vocab_len))
}

/// Checks the number of dummy tokens that a model without a vocabulary requests.
fn check_dummies(metadata: &Metadata, arch: &str) -> Result<(), GgufError> {
    let key = format!("{arch}.vocab_size");
    match metadata.u32(&key)? {
        Some(value) if value > DUMMY_TOKENS_MOST => {
            Err(GgufError::TooLarge { key, value: value.into(), most: DUMMY_TOKENS_MOST })
        }
        _ => Ok(()),
    }
}

fn find_tokens(metadata: &Metadata) -> Result<(u64, &Tokens), GgufError> {
    let key = || TOKENS_KEY.to_owned();
    match metadata.get(TOKENS_KEY) {
        Some(Value::Array { kind: Kind::Text, len: 0, .. }) => {
            Err(GgufError::ArrayLength { key: key(), found: 0, wanted: 1 })
        }
        Some(Value::Array { kind: Kind::Text, len, tokens, .. }) => Ok((*len, tokens)),
        Some(_) => Err(GgufError::WrongKeyType { key: key(), found: "something else", wanted: "array of strings" }),
        None => Err(GgufError::MissingKey { key: key() }),
    }
}

/// llama.cpp asserts that no two tokens are equal; it truncates a token at a NUL, and names empty ones by their id.
fn check_texts(tokens: &Tokens, model: &str) -> Result<(), GgufError> {
    let mut seen = HashSet::new();
    let mut empty = Vec::new();
    let (mut squares, mut cubes) = (0_u64, 0_u64);
    for (token, text) in (0_u64..).zip(tokens.iter()) {
        let text = until_nul(text);
        let len = text.len() as u64;
        squares += len * len;
        cubes += len * len * len;
        if squares > SQUARES_MOST || (model == "plamo2" && cubes > CUBES_MOST) {
            return Err(GgufError::Token { token, why: "the tokens up to this one are too long together" });
        }
        if text.is_empty() {
            empty.push(token);
        } else if !seen.insert(text) {
            return Err(GgufError::Token { token, why: "an earlier token has the same text" });
        }
    }
    for token in empty {
        if seen.contains(format!("[EMPTY_{token}]").as_bytes()) {
            return Err(GgufError::Token { token, why: "another token has the text that stands for an empty one" });
        }
    }
    Ok(())
}

/// The part of a token's text that llama.cpp reads.
fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Arrays beside the tokens must be at least as long.
fn check_lens(metadata: &Metadata, vocab_len: u64) -> Result<(), GgufError> {
    for key in ["tokenizer.ggml.scores", "tokenizer.ggml.token_type"] {
        if let Some(Value::Array { len, .. }) = metadata.get(key)
            && *len < vocab_len
        {
            return Err(GgufError::ArrayLength { key: key.to_owned(), found: *len, wanted: vocab_len });
        }
    }
    Ok(())
}

/// The defaults of llama.cpp for the first and last token of a prompt, if the file does not set them.
struct Ends {
    first: Option<u64>,
    last: Option<u64>,
    adds_first: bool,
    adds_last: bool,
}

impl Ends {
    fn of(model: &str) -> Option<Self> {
        let (first, last, adds_first, adds_last) = match model {
            "llama" => (Some(1), Some(2), true, false),
            "plamo2" => (Some(1), Some(2), false, false),
            "bert" => (Some(101), None, true, false),
            "t5" => (None, Some(1), false, true),
            "gemma4" => (None, None, true, false),
            "gpt2" | "hybriddna" | "whitespace" => (Some(11), Some(11), false, false),
            _ => return None,
        };
        Some(Self { first, last, adds_first, adds_last })
    }
}

/// llama.cpp asserts that a special token which it adds exists; an id out of range falls back to a default.
fn check_special(metadata: &Metadata, model: &str, vocab_len: u64) -> Result<(), GgufError> {
    let Some(ends) = Ends::of(model) else {
        return Ok(());
    };
    let need = |key, default: Option<u64>| {
        let given = metadata.u32(key)?.map(u64::from);
        let found = [given, default].into_iter().flatten().any(|id| id < vocab_len);
        if found { Ok(()) } else { Err(GgufError::MissingSpecialToken { key, vocab_len }) }
    };
    let gemma4 = model == "gemma4" || metadata.text("tokenizer.ggml.pre")? == Some("gemma4");
    let adds_first = metadata.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(ends.adds_first);
    let adds_last = metadata.flag("tokenizer.ggml.add_eos_token")?.unwrap_or(ends.adds_last);
    if adds_first || gemma4 || model == "bert" {
        need("tokenizer.ggml.bos_token_id", ends.first)?;
    }
    if model == "bert" {
        need("tokenizer.ggml.seperator_token_id", Some(102))?;
    } else if adds_last {
        need("tokenizer.ggml.eos_token_id", ends.last)?;
    }
    Ok(())
}

/// RWKV's tokenizer starts again from the beginning of the text, without end, at a byte that begins a token and is none
/// itself. A byte that begins no token becomes the unknown token, which these vocabularies do not have.
fn check_rwkv(tokens: &Tokens) -> Result<(), GgufError> {
    let mut has_token = [false; 256];
    for text in tokens.iter() {
        // llama.cpp gives an empty token a longer text, so it is never a single byte.
        if let [byte] = *unescape(until_nul(text)) {
            has_token[usize::from(byte)] = true;
        }
    }
    match (0..=u8::MAX).find(|byte| !has_token[usize::from(*byte)]) {
        Some(byte) => Err(GgufError::MissingByteToken { byte }),
        None => Ok(()),
    }
}

/// The bytes that a token of an RWKV vocabulary stands for, as llama.cpp reads it; none where that is not certain.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b't') => bytes.push(b'\t'),
            Some(b'n') => bytes.push(b'\n'),
            Some(b'r') => bytes.push(b'\r'),
            Some(b'x') => {
                if let [Some(high), Some(low)] = [rest.next(), rest.next()] {
                    // What it makes of such a digit depends on the processor.
                    if !(high.is_ascii() && low.is_ascii()) {
                        return Vec::new();
                    }
                    bytes.push((hex(high) << 4).wrapping_add(hex(low)));
                }
            }
            Some(other) => bytes.push(other),
            None => {}
        }
    }
    bytes
}

/// A hexadecimal digit's value, and what llama.cpp makes of any other ASCII character.
fn hex(digit: u8) -> u8 {
    let begin = if digit >= b'a' { b'a' - 10 } else { b'0' };
    digit.wrapping_sub(begin)
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn escapes_are_read_as_llama_cpp_reads_them() {
        let cases: [(&[u8], &[u8]); 9] = [
            (b"abc", b"abc"),
            (br"\t\n\r", b"\t\n\r"),
            (br"\x41\xe2", b"A\xe2"),
            (br"\\", br"\"),
            (br"\q", b"q"),
            (br"a\", b"a"),
            (br"\x4", b""),
            (b"a\\x\xe94", b""),
            (br"\xAb", &[(b'A' - b'0') << 4 | 0xb]),
        ];
        for (text, bytes) in cases {
            assert_eq!(unescape(text), bytes, "{}", text.escape_ascii());
        }
    }
}
