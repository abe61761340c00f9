//! The loop that turns plans into tokens: one step computes all sequences that have room.

pub(crate) mod arrivals;
pub(crate) mod client;
pub(crate) mod handle;
pub(crate) mod inbox;
mod planning;
mod prefill_budget;
mod recovery;
pub(crate) mod scheduler;
pub(crate) mod sequence;
mod thread_tuner;
pub(crate) mod tokenizer_pool;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mullama_ffi::TokenId;

use crate::clock::Clock;
use crate::engine::scheduler::{Candidate, Plan, RunState, Scheduler};
use crate::engine::sequence::{Outcome, Sequence, VocabularyView};
use crate::error::MullamaError;
use crate::kv::backend::{Backend, Row};
use crate::kv::pool::KvPool;
use crate::stats::Stats;
use crate::stream::usage::FinishReason;
use crate::stream::{StreamId, wakeups};
use crate::text::vocabulary::Vocabulary;
use inbox::Inbox;
use prefill_budget::PrefillBudget;
use thread_tuner::ThreadTuner;

/// What a step came to.
#[cfg_attr(not(feature = "test-support"), expect(unreachable_pub, reason = "a stage of `testing` shows it"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Tokens were computed, or a sequence changed its standing; the next step may follow at once.
    Worked,
    /// Nothing can be done until a letter comes or this moment on the engine's clock.
    Idle {
        /// The next deadline or delay; `None` without one.
        until: Option<Duration>,
    },
}

/// What an engine is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) vocabulary: Arc<dyn Vocabulary>,
    /// Most tokens of one sequence.
    pub(crate) context_len: usize,
    /// Sequences computed at once.
    pub(crate) slots: usize,
    /// Most bytes of idle beginnings in host memory.
    pub(crate) prefix_cache_bytes: usize,
    /// Most threads of a step.
    pub(crate) threads: u32,
    /// Written after each step, for whoever looks.
    pub(crate) stats: Arc<Mutex<Stats>>,
}

/// All sequences of one context, and the step that moves them on.
pub(crate) struct Engine<B> {
    parts: Parts,
    end_tokens: Vec<TokenId>,
    pool: KvPool<B>,
    scheduler: Scheduler,
    prefill_budget: PrefillBudget,
    thread_tuner: ThreadTuner,
    sequences: Vec<Sequence>,
    /// Number of the running step; orders who was paused first.
    step: u64,
    /// Decodes that found no cells since one did.
    refusals: usize,
    /// The context was lost and could not be made again yet.
    broken: bool,
    rows: Vec<Row>,
    candidates: Vec<Candidate>,
    stats: Stats,
}

/// One sequence's part of a step.
#[derive(Debug, Clone, Copy)]
struct RowGrant {
    /// The sequence, by its place in the list.
    at: usize,
    /// How many of its tokens the step computes.
    rows: usize,
    /// Whether these are tokens of a prompt.
    prompt: bool,
}

