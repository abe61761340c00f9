//! What a request's streams produce.

use mullama::{FinishReason, MullamaError, StreamHandle, Timings, Token, Usage};

/// Counts and durations of a stream so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Progress {
    pub(crate) usage: Usage,
    pub(crate) timings: Timings,
}

impl Progress {
    pub(crate) fn of(handle: &StreamHandle) -> Self {
        Self { usage: handle.usage(), timings: handle.timings() }
    }
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ending {
    pub(crate) reason: FinishReason,
    /// The stop sequence that ended it, if one did.
    pub(crate) stop_sequence: Option<String>,
    pub(crate) progress: Progress,
    pub(crate) seed: u32,
}

/// One event of a request. `choice` is the index of the stream, for requests that ask for several answers.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A token, whose text may be empty.
    Token { choice: usize, token: Token, progress: Progress },
    /// The stream ended well.
    End { choice: usize, ending: Ending },
    /// The stream failed; the other streams of the request are closed.
    Failed { error: MullamaError },
}

/// The log-probability that `OpenAI`'s API shows for a token that is impossible.
const IMPOSSIBLE: f32 = -9999.0;

/// A log-probability as a number that JSON has: it has no infinity.
pub(crate) fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { IMPOSSIBLE }
}
