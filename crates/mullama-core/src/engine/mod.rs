//! The engine: one step plans, decodes, samples and sends the next tokens of all sequences that hold a permit.

pub(crate) mod arrivals;
pub(crate) mod client;
pub(crate) mod creation;
mod deterministic;
pub(crate) mod fixed_chunk;
pub(crate) mod handle;
pub(crate) mod inbox;
mod isolated;
mod planning;
mod prefill_budget;
mod prefix_search;
mod recovery;
pub(crate) mod sample_rows;
pub(crate) mod scheduler;
pub(crate) mod sequence;
mod thread_tuner;
pub(crate) mod tokenizer_pool;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mullama_ffi::{Error, TokenId};

use crate::clock::Clock;
use crate::engine::fixed_chunk::FixedChunks;
use crate::engine::scheduler::{Candidate, Plan, RunState, Scheduler};
use crate::engine::sequence::{Outcome, Sequence, VocabularyView};
use crate::error::MullamaError;
use crate::kv::backend::{Backend, Row};
use crate::kv::pool::KvPool;
use crate::stats::Stats;
use crate::stream::usage::FinishReason;
use crate::stream::{StreamId, wakeups};
use crate::text::sampler::SampledToken;
use crate::text::vocabulary::Vocabulary;
use creation::{Creation, Workers};
use deterministic::Turns;
use inbox::Inbox;
use isolated::Isolated;
use prefill_budget::PrefillBudget;
use sample_rows::{SampleJob, sample_rows, sampling_threads};
use thread_tuner::ThreadTuner;

/// The result of a step.
#[cfg_attr(not(feature = "test-support"), expect(unreachable_pub, reason = "a stage of `testing` shows it"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Tokens were computed, or a sequence changed its state; the next step may follow at once.
    Worked,
    /// There is no work until a message arrives or this time on the engine's clock.
    Idle {
        /// The next deadline or delay; `None` without one.
        until: Option<Duration>,
    },
}

/// The parts that an engine is built from.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) vocabulary: Arc<dyn Vocabulary>,
    /// Maximum number of tokens of one sequence.
    pub(crate) context_len: usize,
    /// Number of slots: sequences that are computed at once.
    pub(crate) slots: usize,
    /// Maximum bytes of cached prefixes in host memory.
    pub(crate) prefix_cache_bytes: usize,
    /// Maximum number of compute threads.
    pub(crate) threads: u32,
    /// Prompt tokens per step where the number must not depend on the clock.
    pub(crate) chunks: FixedChunks,
    /// Starts work that would delay a step.
    pub(crate) workers: Workers,
    /// Written after each step, for other threads to read.
    pub(crate) stats: Arc<Mutex<Stats>>,
}

/// All sequences of one context, and the step that advances them.
pub(crate) struct Engine<B> {
    parts: Parts,
    end_tokens: Vec<TokenId>,
    pool: KvPool<B>,
    scheduler: Scheduler,
    /// Where deterministic streams are computed, and when.
    isolated: Isolated<B>,
    turns: Turns,
    prefill_budget: PrefillBudget,
    thread_tuner: ThreadTuner,
    sequences: Vec<Sequence>,
    /// Number of the current step; among paused sequences, those of earlier steps go first.
    step: u64,
    /// Number of consecutive decodes for which llama.cpp found no cells.
    refusals: usize,
    /// The context was lost and has not been rebuilt yet.
    broken: bool,
    rows: Vec<Row>,
    candidates: Vec<Candidate>,
    stats: Stats,
}

impl<B> Drop for Engine<B> {
    /// The inbox outlives its engine in stream handles, and must not keep the senders of streams that were not admitted.
    fn drop(&mut self) {
        self.parts.inbox.close();
        drop(self.parts.inbox.collect());
    }
}

/// The rows that a step computes for the sequence at index `at`; `prompt` says whether they are tokens of a prompt.
#[derive(Debug, Clone, Copy)]
struct RowGrant {
    at: usize,
    rows: usize,
    prompt: bool,
}

/// A row of a step whose logits decide the next token of the sequence at index `sequence`.
#[derive(Debug, Clone, Copy)]
struct Output {
    row: usize,
    sequence: usize,
}

