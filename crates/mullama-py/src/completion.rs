//! A whole answer: a stream, read to its end.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::stream::TokenStream;
use crate::token::Token;
use crate::usage::{Timings, Usage};

/// A stream that was read to its end. `str()` of it is the text.
#[pyclass(frozen, get_all, module = "mullama")]
#[derive(Debug)]
pub(crate) struct Completion {
    /// The text: all items' texts, joined.
    text: String,
    /// The items.
    tokens: Py<PyTuple>,
    /// How it ended: "stop", "length" or "cancelled".
    finish_reason: &'static str,
    /// The stop sequence that ended it, if one did.
    stop_sequence: Option<String>,
    /// What it cost in tokens.
    usage: Usage,
    /// What it cost in time.
    timings: Timings,
    /// The seed in use, chosen or given.
    seed: u32,
}

impl Completion {
    /// Reads a stream to its end.
    pub(crate) fn read(py: Python<'_>, stream: &TokenStream) -> PyResult<Self> {
        let mut tokens: Vec<Token> = Vec::new();
        while let Some(token) = stream.next(py)? {
            tokens.push(token);
        }
        Ok(Self {
            text: stream.text(),
            tokens: PyTuple::new(py, tokens)?.unbind(),
            finish_reason: stream.finish_reason().unwrap_or("cancelled"),
            stop_sequence: stream.stop_sequence(),
            usage: stream.usage(),
            timings: stream.timings(),
            seed: stream.seed(),
        })
    }
}

#[pymethods]
impl Completion {
    fn __str__(&self) -> &str {
        &self.text
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let text = self.text.as_str().into_pyobject(py)?.repr()?;
        Ok(format!("Completion({text}, finish_reason='{}')", self.finish_reason))
    }
}