impl<B: Backend> Engine<B> {
    pub(crate) fn new(backend: B, parts: Parts) -> Self {
        let mut end_tokens = parts.vocabulary.end_tokens();
        end_tokens.sort_unstable();
        Self {
            end_tokens,
            pool: KvPool::new(backend, parts.prefix_cache_bytes),
            scheduler: Scheduler::default(),
            prefill_budget: PrefillBudget::default(),
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

    /// One turn, and then word to the tasks that wait for what it brought.
    pub(crate) fn step(&mut self) -> Step {
        wakeups::batch(|| self.run_step())
    }

    /// Hear what came in, end what has expired, plan, decode, advance.
    fn run_step(&mut self) -> Step {
        let now = self.parts.clock.now();
        self.step += 1;
        self.drain_inbox(now);
        self.expire(now);
        // One copy a step: those who run wait for it.
        let trimmed = self.pool.trim();
        let plan = self.plan(now);
        let grants = self.apply_plan(&plan, now);
        if grants.is_empty() {
            return if trimmed { Step::Worked } else { self.idle_until(now) };
        }
        let outputs = self.fill_batch(&grants);
        let streams = grants.iter().map(|share| self.sequences[share.at].id());
        if self.parts.inbox.begin_step(streams) {
            self.apply_threads();
            let began = self.parts.clock.now();
            let decoded = self.pool.backend().decode(&self.rows);
            self.parts.inbox.end_step();
            let crowding = self.pool.backend().crowding();
            if let Some(crowding) = crowding {
                self.thread_tuner.shrink(crowding);
            }
            match decoded {
                Ok(()) => self.advance(&grants, &outputs, began, crowding.is_some()),
                Err(error) => self.recover(&plan, &grants, error),
            }
        }
        self.publish_stats();
        Step::Worked
    }

    /// Takes the letters: new streams, their prompts, and readers that have left.
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
        while let Some(at) = self.sequences.iter().position(Sequence::wants_nothing) {
            self.end(at, |sequence| sequence.finish(FinishReason::Length, now));
        }
    }

    fn find(&self, id: StreamId) -> Option<usize> {
        self.sequences.iter().position(|sequence| sequence.id() == id)
    }

    /// Ends what has outlived its time.
    fn expire(&mut self, now: Duration) {
        for at in (0..self.sequences.len()).rev() {
            if let Some(error) = self.sequences[at].expired(now) {
                self.end(at, |sequence| sequence.fail(error, now));
            }
        }
    }

    /// Makes the plan's standings true: who lost cells, who lost a place, who got one, and what each begins with.
    fn apply_plan(&mut self, plan: &Plan, now: Duration) -> Vec<RowGrant> {
        plan.drop.iter().for_each(|&seq_id| self.pool.drop_cached(seq_id));
        plan.evict.iter().for_each(|&at| self.preempt(at));
        let since = self.step;
        for (at, sequence) in self.sequences.iter_mut().enumerate() {
            let placed = plan.running.contains(&at);
            match (placed, sequence.run_state) {
                (true, RunState::Queued | RunState::Paused { .. }) => {
                    sequence.run_state = RunState::Running;
                    sequence.progressed_since_scheduled = false;
                    sequence.begin(now);
                }
                (false, RunState::Running) => sequence.run_state = RunState::Paused { since },
                _ => {}
            }
        }
        let planned: usize = plan.rows.iter().map(|&(_, rows)| rows).sum();
        plan.rows.iter().map(|&(at, rows)| self.allocate_rows(at, rows, planned)).collect()
    }

    /// A sequence's part of the step, whose rows are `planned` in all; one without a seat gets one, and begins with what
    /// others have computed.
    fn allocate_rows(&mut self, at: usize, rows: usize, planned: usize) -> RowGrant {
        if self.sequences[at].seq_id.is_none() {
            let seq_id = self.pool.take_seq_id();
            let beginning = self.look_up(at);
            let spare = self.pool.cells().capacity().saturating_sub(self.pool.cells().used() + planned);
            let shared = beginning.map_or(0, |beginning| self.pool.adopt(seq_id, beginning, spare));
            let sequence = &mut self.sequences[at];
            sequence.seq_id = Some(seq_id);
            let saved = sequence.reuse_prefix(shared);
            self.stats.prefix_hits += u64::from(saved > 0);
            self.stats.tokens_saved += saved as u64;
        }
        let sequence = &self.sequences[at];
        let pending = sequence.tokens().len() - sequence.computed;
        RowGrant { at, rows: rows.min(pending), prompt: pending > 1 }
    }

    /// Takes a sequence's cells away for others; they rest in host memory if they may.
    fn preempt(&mut self, at: usize) {
        let tokens = self.sequences[at].computed_tokens().to_vec();
        if let Some(seq_id) = self.sequences[at].give_up_cells() {
            self.stats.preemptions += 1;
            self.pool.offload(seq_id, tokens);
        }
    }

    /// Throws a sequence's cells away; it computes its tokens again when it has a place.
    fn evict(&mut self, at: usize) {
        if let Some(seq_id) = self.sequences[at].give_up_cells() {
            self.pool.free(seq_id);
        }
    }

    /// Writes the rows; returns for each row with an output the sequence it belongs to.
    fn fill_batch(&mut self, grants: &[RowGrant]) -> Vec<(usize, usize)> {
        self.rows.clear();
        let mut outputs = Vec::with_capacity(grants.len());
        for share in grants {
            let sequence = &self.sequences[share.at];
            let seq_id = sequence.seq_id.expect("held before its rows are written");
            for (token, position, output) in sequence.rows(share.rows) {
                if output {
                    outputs.push((self.rows.len(), share.at));
                }
                self.rows.push(Row { token, position, seq_id, output });
            }
        }
        outputs
    }

    /// Gives the step as many threads as such steps run best with.
    fn apply_threads(&mut self) {
        let threads = self.thread_tuner.threads();
        if threads == self.stats.threads {
            return;
        }
        match self.pool.backend().set_threads(threads) {
            Ok(()) => self.stats.threads = threads,
            Err(error) => tracing::warn!(target: "mullama", %error, threads, "the number of threads stays"),
        }
    }

    /// The decode went well: counts the cells, and lets each sequence with logits take its token.
    fn advance(&mut self, grants: &[RowGrant], outputs: &[(usize, usize)], began: Duration, crowded: bool) {
        self.refusals = 0;
        let now = self.parts.clock.now();
        self.learn(grants, now.saturating_sub(began), crowded);
        for share in grants {
            let sequence = &mut self.sequences[share.at];
            sequence.computed += share.rows;
            self.pool.extend(sequence.seq_id.expect("it had rows"), share.rows);
        }
        let vocabulary = Arc::clone(&self.parts.vocabulary);
        let words = VocabularyView { vocabulary: vocabulary.as_ref(), end_tokens: &self.end_tokens };
        let mut ended = Vec::new();
        for &(row, at) in outputs {
            let sequence = &mut self.sequences[at];
            let outcome = match self.pool.backend().logits(row) {
                Ok(logits) => sequence.advance(logits, &words, now),
                Err(error) => {
                    sequence.fail(recovery::decode_failed(&Arc::new(error)), now);
                    Outcome::Ended
                }
            };
            if matches!(outcome, Outcome::Ended) {
                ended.push(at);
            }
        }
        self.stats.tokens_generated += outputs.len() as u64;
        ended.sort_unstable();
        for at in ended.into_iter().rev() {
            self.retire(at);
        }
    }

    /// Keeps in mind how long the step took, for the next ones. How long one took whose threads waited for cores says
    /// nothing about their number.
    fn learn(&mut self, grants: &[RowGrant], took: Duration, crowded: bool) {
        let rows = |prompt: bool| grants.iter().filter(|share| share.prompt == prompt).map(|share| share.rows).sum();
        let (continuing, prompt): (usize, usize) = (rows(false), rows(true));
        self.prefill_budget.learn(continuing, prompt, took);
        if !crowded {
            self.thread_tuner.learn(continuing, prompt, took);
        }
        if prompt == 0 {
            self.stats.decode_steps.add(took);
        } else {
            self.stats.prefill_steps.add(took);
            // A computed prompt is a beginning for others.
            self.pool.bump_epoch();
        }
    }

    fn end(&mut self, at: usize, how: impl FnOnce(&mut Sequence)) {
        how(&mut self.sequences[at]);
        self.retire(at);
    }

    /// Takes an ended sequence out; what it computed stays for others to begin with.
    fn retire(&mut self, at: usize) {
        let sequence = self.sequences.remove(at);
        if let Some(seq_id) = sequence.seq_id {
            self.pool.release(seq_id, sequence.computed_tokens().to_vec());
        }
    }

    fn idle_until(&mut self, now: Duration) -> Step {
        self.publish_stats();
        self.pool.backend().rest();
        Step::Idle { until: self.sequences.iter().filter_map(|sequence| sequence.next_moment(now)).min() }
    }

    /// Writes down what is going on.
    fn publish_stats(&mut self) {
        let stats = &mut self.stats;
        (stats.queued, stats.running, stats.paused) = (0, 0, 0);
        for sequence in &self.sequences {
            match sequence.run_state {
                RunState::Queued => stats.queued += 1,
                RunState::Running => stats.running += 1,
                RunState::Paused { .. } => stats.paused += 1,
            }
        }
        let (cells, prefixes) = (self.pool.cells(), self.pool.prefixes());
        stats.cells = cells.capacity();
        stats.cells_used = cells.used();
        stats.cells_shared = cells.shared();
        stats.cells_cached = prefixes.pool_cells();
        stats.prefix_bytes = prefixes.offloaded_bytes();
        *self.parts.stats.lock().unwrap_or_else(PoisonError::into_inner) = *stats;
    }

    /// Ends every stream with the same error; the engine is about to end.
    pub(crate) fn close(&mut self, error: &MullamaError) {
        let now = self.parts.clock.now();
        // After a panic nobody knows what pool and backend hold, so nothing here touches them.
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