impl<B: Backend> Engine<B> {
    pub(crate) fn new(backend: B, parts: Parts) -> Self {
        let mut end_tokens = parts.vocabulary.end_tokens();
        end_tokens.sort_unstable();
        let creation = Creation::new(parts.workers.clone(), Arc::clone(&parts.inbox));
        Self {
            end_tokens,
            pool: KvPool::new(backend, parts.prefix_cache_bytes, Arc::clone(&parts.clock)),
            scheduler: Scheduler::default(),
            isolated: Isolated::new(creation, parts.context_len, parts.chunks.deterministic, parts.prefix_cache_bytes),
            turns: Turns::default(),
            prefill_budget: PrefillBudget::new(parts.chunks.alone),
            thread_tuner: ThreadTuner::new(parts.threads),
            sequences: Vec::new(),
            step: 0,
            refusals: 0,
            broken: false,
            rows: Vec::new(),
            candidates: Vec::new(),
            stats: Stats { threads: parts.threads, ..Stats::default() },
            parts,
        }
    }

    /// Runs one step, then wakes the tasks that wait for its tokens.
    pub(crate) fn step(&mut self) -> Step {
        wakeups::batch(|| self.run_step())
    }

    /// Collects messages, ends expired streams, then computes: deterministic streams and the batch take turns.
    fn run_step(&mut self) -> Step {
        let now = self.parts.clock.now();
        self.step += 1;
        self.drain_inbox(now);
        self.expire(now);
        let worked = (self.turns.batch_waits() && self.run_deterministic(now))
            || self.run_batch(now)
            || self.run_deterministic(now);
        self.publish_stats();
        if worked { Step::Worked } else { self.sleep_until_next_moment(now) }
    }

    /// Plans, decodes, samples and sends for all sequences in the shared pool; `false` if there is nothing to do.
    fn run_batch(&mut self, now: Duration) -> bool {
        self.turns.batch_ran();
        let beside_running = self.sequences.iter().any(|sequence| sequence.run_state() == RunState::Running);
        let upcoming = self.sequences.iter().map(Sequence::upcoming_rows).sum();
        let copied = self.pool.begin_step(beside_running, upcoming);
        let plan = self.plan(now);
        let grants = self.apply_plan(&plan, now);
        if grants.is_empty() {
            return copied;
        }
        let outputs = self.fill_batch(&grants);
        let streams = grants.iter().map(|grant| self.sequences[grant.at].id());
        if self.parts.inbox.begin_step(streams) {
            self.apply_threads();
            self.isolated.pause_threads();
            let began = self.parts.clock.now();
            let decoded = self.compute();
            self.parts.inbox.end_step();
            let took = self.parts.clock.now().saturating_sub(began);
            let contention = self.pool.backend().contention();
            self.thread_tuner.learn(contention, took);
            match decoded {
                Ok(()) => self.advance(&grants, &outputs, took),
                Err(error) => self.recover(&plan, &grants, error),
            }
        }
        true
    }

    /// Takes the messages from the inbox: new streams, tokenized prompts, and readers that have left.
    fn drain_inbox(&mut self, now: Duration) {
        let Some(messages) = self.parts.inbox.collect() else { return };
        self.sequences.extend(messages.arrivals.into_iter().map(Sequence::new));
        for id in messages.left {
            if let Some(at) = self.find(id) {
                self.end(at, |sequence| sequence.finish(FinishReason::Cancelled, now));
            }
        }
        for (id, prepared) in messages.prepared {
            let Some(at) = self.find(id) else { continue };
            match prepared {
                Ok(request) => {
                    self.sequences[at].set_prompt(request);
                    self.find_prefix_source(at);
                }
                Err(error) => self.end(at, |sequence| sequence.fail(error, now)),
            }
        }
        self.revive();
        while let Some(at) = self.sequences.iter().position(Sequence::generates_nothing) {
            self.end(at, |sequence| sequence.finish(FinishReason::Length, now));
        }
    }

    fn find(&self, id: StreamId) -> Option<usize> {
        self.sequences.iter().position(|sequence| sequence.id() == id)
    }

    /// Ends streams whose deadline has passed.
    fn expire(&mut self, now: Duration) {
        for at in (0..self.sequences.len()).rev() {
            if let Some(error) = self.sequences[at].expired(now) {
                self.end(at, |sequence| sequence.fail(error, now));
            }
        }
    }

    /// Carries out the plan: frees cells, reassigns slots, and grants each sequence its rows.
    fn apply_plan(&mut self, plan: &Plan, now: Duration) -> Vec<RowGrant> {
        plan.drop.iter().for_each(|&seq_id| self.pool.drop_cached(seq_id));
        plan.evict.iter().for_each(|&at| self.preempt(at));
        let since = self.step;
        for (at, sequence) in self.sequences.iter_mut().enumerate().filter(|(_, one)| !one.is_deterministic()) {
            if plan.running.contains(&at) {
                sequence.take_slot(now);
            } else if sequence.run_state() == RunState::Running {
                sequence.pause(since);
            }
        }
        let total: usize = plan.rows.iter().map(|planned| planned.rows).sum();
        plan.rows.iter().map(|planned| self.grant_rows(planned.sequence, planned.rows, total)).collect()
    }

