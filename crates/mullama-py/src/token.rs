//! One item of a stream, as Python sees it.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// One item of a stream: what became certain with one computed token.
///
/// `str(token)` is its text, so tokens can be printed and joined as they come.
#[pyclass(frozen, eq, module = "mullama")]
#[derive(Debug, PartialEq)]
pub(crate) struct Token(mullama::Token);

impl From<mullama::Token> for Token {
    fn from(token: mullama::Token) -> Self {
        Self(token)
    }
}

#[pymethods]
impl Token {
    /// Text that became certain with this token; perhaps empty, always whole characters.
    #[getter]
    fn text(&self) -> &str {
        &self.0.text
    }

    /// The token's id; None for text that was held back when the stream ended.
    #[getter]
    fn id(&self) -> Option<i32> {
        self.0.id
    }

    /// The token's own bytes, which need not be whole characters.
    #[getter]
    fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// Place in the stream, from 0.
    #[getter]
    fn index(&self) -> usize {
        self.0.index
    }

    /// Natural logarithm of the token's probability before sampling; None without `logprobs`.
    #[getter]
    fn logprob(&self) -> Option<f32> {
        self.0.logprob
    }

    /// The likeliest tokens at this place as pairs of id and log-probability, likeliest first; empty without `logprobs`.
    #[getter]
    fn top_logprobs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.0.top_logprobs)
    }

    fn __str__(&self) -> &str {
        &self.0.text
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let text = self.0.text.as_str().into_pyobject(py)?.repr()?;
        let id = self.0.id.map_or_else(|| "None".to_owned(), |id| id.to_string());
        Ok(format!("Token({text}, id={id}, index={})", self.0.index))
    }
}
