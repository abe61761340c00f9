//! The native half of `TokenStream`: one reader at a time, observed and cancelled from anywhere.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use mullama::{FinishReason, StreamHandle, TryNext};
use mullama_py_common::settings::{self, Value};
use mullama_py_common::{stream_busy, to_py, wait};
use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;

use crate::held::{Held, lock};
use crate::next_token::{NextToken, Subscription};
use crate::token::{Item, Token};
use crate::{context::Context, prompt};

/// The native half of `TokenStream`.
#[pyclass(frozen, subclass, weakref, module = "mullama._mullama")]
pub(crate) struct TokenStream {
    /// Locked only by whoever has set `reading`.
    reader: Held<Mutex<mullama::TokenStream>>,
    handle: StreamHandle,
    /// A read is under way. A second one is refused.
    reading: AtomicBool,
    /// How many tokens an async reader may take before it yields to its event loop, and how many it has taken since.
    buffer_size: u32,
    in_a_row: AtomicU32,
    /// How to wake the event loop that read last.
    pub(crate) subscription: Mutex<Option<Subscription>>,
}

impl TokenStream {
    /// The handle, or `EngineClosedError` in a forked child: the only way to what the stream shares with its engine.
    fn handle(&self, py: Python<'_>) -> PyResult<&StreamHandle> {
        self.handle.check_process().map_err(|error| to_py(py, &error))?;
        Ok(&self.handle)
    }

    /// Makes the caller the one reader, or raises `StreamBusyError`; in a forked child, `EngineClosedError`.
    pub(crate) fn begin_read(&self, py: Python<'_>) -> PyResult<()> {
        // This comes first: in a forked child, a reader of the parent would count as reading for ever.
        self.handle(py)?;
        if self.reading.swap(true, Ordering::Acquire) { Err(stream_busy(py)) } else { Ok(()) }
    }

    pub(crate) fn end_read(&self) {
        self.reading.store(false, Ordering::Release);
    }

    /// The next item; `waker` is woken if it is `Pending` and can be read later. The caller must be the one reader.
    pub(crate) fn poll(&self, waker: &Waker) -> Poll<Item> {
        let polled = lock(&self.reader).poll_token(&mut TaskContext::from_waker(waker));
        let in_a_row = if polled.is_pending() { 0 } else { self.in_a_row.load(Ordering::Relaxed) + 1 };
        self.in_a_row.store(in_a_row, Ordering::Relaxed);
        polled
    }

    /// Whether an async reader that has always found a token must let its event loop run other tasks first.
    pub(crate) fn must_yield(&self) -> bool {
        let start_again = |in_a_row| (in_a_row >= self.buffer_size).then_some(0);
        self.in_a_row.fetch_update(Ordering::Relaxed, Ordering::Relaxed, start_again).is_ok()
    }
}

#[pymethods]
impl TokenStream {
    #[new]
    fn new(context: &Context, prompt: &Bound<'_, PyAny>, config: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = config.py();
        let context = context.0.get(py)?;
        let config = settings::stream_config(config)?;
        let buffer_size = config.buffer_size;
        let prompt = prompt::read(&Value(prompt.clone()), &context)?;
        let stream = context.stream(prompt, config).map_err(|error| to_py(py, &error))?;
        Ok(Self {
            handle: stream.handle(),
            reader: Held::new(Mutex::new(stream)),
            reading: AtomicBool::new(false),
            buffer_size,
            in_a_row: AtomicU32::new(0),
            subscription: Mutex::new(None),
        })
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Token> {
        self.begin_read(py)?;
        let item = next(py, &mut lock(&self.reader));
        self.end_read();
        Token::from_read(py, item?, || PyStopIteration::new_err(()))
    }

    /// The next token: at once if it is buffered, else when the notifier wakes the event loop.
    ///
    /// The token is taken only when it is returned, so a read that is cancelled loses nothing.
    fn __anext__(slf: Py<Self>) -> NextToken {
        NextToken::new(slf)
    }

    /// Stops the generation, from any thread or task. What was produced can still be read; then the stream has ended.
    fn cancel(&self) {
        self.handle.cancel();
    }

    /// Stops the generation and discards what was not read. Leaving a `with` block does the same.
    fn close(&self) {
        self.handle.close();
        // The handle wakes a reader that waits; if there is none, the buffer is freed at once.
        if !self.reading.swap(true, Ordering::Acquire) {
            lock(&self.reader).close();
            self.end_read();
        }
    }

    /// Whether a read is under way. For tests, which must know that a reader waits; it may change at any moment.
    #[getter(_being_read)]
    fn being_read(&self) -> bool {
        self.reading.load(Ordering::Acquire)
    }

    /// Items returned so far.
    #[getter]
    fn tokens_generated(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.handle(py)?.tokens_generated())
    }

    /// Completion tokens per second from the first to the latest; 0.0 until there are two.
    fn tokens_per_second(&self, py: Python<'_>) -> PyResult<f64> {
        Ok(self.handle(py)?.tokens_per_second())
    }

    /// How it ended: "stop", "length", "cancelled", "timeout" or "error"; None until everything before the end was read.
    #[getter]
    fn finish_reason(&self, py: Python<'_>) -> PyResult<Option<&'static str>> {
        Ok(self.handle(py)?.finish_reason().map(FinishReason::as_str))
    }

    /// The stop sequence that ended it, if one did.
    #[getter]
    fn stop_sequence(&self, py: Python<'_>) -> PyResult<Option<String>> {
        Ok(self.handle(py)?.stop_sequence())
    }

    /// Token counts so far: of the prompt, those of it taken from a cached prefix, and of the completion.
    fn _counts(&self, py: Python<'_>) -> PyResult<(usize, usize, usize)> {
        let usage = self.handle(py)?.usage();
        Ok((usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens))
    }

    /// Where the time went so far, in seconds: queue, prefill, first token, decode, waiting for the reader.
    fn _spans(&self, py: Python<'_>) -> PyResult<[f64; 5]> {
        let timings = self.handle(py)?.timings();
        let spans = [timings.queue, timings.prefill, timings.first_token, timings.decode, timings.reader_wait];
        Ok(spans.map(|span: Duration| span.as_secs_f64()))
    }

    /// The seed in use, chosen or given.
    #[getter]
    fn seed(&self, py: Python<'_>) -> PyResult<u32> {
        Ok(self.handle(py)?.seed())
    }

    /// All text returned so far.
    #[getter]
    fn text(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.handle(py)?.text())
    }
}

/// Waits for the next item; does not release the GIL if there is one. A signal handler that raises ends the stream.
fn next(py: Python<'_>, stream: &mut mullama::TokenStream) -> PyResult<Item> {
    let mut found = stream.next_within(Duration::ZERO);
    loop {
        match found {
            TryNext::Token(token) => return Ok(Some(Ok(token))),
            TryNext::Failed(error) => return Ok(Some(Err(error))),
            TryNext::Ended => return Ok(None),
            TryNext::Pending => {}
        }
        py.check_signals().inspect_err(|_| stream.cancel())?;
        found = py.detach(|| stream.next_within(wait::SLICE));
    }
}
