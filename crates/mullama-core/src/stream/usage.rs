//! What a stream has used so far: tokens and time.

use std::time::Duration;

/// Token counts of a stream, readable while it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, including those that the model adds, such as BOS.
    pub prompt_tokens: usize,
    /// Tokens of the prompt that were taken from a cached prefix instead of being computed.
    pub cached_tokens: usize,
    /// Tokens computed after the prompt, including an end-of-generation token that is no item of the stream.
    pub completion_tokens: usize,
}

/// Where the time of a stream went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// From the call until the stream got a slot.
    pub queue: Duration,
    /// From getting a slot to the first token: the prompt's computation.
    pub prefill: Duration,
    /// From the call to the first token.
    pub first_token: Duration,
    /// From the first token to the latest.
    pub decode: Duration,
    /// How long the stream was paused because its buffer was full.
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
    /// The stream failed; the error says why.
    Error,
}

impl FinishReason {
    /// The name that every language uses.
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
