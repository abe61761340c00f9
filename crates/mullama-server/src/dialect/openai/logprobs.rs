//! Log-probabilities, in the shape of chat completions and in the one of completions.

use std::sync::Arc;

use mullama::{Model, Token, TokenId};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::generation::finite;

/// A number that JSON shows with as few digits as it needs, in streams and in documents.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Short(pub(crate) f32);

impl Short {
    fn of_logprob(logprob: f32) -> Self {
        Self(finite(logprob))
    }

    pub(crate) fn as_f64(self) -> f64 {
        self.0.to_string().parse().unwrap_or_else(|_| self.0.into())
    }
}

impl Serialize for Short {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_f64())
    }
}

/// The log-probabilities of one chunk.
#[derive(Debug, Serialize)]
pub(crate) struct LogprobsBody {
    content: Vec<TokenLogprob>,
    refusal: Option<()>,
}

/// The log-probability of one token, with the most likely ones.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TokenLogprob {
    token: String,
    logprob: Short,
    bytes: Vec<u8>,
    top_logprobs: Vec<TopLogprob>,
}

#[derive(Debug, Clone, Serialize)]
struct TopLogprob {
    token: String,
    logprob: Short,
    bytes: Vec<u8>,
}

impl TopLogprob {
    fn new(bytes: Vec<u8>, logprob: f32) -> Self {
        Self { token: String::from_utf8_lossy(&bytes).into_owned(), logprob: Short::of_logprob(logprob), bytes }
    }
}

/// The log-probabilities of tokens; text that was held back at the end is no token of its own.
pub(crate) fn of_tokens<'a>(tokens: impl IntoIterator<Item = &'a Token>, model: &Arc<Model>) -> Vec<TokenLogprob> {
    let top = |(id, logprob): &(TokenId, f32)| TopLogprob::new(model.token_bytes(*id), *logprob);
    let one = |token: &Token| {
        let TopLogprob { token: text, logprob, bytes } = TopLogprob::new(token.bytes.clone(), token.logprob?);
        let top_logprobs = token.top_logprobs.iter().map(top).collect();
        Some(TokenLogprob { token: text, logprob, bytes, top_logprobs })
    };
    tokens.into_iter().filter_map(one).collect()
}

impl LogprobsBody {
    pub(crate) fn of<'a>(tokens: impl IntoIterator<Item = &'a Token>, model: &Arc<Model>) -> Self {
        Self { content: of_tokens(tokens, model), refusal: None }
    }
}

/// The log-probabilities of a completion: lists of the same length.
#[derive(Debug, Default, Serialize)]
pub(crate) struct LegacyLogprobs {
    text_offset: Vec<usize>,
    token_logprobs: Vec<Short>,
    tokens: Vec<String>,
    top_logprobs: Vec<Map<String, Value>>,
}

impl LegacyLogprobs {
    /// `offset` is the number of characters before the first token, and after the call that after the last one.
    pub(crate) fn of<'a>(tokens: impl IntoIterator<Item = &'a Token>, model: &Arc<Model>, offset: &mut usize) -> Self {
        let mut body = Self::default();
        for (token, logprob) in tokens.into_iter().filter_map(|token| Some((token, token.logprob?))) {
            let text = shown(&token.bytes);
            // The token itself is always among its alternatives.
            let mut top = Map::new();
            for (id, logprob) in &token.top_logprobs {
                top.insert(shown(&model.token_bytes(*id)), Short::of_logprob(*logprob).as_f64().into());
            }
            let logprob = Short::of_logprob(logprob);
            top.entry(text.clone()).or_insert_with(|| logprob.as_f64().into());
            body.text_offset.push(*offset);
            body.token_logprobs.push(logprob);
            body.tokens.push(text);
            body.top_logprobs.push(top);
            *offset += characters(&token.bytes);
        }
        body
    }
}

/// The number of characters that begin in these bytes: a token may hold a part of one.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0b1100_0000 != 0b1000_0000).count()
}

/// A token as text; one that is only a part of a character is spelled in bytes, as `OpenAI` does.
fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("bytes:".to_owned(), |text, byte| text + &format!("\\x{byte:02x}")),
    }
}