    /// Grants rows in a step of `planned` rows. Without cells, a sequence gets a `seq_id` and takes over a cached prefix.
    fn grant_rows(&mut self, at: usize, rows: usize, planned: usize) -> RowGrant {
        if self.sequences[at].seq_id().is_none() {
            let seq_id = self.pool.take_seq_id();
            let prefix = self.look_up(at);
            let spare = self.pool.cells().capacity().saturating_sub(self.pool.cells().used() + planned);
            let shared = prefix.map_or(0, |prefix| self.pool.adopt(seq_id, prefix, spare));
            self.sequences[at].assign_seq_id(seq_id);
            let saved = self.sequences[at].reuse_prefix(shared);
            self.count_saved(saved);
        }
        let sequence = &self.sequences[at];
        let pending = sequence.tokens().len() - sequence.computed();
        RowGrant { at, rows: rows.min(pending), prompt: pending > 1 }
    }

    fn count_saved(&mut self, tokens: usize) {
        self.stats.prefix_hits += u64::from(tokens > 0);
        self.stats.tokens_saved += tokens as u64;
    }

    /// Frees a sequence's cells for others; their contents are offloaded if host memory allows.
    fn preempt(&mut self, at: usize) {
        let tokens = self.sequences[at].computed_tokens().to_vec();
        if let Some(seq_id) = self.sequences[at].give_up_cells() {
            self.stats.preemptions += 1;
            self.pool.offload(seq_id, tokens);
        }
    }

    /// Discards a sequence's cells; it recomputes its tokens when it gets a slot again.
    fn evict(&mut self, at: usize) {
        if let Some(seq_id) = self.sequences[at].give_up_cells() {
            self.pool.free(seq_id);
        }
    }

    /// Writes the rows of the batch; returns those with logits.
    fn fill_batch(&mut self, grants: &[RowGrant]) -> Vec<Output> {
        self.rows.clear();
        let mut outputs = Vec::with_capacity(grants.len());
        for grant in grants {
            let sequence = &self.sequences[grant.at];
            let seq_id = sequence.seq_id().expect("`grant_rows` assigned a seq_id");
            for (token, position, output) in sequence.rows(grant.rows) {
                if output {
                    outputs.push(Output { row: self.rows.len(), sequence: grant.at });
                }
                self.rows.push(Row { token, position, seq_id, output });
            }
        }
        outputs
    }

    /// Decodes the batch and waits until it is computed, so that the measured cost is that of finished work.
    fn compute(&mut self) -> Result<(), Error> {
        let backend = self.pool.backend();
        backend.decode(&self.rows).and_then(|()| backend.synchronize())
    }

    /// Sets the number of compute threads that the tuner chose.
    fn apply_threads(&mut self) {
        let threads = self.thread_tuner.threads();
        if threads == self.stats.threads {
            return;
        }
        match self.pool.backend().set_threads(threads) {
            Ok(()) => self.stats.threads = threads,
            Err(error) => tracing::warn!(target: "mullama", %error, threads, "cannot change the number of threads"),
        }
    }

    /// Takes the results of a step: counts its cells, samples a token from each row with logits, and sends them.
    fn advance(&mut self, grants: &[RowGrant], outputs: &[Output], took: Duration) {
        self.refusals = 0;
        let now = self.parts.clock.now();
        self.learn(grants, took);
        for grant in grants {
            let sequence = &mut self.sequences[grant.at];
            sequence.count_computed(grant.rows);
            self.pool.extend(sequence.seq_id().expect("a sequence with rows has a seq_id"), grant.rows);
        }
        let sampled = self.sample(outputs);
        let mut ended = Vec::new();
        for (output, sampled) in outputs.iter().zip(sampled) {
            if let Outcome::Ended = self.deliver(output.sequence, sampled, now) {
                ended.push(output.sequence);
            }
        }
        ended.sort_unstable();
        ended.into_iter().rev().for_each(|at| self.retire(at));
    }

