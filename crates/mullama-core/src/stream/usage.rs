//! The tokens and the time that a stream has used so far.

use std::time::Duration;

/// Token counts of a stream, readable while it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, including those that the model adds, such as BOS.
    pub prompt_tokens: usize,
    /// Tokens of the prompt that were reused from a cached prefix instead of being computed.
    pub cached_tokens: usize,
    /// Tokens computed after the prompt, including an end-of-generation token, which is not an item of the stream.
    pub completion_tokens: usize,
}

/// Durations of the phases of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// Time from the call until the stream got a slot.
    pub queue: Duration,
    /// Time from getting a slot to the first token, which is mostly the prefill.
    pub prefill: Duration,
    /// Time from the call to the first token.
    pub first_token: Duration,
    /// Time from the first token to the latest.
    pub decode: Duration,
    /// Total time that the stream was paused because its buffer was full.
    pub reader_wait: Duration,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// An end-of-generation token, a stop sequence or a stop token.
    Stop,
    /// `max_tokens` or the length of the context was reached.
    Length,
    /// The reader cancelled or left.
    Cancelled,
    /// A deadline passed.
    Timeout,
    /// The stream failed; the error gives the reason.
    Error,
}

impl FinishReason {
    /// The name of the reason, the same in every language.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
            Self::Timeout => "timeout",
            Self::Error => "error",
        }
    }
}

impl std::fmt::Display for FinishReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
