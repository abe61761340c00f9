//! How far the prompts of a request are computed, for clients that ask to be told.

use std::time::Duration;

use tokio::time::Instant;

use super::{Dialect, Frames, Streams};

/// How often a client is told.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);

/// How far one prompt is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefill {
    /// Tokens of the prompt; 0 until it is tokenized.
    pub(crate) total: usize,
    /// Tokens that were reused from a cached prefix.
    pub(crate) cached: usize,
    /// Tokens that are computed, and those that were reused.
    pub(crate) computed: usize,
    /// Time since the request.
    pub(crate) elapsed: Duration,
}

/// What the client of a request was told of its prompts.
#[derive(Debug)]
pub(super) struct PrefillReport {
    started: Instant,
    /// Of each choice, the number of computed tokens that was told last; `None` once its first token is there.
    told: Vec<Option<usize>>,
}

impl PrefillReport {
    pub(super) fn new(choices: usize) -> Self {
        Self { started: Instant::now(), told: vec![Some(0); choices] }
    }

    /// Whether a prompt is not computed yet.
    pub(super) fn goes_on(&self) -> bool {
        self.told.iter().any(Option::is_some)
    }

    /// Tells what is new.
    pub(super) fn tell(&mut self, streams: &Streams, dialect: &mut impl Dialect, frames: &mut Frames) {
        for choice in 0..self.told.len() {
            self.tell_one(choice, streams, dialect, frames);
        }
    }

    /// Tells the end of a prefill, before the first event of its choice.
    pub(super) fn end(&mut self, choice: usize, streams: &Streams, dialect: &mut impl Dialect, frames: &mut Frames) {
        self.tell_one(choice, streams, dialect, frames);
        self.told[choice] = None;
    }

    fn tell_one(&mut self, choice: usize, streams: &Streams, dialect: &mut impl Dialect, frames: &mut Frames) {
        let Some(told) = &mut self.told[choice] else { return };
        let prefill = streams.prefill(choice, self.started.elapsed());
        if prefill.computed > *told {
            *told = prefill.computed;
            dialect.prefill(choice, &prefill, frames);
        }
    }
}
