//! One item of a stream, as Python sees it: a value that is compared, hashed, copied and pickled.

use std::hash::{Hash, Hasher};

use mullama::{MullamaError, TokenId};
use mullama_py_common::to_py;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};

/// One item of a stream: the text that became certain with one generated token.
///
/// `str(token)` is its text, so tokens can be printed as they arrive; `"".join(map(str, tokens))` joins them.
#[pyclass(frozen, eq, hash, get_all, str = "{text}", module = "mullama")]
#[derive(PartialEq)]
pub(crate) struct Token {
    /// Text that became certain with this token. May be empty; always whole characters.
    text: String,
    /// The token's id; None for text that was held back when the stream ended.
    id: Option<TokenId>,
    /// The token's own bytes, which may end within a character.
    bytes: Vec<u8>,
    /// Index in the stream, from 0.
    index: usize,
    /// Natural logarithm of the token's probability before sampling; None unless `logprobs` was set.
    logprob: Option<f32>,
    /// The most likely tokens at this index as pairs of id and log-probability, most likely first; empty unless
    /// `logprobs` was set.
    top_logprobs: Vec<(TokenId, f32)>,
}

/// The fields in the order of the constructor's arguments.
type Fields = (String, Option<TokenId>, Vec<u8>, usize, Option<f32>, Vec<(TokenId, f32)>);

impl Hash for Token {
    /// Log-probabilities are left out: equal tokens have the same hash all the same.
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.text, self.id, &self.bytes, self.index).hash(state);
    }
}

/// What a read of a stream comes to; `None` is its end.
pub(crate) type Item = Option<Result<mullama::Token, MullamaError>>;

impl Token {
    /// The token that was read, or its error, or what Python raises at the end.
    pub(crate) fn from_read(py: Python<'_>, item: Item, end: impl FnOnce() -> PyErr) -> PyResult<Self> {
        let token = item.ok_or_else(end)?.map_err(|error| to_py(py, &error))?;
        let mullama::Token { text, id, bytes, index, logprob, top_logprobs } = token;
        Ok(Self { text, id, bytes, index, logprob, top_logprobs })
    }
}

#[pymethods]
impl Token {
    /// The package reads the arguments: its errors name the field, and what it takes.
    #[new]
    #[pyo3(signature = (*args, **fields))]
    #[pyo3(text_signature = "(text, id=None, bytes=None, index=0, logprob=None, top_logprobs=())")]
    fn new(args: &Bound<'_, PyTuple>, fields: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        static READ: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let read = READ.import(args.py(), "mullama._token", "read_fields")?.call(args, fields)?;
        let (text, id, bytes, index, logprob, top_logprobs): Fields = read.extract()?;
        Ok(Self { text, id, bytes, index, logprob, top_logprobs })
    }

    /// The fields by name, as JSON can hold them: `bytes` is a list of integers.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let fields = PyDict::new(py);
        macro_rules! set { ($($name:ident),*) => { $(fields.set_item(stringify!($name), &self.$name)?;)* } }
        set!(text, id);
        fields.set_item("bytes", PyList::new(py, self.bytes.iter().copied())?)?;
        set!(index, logprob, top_logprobs);
        Ok(fields)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> (Bound<'py, PyType>, Fields) {
        let Self { text, id, bytes, index, logprob, top_logprobs } = slf.get();
        (slf.get_type(), (text.clone(), *id, bytes.clone(), *index, *logprob, top_logprobs.clone()))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let text = self.text.as_str().into_pyobject(py)?.repr()?;
        let id = self.id.map_or_else(|| "None".to_owned(), |id| id.to_string());
        Ok(format!("Token({text}, id={id}, index={})", self.index))
    }
}
