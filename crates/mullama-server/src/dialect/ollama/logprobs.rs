//! Log-probabilities as Ollama writes them.

use mullama::{Token, TokenId};
use serde::Serialize;

use crate::generation::finite;
use crate::models::Loaded;

/// The log-probability of a token, and those of the most likely ones.
#[derive(Debug, Serialize)]
pub(super) struct TokenLogprob {
    #[serde(flatten)]
    token: Spelled,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    top_logprobs: Vec<Spelled>,
}

#[derive(Debug, Serialize)]
struct Spelled {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

impl Spelled {
    fn of(bytes: Vec<u8>, logprob: f32) -> Self {
        Self { token: String::from_utf8_lossy(&bytes).into_owned(), logprob: finite(logprob), bytes }
    }
}

impl TokenLogprob {
    /// `None` for text that is no token of its own.
    pub(super) fn of(token: &Token, model: &Loaded) -> Option<Self> {
        let spell = |(id, logprob): &(TokenId, f32)| {
            Spelled::of(model.context().model().detokenize(&[*id]).unwrap_or_default(), *logprob)
        };
        let top_logprobs = token.top_logprobs.iter().map(spell).collect();
        Some(Self { token: Spelled::of(token.bytes.clone(), token.logprob?), top_logprobs })
    }
}
