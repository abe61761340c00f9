//! What a stream has cost so far, as Python sees it.

use pyo3::prelude::*;

/// Tokens of a stream.
#[pyclass(frozen, eq, hash, get_all, module = "mullama")]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Usage {
    /// Tokens of the prompt, those that the model adds included.
    prompt_tokens: usize,
    /// Tokens of the prompt that did not have to be computed again.
    cached_tokens: usize,
    /// Tokens computed after the prompt, one that ended the stream included.
    completion_tokens: usize,
}

impl From<mullama::Usage> for Usage {
    fn from(usage: mullama::Usage) -> Self {
        let mullama::Usage { prompt_tokens, cached_tokens, completion_tokens } = usage;
        Self { prompt_tokens, cached_tokens, completion_tokens }
    }
}

#[pymethods]
impl Usage {
    fn __repr__(&self) -> String {
        let Self { prompt_tokens, cached_tokens, completion_tokens } = self;
        format!(
            "Usage(prompt_tokens={prompt_tokens}, cached_tokens={cached_tokens}, completion_tokens={completion_tokens})"
        )
    }
}

/// Where the time of a stream went, in seconds.
#[pyclass(frozen, eq, get_all, module = "mullama")]
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Timings {
    /// From the call to the first place in a batch.
    queue: f64,
    /// From the first place in a batch to the prompt's last token.
    prefill: f64,
    /// From the call to the first token.
    first_token: f64,
    /// From the first token to the newest.
    decode: f64,
    /// How long the stream stood still because its reader had no room.
    reader_wait: f64,
}

impl From<mullama::Timings> for Timings {
    fn from(timings: mullama::Timings) -> Self {
        let mullama::Timings { queue, prefill, first_token, decode, reader_wait } = timings;
        Self {
            queue: queue.as_secs_f64(),
            prefill: prefill.as_secs_f64(),
            first_token: first_token.as_secs_f64(),
            decode: decode.as_secs_f64(),
            reader_wait: reader_wait.as_secs_f64(),
        }
    }
}

#[pymethods]
impl Timings {
    fn __repr__(&self) -> String {
        let Self { queue, prefill, first_token, decode, reader_wait } = self;
        format!(
            "Timings(queue={queue:.6}, prefill={prefill:.6}, first_token={first_token:.6}, decode={decode:.6}, \
             reader_wait={reader_wait:.6})"
        )
    }
}
