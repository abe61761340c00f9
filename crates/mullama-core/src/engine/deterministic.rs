//! The steps of deterministic streams: which stream is computed next, and what its step does.
//!
//! They alternate with the steps of the batch, so they take at most half of all steps while other streams run. Only one
//! of them runs at a time, because each decode call computes rows of a single stream anyway: to compute one after the
//! other finishes the average stream sooner than to interleave them.

use std::cmp::Reverse;
use std::time::Duration;

use mullama_ffi::Error;

use super::recovery::decode_failed;
use super::{Engine, Outcome};
use crate::engine::scheduler::RunState;
use crate::engine::sequence::Sequence;
use crate::kv::backend::Backend;

/// How many streams of a higher priority may start before the oldest one must.
const MAX_OVERTAKEN: usize = 4;

/// Decides whether a deterministic stream or the batch gets the next step.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Whether the last step belonged to a deterministic stream.
    ran_last: bool,
    /// How many streams started before the oldest one.
    overtaken: usize,
}

impl Turns {
    /// Whether a deterministic stream runs before the batch in this step.
    pub(super) fn batch_waits(&self) -> bool {
        !self.ran_last
    }

    /// Records that the batch had a step.
    pub(super) fn batch_ran(&mut self) {
        self.ran_last = false;
    }

    /// The stream to compute: the running one; otherwise the highest priority first, then the oldest.
    fn next(&mut self, sequences: &mut [Sequence], holder: Option<u64>, now: Duration) -> Option<usize> {
        let mut ready: Vec<usize> = (0..sequences.len()).filter(|&at| sequences[at].is_deterministic()).collect();
        ready.retain(|&at| sequences[at].is_ready(now));
        let runs = ready.iter().copied().find(|&at| Some(sequences[at].id()) == holder);
        let oldest = ready.iter().copied().min_by_key(|&at| sequences[at].id())?;
        if runs.is_some() {
            return runs;
        }
        let first = ready.into_iter().min_by_key(|&at| (Reverse(sequences[at].priority()), sequences[at].id()))?;
        let next = if self.overtaken >= MAX_OVERTAKEN { oldest } else { first };
        self.overtaken = if next == oldest { 0 } else { self.overtaken + 1 };
        Some(next)
    }
}

impl<B: Backend> Engine<B> {
    /// Computes the next rows of a deterministic stream; `false` if none is ready.
    pub(super) fn run_deterministic(&mut self, now: Duration) -> bool {
        let next = self.turns.next(&mut self.sequences, self.isolated.holder(), now);
        let since = self.step;
        for (at, sequence) in self.sequences.iter_mut().enumerate().filter(|(_, one)| one.is_deterministic()) {
            if next == Some(at) {
                sequence.take_slot(now);
            } else if sequence.run_state() == RunState::Running {
                sequence.pause(since);
            }
        }
        let Some(at) = next else { return false };
        self.turns.ran_last = true;
        if let Err(error) = self.compute_deterministic(at) {
            self.fail_deterministic(at, error);
        }
        true
    }

    /// One decode call with rows of this sequence alone, and the token that is sampled from it.
    fn compute_deterministic(&mut self, at: usize) -> Result<(), Error> {
        self.isolated.make(self.pool.backend(), self.parts.context_len)?;
        let saved = self.isolated.hold(&mut self.sequences, at)?;
        self.count_saved(saved);
        let sequence = &self.sequences[at];
        self.rows.clear();
        self.rows.extend(self.isolated.rows(sequence));
        if !self.parts.inbox.begin_step(std::iter::once(sequence.id())) {
            return Ok(());
        }
        // The compute threads of the other context would occupy the cores while they spin for work.
        self.pool.backend().pause_threads();
        let threads = self.thread_tuner.threads();
        let began = self.parts.clock.now();
        let context = self.isolated.context().ok_or(Error::Poisoned)?;
        context.set_threads(threads)?;
        let decoded = context.decode(&self.rows).and_then(|()| context.synchronize());
        self.parts.inbox.end_step();
        let now = self.parts.clock.now();
        self.thread_tuner.learn(context.contention(), now.saturating_sub(began));
        decoded?;
        self.isolated.computed(&self.rows, sequence);
        let steps = if sequence.prefills() { &mut self.stats.prefill_steps } else { &mut self.stats.decode_steps };
        steps.add(now.saturating_sub(began));
        self.sequences[at].count_computed(self.rows.len());
        let row = self.rows.len() - 1;
        if self.rows[row].output {
            let logits = self.isolated.context().ok_or(Error::Poisoned)?.logits(row)?;
            let sampled = self.sequences[at].sample(logits);
            if let Outcome::Ended = self.deliver(at, sampled, now) {
                self.retire(at);
            }
        }
        Ok(())
    }

    /// Fails only the stream whose step failed. The next one gets a new context.
    fn fail_deterministic(&mut self, at: usize, error: Error) {
        // The readers of an aborted step have left, or the engine is closing. The cells are not used again.
        if matches!(error, Error::Aborted) && self.isolated.clear().is_ok() {
            return;
        }
        tracing::error!(target: "mullama", %error, "the decode of a deterministic stream failed");
        self.isolated.lose();
        let now = self.parts.clock.now();
        self.end(at, |sequence| sequence.fail(decode_failed(&error.into()), now));
    }
}
