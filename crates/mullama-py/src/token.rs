//! One item of a stream, as Python sees it.

use mullama::TokenId;
use pyo3::prelude::*;

/// One item of a stream: what became certain with one computed token.
///
/// `str(token)` is its text, so tokens can be printed and joined as they come.
#[pyclass(frozen, eq, get_all, str = "{text}", module = "mullama")]
#[derive(PartialEq)]
pub(crate) struct Token {
    /// Text that became certain with this token; perhaps empty, always whole characters.
    text: String,
    /// The token's id; None for text that was held back when the stream ended.
    id: Option<TokenId>,
    /// The token's own bytes, which need not be whole characters.
    bytes: Vec<u8>,
    /// Place in the stream, from 0.
    index: usize,
    /// Natural logarithm of the token's probability before sampling; None without `logprobs`.
    logprob: Option<f32>,
    /// The likeliest tokens at this place as pairs of id and log-probability, likeliest first; empty without `logprobs`.
    top_logprobs: Vec<(TokenId, f32)>,
}

impl From<mullama::Token> for Token {
    fn from(token: mullama::Token) -> Self {
        let mullama::Token { text, id, bytes, index, logprob, top_logprobs } = token;
        Self { text, id, bytes, index, logprob, top_logprobs }
    }
}

#[pymethods]
impl Token {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let text = self.text.as_str().into_pyobject(py)?.repr()?;
        let id = self.id.map_or_else(|| "None".to_owned(), |id| id.to_string());
        Ok(format!("Token({text}, id={id}, index={})", self.index))
    }
}
