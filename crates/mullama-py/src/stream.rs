//! The reader's end of a stream.

use mullama::{FinishReason, MullamaError, Waited};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::Arc;

use crate::error::to_py;
use crate::held::Held;
use crate::token::Token;
use crate::wait;

/// A stream of tokens, each there as soon as it exists. `Context.generate_stream` opens it.
///
/// Reading blocks without the GIL until the next token is there; any thread may read, cancel and close.
/// A stream that nothing refers to any more stops by itself.
///
/// Raises:
///     `InvalidPromptError`: The first read says what is wrong with the prompt.
///     `ContextOverflowError`: The prompt leaves no room in the context; the first read says so.
///     `StreamTimeoutError`: A deadline passed. What was produced before comes first.
///     `GenerationError`: The engine could not go on with this stream.
///     `EngineClosedError`: The model was closed.
#[pyclass(frozen, weakref, module = "mullama")]
pub(crate) struct TokenStream {
    /// The stream, and the model whose engine computes it: at the exit, engines are closed through their models.
    reader: Held<(mullama::TokenStream, Arc<mullama::Model>)>,
    /// What the prompt is instead of a prompt; told where the core finds it empty.
    refusal: Option<PyErr>,
}

impl TokenStream {
    pub(crate) fn new(stream: mullama::TokenStream, model: &Arc<mullama::Model>, refusal: Option<PyErr>) -> Self {
        Self { reader: Held::new((stream, Arc::clone(model))), refusal }
    }

    fn stream(&self) -> &mullama::TokenStream {
        &self.reader.0
    }
}

#[pymethods]
impl TokenStream {
    fn __iter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Token>> {
        match (wait::next(py, self.stream())?, &self.refusal) {
            (Waited::Token(token), _) => Ok(Some(token.into())),
            (Waited::Failed(MullamaError::InvalidPrompt(_)), Some(refusal)) => Err(refusal.clone_ref(py)),
            (Waited::Failed(error), _) => Err(to_py(py, &error)),
            (Waited::Over | Waited::Nothing, _) => Ok(None),
        }
    }

    /// Stops the generation, from any thread. What was produced can still be read; then the stream is over.
    fn cancel(&self) {
        self.stream().cancel();
    }

    /// Stops the generation and throws away what was not read. Leaving a `with` block does the same.
    fn close(&self) {
        self.stream().close();
    }

    fn __enter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyTuple>) {
        self.close();
    }

    /// Items handed out so far.
    fn tokens_generated(&self) -> usize {
        self.stream().tokens_generated()
    }

    /// Tokens computed a second, between the first and the newest; 0.0 before there are two.
    fn tokens_per_second(&self) -> f64 {
        self.stream().tokens_per_second()
    }

    /// How it ended: "stop", "length", "cancelled", "timeout" or "error"; None before everything was read.
    #[getter]
    fn finish_reason(&self) -> Option<&'static str> {
        self.stream().finish_reason().map(FinishReason::as_str)
    }

    /// The stop sequence that ended it, if one did.
    #[getter]
    fn stop_sequence(&self) -> Option<String> {
        self.stream().stop_sequence()
    }

    /// Tokens so far, as a `Usage`.
    #[getter]
    fn usage<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let usage = self.stream().usage();
        let counts = (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens);
        py.import("mullama._usage")?.getattr("Usage")?.call1(counts)
    }

    /// Where the time went so far, as `Timings`.
    #[getter]
    fn timings<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let timings = self.stream().timings();
        let spans = [timings.queue, timings.prefill, timings.first_token, timings.decode, timings.reader_wait];
        let seconds = PyTuple::new(py, spans.map(|span| span.as_secs_f64()))?;
        py.import("mullama._usage")?.getattr("Timings")?.call1(seconds)
    }

    /// The seed in use, chosen or given.
    #[getter]
    fn seed(&self) -> u32 {
        self.stream().seed()
    }

    /// All text handed out so far.
    #[getter]
    fn text(&self) -> String {
        self.stream().text()
    }

    fn __repr__(&self) -> String {
        let standing = self.finish_reason().unwrap_or("open");
        format!("<TokenStream {standing}, {} tokens read>", self.tokens_generated())
    }
}
