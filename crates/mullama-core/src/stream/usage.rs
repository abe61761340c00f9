//! What a stream has cost so far, in tokens and in time.

use std::time::Duration;

/// Tokens of a stream, readable while it runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, those that the model adds included.
    pub prompt_tokens: usize,
    /// Tokens of the prompt whose KV was there already and was not computed again.
    pub cached_tokens: usize,
    /// Tokens computed after the prompt, one that ended the stream included.
    pub completion_tokens: usize,
}

/// Where the time of a stream went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// From the call to the first place in a batch.
    pub queue: Duration,
    /// From the first place in a batch to the prompt's last token.
    pub prefill: Duration,
    /// From the call to the first token.
    pub first_token: Duration,
    /// From the first token to the newest.
    pub decode: Duration,
    /// How long the stream was paused because its reader had no room.
    pub reader_wait: Duration,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// By an end-of-generation token, a stop sequence or a stop token.
    Stop,
    /// `max_tokens` or the context was reached.
    Length,
    /// The reader cancelled or left.
    Cancelled,
    /// A deadline passed.
    Timeout,
    /// The engine failed.
    Error,
}

impl FinishReason {
    /// The word that every language uses.
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
