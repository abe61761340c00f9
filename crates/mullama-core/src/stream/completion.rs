//! A whole answer: a stream that was read to its end.

use crate::stream::TokenStream;
use crate::stream::token::Token;
use crate::stream::usage::{FinishReason, Timings, Usage};

/// A stream that was read to its end.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Completion {
    /// The texts of all tokens, joined.
    pub text: String,
    /// The tokens.
    pub tokens: Vec<Token>,
    /// How it ended.
    pub finish_reason: FinishReason,
    /// The stop sequence that ended it, if one did.
    pub stop_sequence: Option<String>,
    /// Token counts.
    pub usage: Usage,
    /// Where the time went.
    pub timings: Timings,
    /// The seed that was used.
    pub seed: u32,
}

impl Completion {
    pub(crate) fn of(stream: &TokenStream, tokens: Vec<Token>) -> Self {
        Self {
            text: stream.text(),
            tokens,
            finish_reason: stream.finish_reason().unwrap_or(FinishReason::Cancelled),
            stop_sequence: stream.stop_sequence(),
            usage: stream.usage(),
            timings: stream.timings(),
            seed: stream.seed(),
        }
    }
}

impl std::fmt::Display for Completion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}