    /// Samples a token from each row with logits, on several threads if that is faster.
    fn sample(&mut self, outputs: &[Output]) -> Vec<Result<SampledToken, MullamaError>> {
        let cores = self.thread_tuner.threads() as usize;
        let threads = sampling_threads(outputs.len(), self.parts.vocabulary.n_tokens(), cores);
        let backend = self.pool.backend();
        if threads > 1 {
            // The compute threads would spin on the cores that the samplers need.
            backend.pause_threads();
        }
        let mut samplers: Vec<_> =
            outputs.iter().map(|output| self.sequences[output.sequence].take_sampler()).collect();
        let rows = outputs.iter().map(|output| backend.logits(output.row));
        let jobs = rows.zip(&mut samplers).map(|(logits, sampler)| SampleJob { logits, sampler }).collect();
        let sampled = sample_rows(jobs, threads);
        for (output, sampler) in outputs.iter().zip(samplers) {
            self.sequences[output.sequence].return_sampler(sampler);
        }
        sampled
    }

    /// Sends a sampled token, or the error that sampling returned, to the reader.
    fn deliver(&mut self, at: usize, sampled: Result<SampledToken, MullamaError>, now: Duration) -> Outcome {
        self.stats.tokens_generated += 1;
        let vocabulary = self.parts.vocabulary.as_ref();
        let words = VocabularyView { vocabulary, end_tokens: &self.end_tokens };
        match sampled {
            Ok(token) => self.sequences[at].advance(token, &words, now),
            Err(error) => {
                self.sequences[at].fail(error, now);
                Outcome::Ended
            }
        }
    }

    /// Records the cost of the step.
    fn learn(&mut self, grants: &[RowGrant], took: Duration) {
        let rows = |prompt: bool| grants.iter().filter(|grant| grant.prompt == prompt).map(|grant| grant.rows).sum();
        let (continuing, prompt): (usize, usize) = (rows(false), rows(true));
        self.prefill_budget.learn(continuing, prompt, took);
        self.pool.learn(&self.rows, prompt, took);
        let steps = if prompt == 0 { &mut self.stats.decode_steps } else { &mut self.stats.prefill_steps };
        steps.add(took);
    }

    fn end(&mut self, at: usize, how: impl FnOnce(&mut Sequence)) {
        how(&mut self.sequences[at]);
        self.retire(at);
    }

    /// Removes an ended sequence; its cells stay in the pool as a cached prefix.
    fn retire(&mut self, at: usize) {
        let sequence = self.sequences.remove(at);
        self.isolated.retire(sequence.id());
        self.share_host_memory();
        if let Some(seq_id) = sequence.seq_id() {
            self.pool.release(seq_id, sequence.computed_tokens().to_vec());
        }
    }

    /// Pauses the compute threads; returns when the engine must look again.
    fn sleep_until_next_moment(&mut self, now: Duration) -> Step {
        self.pool.backend().pause_threads();
        self.isolated.pause_threads();
        let moments = self.sequences.iter().filter_map(|sequence| sequence.next_moment(now));
        Step::Idle { until: moments.chain(self.turns.next_moment()).min() }
    }

    /// Publishes the statistics.
    fn publish_stats(&mut self) {
        let stats = &mut self.stats;
        (stats.queued, stats.running, stats.paused) = (0, 0, 0);
        for sequence in &self.sequences {
            match sequence.run_state() {
                RunState::Queued => stats.queued += 1,
                RunState::Running => stats.running += 1,
                RunState::Paused { .. } => stats.paused += 1,
            }
        }
        let (cells, prefixes) = (self.pool.cells(), self.pool.prefixes());
        (stats.cells, stats.cells_used, stats.cells_shared) = (cells.capacity(), cells.used(), cells.shared());
        (stats.cells_cached, stats.prefix_bytes) =
            (prefixes.pool_cells(), prefixes.host_bytes() + self.isolated.host_bytes());
        let (pool, isolated) = (self.pool.transfers(), self.isolated.transfers());
        stats.offloads = pool.offloads + isolated.offloads;
        stats.restores = pool.restores + isolated.restores;
        *self.parts.stats.lock().unwrap_or_else(PoisonError::into_inner) = *stats;
    }

    /// Ends every stream with the same error when the engine ends.
    pub(crate) fn close(&mut self, error: &MullamaError) {
        let now = self.parts.clock.now();
        // After a panic the state of pool and backend is unknown, so this code does not touch them.
        let messages = self.parts.inbox.collect().unwrap_or_default();
        self.sequences.extend(messages.arrivals.into_iter().map(Sequence::new));
        for sequence in &mut self.sequences {
            if messages.left.contains(&sequence.id()) {
                sequence.finish(FinishReason::Cancelled, now);
            } else {
                sequence.fail(error.clone(), now);
            }
        }
        self.sequences.clear();
    }
}
