//! What a request's streams produce.

use std::time::Duration;

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

    /// What it was when a token was computed that is delivered now, while the engine may be tokens ahead of it. The time
    /// of decoding is that of the tokens up to this one at their average rate.
    pub(crate) fn at(mut self, token: &Token) -> Self {
        let delivered = token.index + usize::from(token.id.is_some());
        let computed = self.usage.completion_tokens;
        if let (Ok(passed), Ok(all @ 1..)) =
            (u32::try_from(delivered.saturating_sub(1)), u32::try_from(computed.saturating_sub(1)))
            && delivered < computed
        {
            self.usage.completion_tokens = delivered;
            self.timings.decode = self.timings.decode * passed / all;
            self.timings.reader_wait = self.timings.reader_wait * passed / all;
        }
        self
    }

    /// The time that the tokens after the first took to compute, without the time that they waited for the reader.
    pub(crate) fn decoding(&self) -> Duration {
        self.timings.decode.saturating_sub(self.timings.reader_wait)
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

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn token(index: usize, id: Option<i32>) -> Token {
        let (text, bytes) = ("a".to_owned(), b"a".to_vec());
        Token { text, id, bytes, index, logprob: None, top_logprobs: Vec::new() }
    }

    #[test]
    fn the_progress_at_a_token_is_that_of_its_delivery_and_not_of_what_is_computed() {
        let usage = Usage { completion_tokens: 11, ..Usage::default() };
        let timings = Timings { decode: MS(100), reader_wait: MS(50), ..Timings::default() };
        let progress = Progress { usage, timings };
        for (index, id, tokens, decode) in
            [(0, Some(7), 1, 0), (4, Some(7), 5, 40), (10, Some(7), 11, 100), (11, None, 11, 100)]
        {
            let at = progress.at(&token(index, id));
            assert_eq!((at.usage.completion_tokens, at.timings.decode), (tokens, MS(decode)), "{index}");
            assert_eq!(at.decoding(), MS(decode / 2), "{index}");
        }
        let first = Progress { usage: Usage { completion_tokens: 1, ..usage }, timings: Timings::default() };
        assert_eq!(first.at(&token(0, Some(7))), first);
    }
}
