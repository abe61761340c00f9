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

/// How long the holder of the cells may wait for its reader at first, while another stream could be computed.
const FIRST_PATIENCE: Duration = Duration::from_millis(20);

/// The longest time up to which that patience grows by itself. It keeps the number of swaps small where all readers are
/// slow.
const GROWN_PATIENCE: Duration = Duration::from_secs(1);

/// How much longer than the last swap the holder may wait, so that swaps take a small share of the time.
const SWAPS_OF_PATIENCE: u32 = 8;

/// The longest time that a stream waits for a holder whose reader does not read, however much a swap costs.
const MAX_PATIENCE: Duration = Duration::from_secs(10);

/// Decides when a stream that waits for its reader must give up the cells to another.
#[derive(Debug)]
struct Patience {
    /// How long the holder has waited before `since`, while another stream was ready.
    waited: Duration,
    /// Since when it waits.
    since: Option<Duration>,
    /// Doubled by each swap, until a stream ends.
    grown: Duration,
    /// What the last swap cost.
    swap: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { waited: Duration::ZERO, since: None, grown: FIRST_PATIENCE, swap: Duration::ZERO }
    }
}

impl Patience {
    fn limit(&self) -> Duration {
        self.grown.max(self.swap.saturating_mul(SWAPS_OF_PATIENCE)).min(MAX_PATIENCE)
    }

    /// The holder waits while another stream is ready; returns whether it has waited long enough.
    fn is_over(&mut self, now: Duration) -> bool {
        let since = *self.since.get_or_insert(now);
        self.waited + now.saturating_sub(since) >= self.limit()
    }

    /// Nobody waits for the holder.
    fn stop(&mut self, now: Duration) {
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_sub(since);
        }
    }

    /// The holder has ended.
    fn reset(&mut self) {
        *self = Self { swap: self.swap, ..Self::default() };
    }

    /// Another stream got the cells, at this cost.
    fn swapped(&mut self, cost: Duration) {
        let grown = (self.grown * 2).min(GROWN_PATIENCE);
        *self = Self { grown, swap: cost, ..Self::default() };
    }
}

/// Decides whether a deterministic stream or the batch gets the next step.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Whether the last step belonged to a deterministic stream.
    ran_last: bool,
    /// How many streams started before the oldest one.
    overtaken: usize,
    patience: Patience,
    /// How long the last step of a deterministic stream took.
    last_step: Duration,
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

    /// When the holder of the cells must give them up, if another stream waits for that.
    pub(super) fn next_moment(&self) -> Option<Duration> {
        let patience = &self.patience;
        patience.since.map(|since| since + patience.limit().saturating_sub(patience.waited))
    }

    /// The stream to compute: the running one, which stays for a while if its reader is slow; otherwise the highest
    /// priority first, then the oldest.
    fn next(&mut self, sequences: &mut [Sequence], holder: Option<u64>, now: Duration) -> Option<usize> {
        let mut ready: Vec<usize> = (0..sequences.len()).filter(|&at| sequences[at].is_deterministic()).collect();
        ready.retain(|&at| sequences[at].is_ready(now));
        let runs = ready.iter().copied().find(|&at| Some(sequences[at].id()) == holder);
        if holder.is_none() {
            self.patience.reset();
        } else if runs.is_some() || ready.is_empty() {
            self.patience.stop(now);
            return runs;
        } else if !self.patience.is_over(now) {
            return None;
        }
        let oldest = ready.iter().copied().min_by_key(|&at| sequences[at].id())?;
        let first = ready.into_iter().min_by_key(|&at| (Reverse(sequences[at].priority()), sequences[at].id()))?;
        let next = if self.overtaken >= MAX_OVERTAKEN { oldest } else { first };
        self.overtaken = if next == oldest { 0 } else { self.overtaken + 1 };
        Some(next)
    }
}

impl<B: Backend> Engine<B> {
    /// Computes the next rows of a deterministic stream; `false` if none is ready, or their context is still being made.
    pub(super) fn run_deterministic(&mut self, now: Duration) -> bool {
        let wanted = self.sequences.iter_mut().any(|one| one.is_deterministic() && one.is_ready(now));
        let exists = wanted || self.sequences.iter().any(Sequence::is_deterministic);
        if !exists || (wanted && !self.isolated.prepare(self.pool.backend(), now)) {
            // No stream holds the cells, so the engine must not wake for one that has to give them up.
            self.turns.patience.reset();
            return false;
        }
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

    /// Gives the cells to this sequence, and learns what it costs to take them from another one.
    fn give_cells(&mut self, at: usize) -> Result<(), Error> {
        let copies_began = self.parts.clock.now();
        let handover = self.isolated.hold(&mut self.sequences, at)?;
        if handover.swapped {
            let copied = self.parts.clock.now().saturating_sub(copies_began);
            let again = self.turns.last_step.saturating_mul(u32::try_from(handover.lost).unwrap_or(u32::MAX));
            self.turns.patience.swapped(copied.saturating_add(again));
        }
        self.share_host_memory();
        self.count_saved(handover.saved);
        Ok(())
    }

    /// Leaves the pool's cached prefixes the host memory that no offloaded deterministic stream uses.
    pub(super) fn share_host_memory(&mut self) {
        self.pool.limit_host_bytes(self.parts.prefix_cache_bytes.saturating_sub(self.isolated.host_bytes()));
    }

    /// One decode call with rows of this sequence alone, and the token that is sampled from it.
    fn compute_deterministic(&mut self, at: usize) -> Result<(), Error> {
        self.give_cells(at)?;
        let sequence = &self.sequences[at];
        self.rows.clear();
        self.rows.extend(self.isolated.rows(sequence));
        self.isolated.set_threads(self.thread_tuner.threads());
        if !self.parts.inbox.begin_step(std::iter::once(sequence.id())) {
            return Ok(());
        }
        // The compute threads of the other context would occupy the cores while they spin for work.
        self.pool.backend().pause_threads();
        let began = self.parts.clock.now();
        let decoded = self.isolated.decode(&self.rows);
        self.parts.inbox.end_step();
        let now = self.parts.clock.now();
        self.thread_tuner.learn(self.isolated.contention(), now.saturating_sub(began));
        decoded?;
        self.isolated.computed(&self.rows, sequence);
        let steps = if sequence.prefills() { &mut self.stats.prefill_steps } else { &mut self.stats.decode_steps };
        steps.add(now.saturating_sub(began));
        self.turns.last_step = now.saturating_sub(began);
        self.sequences[at].count_computed(self.rows.len());
        let row = self.rows.len() - 1;
        if self.rows[row].output {
            let logits = self.isolated.logits(row)?;
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
