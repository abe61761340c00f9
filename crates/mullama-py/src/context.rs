//! Where streams are asked for, as Python sees it.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::completion::Completion;
use crate::config;
use crate::error::to_py;
use crate::held::{Closable, Held};
use crate::model::Model;
use crate::prompt;
use crate::stream::TokenStream;

/// Where streams are asked for. Light: contexts of equal params over one model share an engine and its memory.
///
/// Making one blocks, without the GIL, while the first of its kind allocates that memory.
///
/// Args:
///     model: The model.
///     params: How the engine is laid out.
///
/// Raises:
///     InvalidConfigError: A value of `params` is out of its range.
///     ModelLoadError: llama.cpp cannot make a context for the model.
///     EngineClosedError: The model was closed.
///
/// Example:
///     >>> context = Context(Model.load("demo"))
///     >>> print(context.generate("Count: 1, 2, 3,", max_tokens=6, temperature=0))
///      4, 5, 6
#[pyclass(frozen, weakref, module = "mullama")]
#[derive(Debug)]
pub(crate) struct Context {
    context: Closable<mullama::Context>,
    model: Py<Model>,
}

impl Context {
    fn open(&self, call: &str, prompt: &Bound<'_, PyAny>, asked: &Asked<'_, '_>) -> PyResult<TokenStream> {
        let py = prompt.py();
        let context = self.context.get(py)?;
        let config = config::stream_config(call, asked.config, asked.max_tokens, asked.overrides)?;
        // What is no prompt goes in as an empty one: it is refused in its turn, and the stream says why.
        let (prompt, refusal) = match prompt::read(prompt)? {
            Ok(prompt) => (prompt, None),
            Err(refusal) => (Vec::new().into(), Some(refusal)),
        };
        let stream = context.stream(prompt, config).map_err(|error| to_py(py, &error))?;
        Ok(TokenStream::new(stream, context.model(), refusal))
    }
}

/// How a stream is asked for, beside its prompt.
struct Asked<'a, 'py> {
    max_tokens: Option<&'a Bound<'py, PyAny>>,
    config: Option<&'a Bound<'py, PyAny>>,
    overrides: Option<&'a Bound<'py, PyDict>>,
}

#[pymethods]
impl Context {
    #[new]
    #[pyo3(signature = (model, params=None))]
    fn new(model: Bound<'_, Model>, params: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let py = model.py();
        let params = config::context_params(params)?;
        let weights = model.get().held(py)?;
        let context = py.detach(|| mullama::Context::new(weights.arc().clone(), params));
        let context = Held::new(context.map_err(|error| to_py(py, &error))?);
        Ok(Self { context: Closable::new("context", context), model: model.unbind() })
    }

    /// Opens a stream of tokens. Never blocks; reading the stream does.
    ///
    /// The stream ends by itself, or with `cancel()`, `close()`, leaving its `with` block, Ctrl-C, or when nothing
    /// refers to it any more: its compute is free within one step.
    ///
    /// Args:
    ///     prompt: Text, in which control tokens are parsed, or token ids, which are taken as they are.
    ///     max_tokens: Most tokens to generate; 256 if neither this nor `config` says.
    ///     config: All settings.
    ///     **overrides: Any field of `StreamConfig` but `max_tokens`, instead of what `config` says.
    ///
    /// Raises:
    ///     InvalidConfigError: A setting is out of its range.
    ///     OverloadedError: Too many streams are unfinished.
    ///     EngineClosedError: The context or its model was closed.
    ///
    /// Example:
    ///     >>> for token in context.generate_stream("Write a poem:", max_tokens=200):
    ///     ...     print(token.text, end="", flush=True)
    #[pyo3(signature = (prompt, max_tokens=None, *, config=None, **overrides))]
    fn generate_stream(
        &self,
        prompt: &Bound<'_, PyAny>,
        max_tokens: Option<&Bound<'_, PyAny>>,
        config: Option<&Bound<'_, PyAny>>,
        overrides: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<TokenStream> {
        self.open("generate_stream", prompt, &Asked { max_tokens, config, overrides })
    }

    /// Generates a whole answer: a stream, read to its end. Blocks without the GIL; Ctrl-C ends it.
    ///
    /// Takes the arguments of `generate_stream`, and raises what it raises and what reading a stream raises.
    #[pyo3(signature = (prompt, max_tokens=None, *, config=None, **overrides))]
    fn generate(
        &self,
        prompt: &Bound<'_, PyAny>,
        max_tokens: Option<&Bound<'_, PyAny>>,
        config: Option<&Bound<'_, PyAny>>,
        overrides: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Completion> {
        let stream = self.open("generate", prompt, &Asked { max_tokens, config, overrides })?;
        Completion::read(prompt.py(), &stream)
    }

    /// The model.
    #[getter]
    fn model(&self, py: Python<'_>) -> Py<Model> {
        self.model.clone_ref(py)
    }

    /// Most tokens of one stream, its prompt included.
    #[getter]
    fn context_len(&self, py: Python<'_>) -> PyResult<usize> {
        self.context.get(py)?.context_len().map_err(|error| to_py(py, &error))
    }

    /// Streams that have not ended, those of other contexts on the same engine included.
    #[getter]
    fn unfinished(&self, py: Python<'_>) -> PyResult<usize> {
        self.context.get(py)?.unfinished().map_err(|error| to_py(py, &error))
    }

    /// Lets go of the engine. Open streams go on; later calls are `EngineClosedError`. Closing again does nothing.
    fn close(&self) {
        drop(self.context.take());
    }

    fn __enter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyTuple>) {
        self.close();
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        if self.context.get(py).is_err() {
            return Ok("<Context, closed>".to_owned());
        }
        Ok(format!("<Context of {} tokens, {} streams unfinished>", self.context_len(py)?, self.unfinished(py)?))
    }
}
