//! One item of a stream.

use mullama_ffi::TokenId;

/// One item of a stream: what became certain with one computed token.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Text that became certain with this token; perhaps empty, always whole characters.
    pub text: String,
    /// The token's id; `None` for text that was held back when the stream ended.
    pub id: Option<TokenId>,
    /// The token's own bytes, which need not be whole characters.
    pub bytes: Vec<u8>,
    /// Place in the stream, from 0.
    pub index: usize,
    /// Natural logarithm of the token's probability before sampling; with `logprobs` only.
    pub logprob: Option<f32>,
    /// The likeliest tokens at this place with their log-probabilities, likeliest first; with `logprobs` only.
    pub top_logprobs: Vec<(TokenId, f32)>,
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}
