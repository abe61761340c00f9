//! A whole answer: a stream that was read to the end.

use crate::stream::TokenStream;
use crate::stream::token::Token;
use crate::stream::usage::{FinishReason, Timings, Usage};

/// A stream that was read to the end.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Completion {
    /// The joined texts of all tokens.
    pub text: String,
    /// The tokens.
    pub tokens: Vec<Token>,
    /// How the stream ended.
    pub finish_reason: FinishReason,
    /// The stop sequence that ended the stream, if one did.
    pub stop_sequence: Option<String>,
    /// Token counts of prompt and completion.
    pub usage: Usage,
    /// Where the time went.
    pub timings: Timings,
    /// The seed that was used, chosen by the caller or by the engine.
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
