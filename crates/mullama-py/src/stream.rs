//! The reader's end of a stream: what it takes natively. The package's `TokenStream` adds the async face.

use std::time::Duration;

use mullama::{FinishReason, TryNext};
use pyo3::exceptions::{PyStopAsyncIteration, PyStopIteration};
use pyo3::prelude::*;

use crate::error::to_py;
use crate::held::Held;
use crate::notifier::NotifyHandle;
use crate::token::Token;
use crate::{config, context::Context, prompt, wait};

/// The native half of `TokenStream`.
#[pyclass(frozen, subclass, weakref, module = "mullama._mullama")]
pub(crate) struct TokenStream {
    reader: Held<mullama::TokenStream>,
}

/// A token, or none yet; after the last one the exception that `end` makes.
fn told(py: Python<'_>, next: TryNext, end: fn() -> PyErr) -> PyResult<Option<Token>> {
    match next {
        TryNext::Token(token) => Ok(Some(token.into())),
        TryNext::Failed(error) => Err(to_py(py, &error)),
        TryNext::Pending => Ok(None),
        TryNext::Ended => Err(end()),
    }
}

#[pymethods]
impl TokenStream {
    #[new]
    fn new(context: &Context, prompt: &Bound<'_, PyAny>, config: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = prompt.py();
        let context = context.held(py)?;
        let config = config::stream_config(config)?;
        let stream = context.stream(prompt::read(prompt)?, config).map_err(|error| to_py(py, &error))?;
        Ok(Self { reader: Held::new(stream) })
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Token>> {
        told(py, wait::next(py, &self.reader)?, || PyStopIteration::new_err(()))
    }

    /// The next token if it is there, else None; `StopAsyncIteration` after the last.
    fn take(&self, py: Python<'_>) -> PyResult<Option<Token>> {
        told(py, self.reader.next_within(Duration::ZERO), || PyStopAsyncIteration::new_err(()))
    }

    /// Has the bell rung, by the stream's rope, at the next news; True if there is some now.
    fn watch(&self, rope: &NotifyHandle) -> bool {
        self.reader.watch(&rope.0)
    }

    /// Stops the generation, from any thread. What was produced can still be read; then the stream is over.
    fn cancel(&self) {
        self.reader.cancel();
    }

    /// Stops the generation and throws away what was not read. Leaving a `with` block does the same.
    fn close(&self) {
        self.reader.close();
    }

    /// Items handed out so far.
    #[getter]
    fn tokens_generated(&self) -> usize {
        self.reader.tokens_generated()
    }

    /// Tokens computed a second, between the first and the newest; 0.0 before there are two.
    fn tokens_per_second(&self) -> f64 {
        self.reader.tokens_per_second()
    }

    /// How it ended: "stop", "length", "cancelled", "timeout" or "error"; None before everything was read.
    #[getter]
    fn finish_reason(&self) -> Option<&'static str> {
        self.reader.finish_reason().map(FinishReason::as_str)
    }

    /// The stop sequence that ended it, if one did.
    #[getter]
    fn stop_sequence(&self) -> Option<String> {
        self.reader.stop_sequence()
    }

    /// Tokens so far: of the prompt, cached ones of those, and completion tokens.
    fn counts(&self) -> (usize, usize, usize) {
        let usage = self.reader.usage();
        (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
    }

    /// Where the time went so far, in seconds: queue, prefill, first token, decode, the reader's wait.
    fn spans(&self) -> [f64; 5] {
        let timings = self.reader.timings();
        let spans = [timings.queue, timings.prefill, timings.first_token, timings.decode, timings.reader_wait];
        spans.map(|span| span.as_secs_f64())
    }

    /// The seed in use, chosen or given.
    #[getter]
    fn seed(&self) -> u32 {
        self.reader.seed()
    }

    /// All text handed out so far.
    #[getter]
    fn text(&self) -> String {
        self.reader.text()
    }
}
