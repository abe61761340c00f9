//! One item of a stream.

use mullama_ffi::TokenId;

/// One item of a stream: a computed token, and the text that became certain with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Text that became certain with this token. It consists of whole characters and may be empty.
    pub text: String,
    /// The token's id; `None` for text that was held back when the stream ended.
    pub id: Option<TokenId>,
    /// The token's own bytes, which may be only a part of a character.
    pub bytes: Vec<u8>,
    /// Index in the stream, starting at 0.
    pub index: usize,
    /// Natural logarithm of the token's probability before sampling; `None` without `logprobs`.
    pub logprob: Option<f32>,
    /// The most likely tokens at this position with their log-probabilities, most likely first; empty without
    /// `logprobs`.
    pub top_logprobs: Vec<(TokenId, f32)>,
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}
