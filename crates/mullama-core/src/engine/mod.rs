//! The loop that turns plans into tokens: one step computes all sequences that have room.

pub(crate) mod arrival;
pub(crate) mod backend;
pub(crate) mod clock;
pub(crate) mod desk;
pub(crate) mod handle;
pub(crate) mod llama;
pub(crate) mod mailbox;
#[cfg(feature = "test-support")]
pub(crate) mod scripted;

use std::sync::Arc;
use std::time::Duration;

use mullama_ffi::{Error, TokenId};

use crate::error::{MullamaError, StreamFailure};
use crate::scheduler::{Candidate, Plan, Pool, Scheduler, Standing};
use crate::sequence::{Outcome, Sequence, Words};
use crate::usage::FinishReason;
use crate::vocabulary::Vocabulary;
use backend::{Backend, Row};
use clock::Clock;
use mailbox::{Mailbox, StreamId};

/// Rows of prompts in a step that also continues running streams.
const PREFILL_BESIDE: usize = 32;
/// Rows of prompts in a step of prompts alone.
const PREFILL_ALONE: usize = 256;

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
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) vocabulary: Arc<dyn Vocabulary>,
    /// Most tokens of one sequence.
    pub(crate) context_len: usize,
    /// Sequences computed at once.
    pub(crate) places: usize,
}

/// All sequences of one context, and the step that moves them on.
pub(crate) struct Engine<B> {
    parts: Parts,
    end_tokens: Vec<TokenId>,
    backend: B,
    scheduler: Scheduler,
    sequences: Vec<Sequence>,
    free_seats: Vec<usize>,
    /// Number of the running step; orders who was parked first.
    step: u64,
    /// The context was lost and could not be made again yet.
    broken: bool,
    rows: Vec<Row>,
    candidates: Vec<Candidate>,
}

impl<B: Backend> Engine<B> {
    pub(crate) fn new(backend: B, parts: Parts) -> Self {
        let mut end_tokens = parts.vocabulary.end_tokens();
        end_tokens.sort_unstable();
        let free_seats = (0..backend.limits().seats).rev().collect();
        Self {
            parts,
            end_tokens,
            backend,
            scheduler: Scheduler::default(),
            sequences: Vec::new(),
            free_seats,
            step: 0,
            broken: false,
            rows: Vec::new(),
            candidates: Vec::new(),
        }
    }

    /// One turn: hear what came in, end what has expired, plan, decode, advance.
    pub(crate) fn step(&mut self) -> Step {
        let now = self.parts.clock.now();
        self.step += 1;
        self.hear(now);
        self.expire(now);
        let plan = self.plan(now);
        self.seat(&plan, now);
        if plan.rows.is_empty() {
            return self.idle_until(now);
        }
        let outputs = self.fill_batch(&plan);
        let streams = plan.rows.iter().map(|&(i, _)| self.sequences[i].id());
        if self.parts.mailbox.begin_step(streams) {
            let decoded = self.backend.decode(&self.rows);
            self.parts.mailbox.end_step();
            match decoded {
                Ok(()) => self.advance(&plan, &outputs),
                Err(error) => self.recover(&plan, error),
            }
        }
        Step::Worked
    }

    /// Takes the letters: new streams, their prompts, and readers that have left.
    fn hear(&mut self, now: Duration) {
        let Some(letters) = self.parts.mailbox.collect() else { return };
        self.sequences.extend(letters.arrivals.into_iter().map(Sequence::new));
        for (id, prepared) in letters.prepared {
            let Some(at) = self.find(id) else { continue };
            match prepared {
                Ok(prepared) => self.sequences[at].equip(prepared, self.parts.context_len),
                Err(error) => self.end(at, |sequence| sequence.fail(error, now)),
            }
        }
        for id in letters.left {
            if let Some(at) = self.find(id) {
                self.end(at, |sequence| sequence.finish(FinishReason::Cancelled, now));
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

    fn plan(&mut self, now: Duration) -> Plan {
        let limits = self.backend.limits();
        let pool = Pool {
            places: self.parts.places,
            seats: limits.seats,
            cells: limits.cells,
            rows: limits.rows,
            prefill_beside: PREFILL_BESIDE,
            prefill_alone: PREFILL_ALONE,
        };
        self.candidates.clear();
        self.candidates.extend(self.sequences.iter_mut().map(|sequence| sequence.candidate(now)));
        self.scheduler.plan(&self.candidates, pool)
    }

    /// Makes the plan's standings true: who lost cells, who lost a place, who got one.
    fn seat(&mut self, plan: &Plan, now: Duration) {
        for &at in &plan.evict {
            self.evict(at);
        }
        let since = self.step;
        for (at, sequence) in self.sequences.iter_mut().enumerate() {
            let placed = plan.running.contains(&at);
            match (placed, sequence.standing) {
                (true, Standing::Waiting | Standing::Aside { .. }) => {
                    sequence.standing = Standing::Running;
                    sequence.fruitful = false;
                    sequence.begin(now);
                }
                (false, Standing::Running) => sequence.standing = Standing::Aside { since },
                _ => {}
            }
        }
        for &(at, _) in &plan.rows {
            let sequence = &mut self.sequences[at];
            if sequence.seat.is_none() {
                sequence.seat = Some(self.free_seats.pop().expect("the plan counts seats"));
            }
        }
    }

    /// Takes a sequence's cells away; it computes its tokens again when it has a place.
    fn evict(&mut self, at: usize) {
        let sequence = &mut self.sequences[at];
        sequence.computed = 0;
        if let Some(seat) = sequence.seat.take() {
            self.free_seats.push(seat);
            // A poisoned context has no cells to free; it is rebuilt before the next decode.
            let _ = self.backend.forget(seat);
        }
    }

    /// Writes the plan's rows; returns for each row with an output the sequence it belongs to.
    fn fill_batch(&mut self, plan: &Plan) -> Vec<(usize, usize)> {
        self.rows.clear();
        let mut outputs = Vec::with_capacity(plan.rows.len());
        for &(at, rows) in &plan.rows {
            let sequence = &self.sequences[at];
            let seat = sequence.seat.expect("seated before its rows are written");
            for (token, position, output) in sequence.rows(rows) {
                if output {
                    outputs.push((self.rows.len(), at));
                }
                self.rows.push(Row { token, position, seat, output });
            }
        }
        outputs
    }

    /// The decode went well: counts the cells, and lets each sequence with logits take its token.
    fn advance(&mut self, plan: &Plan, outputs: &[(usize, usize)]) {
        for &(at, rows) in &plan.rows {
            self.sequences[at].computed += rows;
        }
        let now = self.parts.clock.now();
        let vocabulary = Arc::clone(&self.parts.vocabulary);
        let words = Words { vocabulary: vocabulary.as_ref(), end_tokens: &self.end_tokens };
        let mut ended = Vec::new();
        for &(row, at) in outputs {
            let sequence = &mut self.sequences[at];
            let outcome = match self.backend.logits(row) {
                Ok(logits) => sequence.advance(logits, &words, now),
                Err(error) => {
                    sequence.fail(decode_failed(&Arc::new(error)), now);
                    Outcome::Ended
                }
            };
            if matches!(outcome, Outcome::Ended) {
                ended.push(at);
            }
        }
        ended.sort_unstable();
        for at in ended.into_iter().rev() {
            self.retire(at);
        }
    }

    /// The decode failed: who had rows in it pays, nobody else.
    fn recover(&mut self, plan: &Plan, error: Error) {
        match error {
            // The plan counts cells exactly, so this is fragmentation or a special cache: one less must fit.
            Error::NoKvSlot if plan.rows.len() > 1 => self.evict(plan.rows[plan.rows.len() - 1].0),
            Error::NoKvSlot if self.evict_longest_parked(plan) => {}
            Error::NoKvSlot => {
                let rows = self.rows.len();
                self.fail_all(plan, &MullamaError::StreamingError(StreamFailure::NoCells { rows }));
            }
            // Everybody of the step has left, or the engine ends. What an aborted step left behind is not used again.
            Error::Aborted => plan.rows.iter().for_each(|&(at, _)| self.evict(at)),
            error => {
                let lost = error.poisons();
                tracing::error!(target: "mullama", %error, lost, "decode failed");
                self.fail_all(plan, &decode_failed(&Arc::new(error)));
                if lost {
                    self.broken = true;
                    (0..self.sequences.len()).for_each(|at| self.evict(at));
                    self.revive();
                }
            }
        }
    }

    fn evict_longest_parked(&mut self, plan: &Plan) -> bool {
        let holds = |at: &usize| self.sequences[*at].seat.is_some() && !plan.running.contains(at);
        let parked_since = |at: &usize| match self.sequences[*at].standing {
            Standing::Aside { since } => since,
            Standing::Waiting | Standing::Running => u64::MAX,
        };
        let victim = (0..self.sequences.len()).filter(holds).min_by_key(parked_since);
        victim.map(|at| self.evict(at)).is_some()
    }

    fn fail_all(&mut self, plan: &Plan, error: &MullamaError) {
        let now = self.parts.clock.now();
        let mut failed: Vec<usize> = plan.rows.iter().map(|&(at, _)| at).collect();
        failed.sort_unstable();
        for at in failed.into_iter().rev() {
            self.end(at, |sequence| sequence.fail(error.clone(), now));
        }
    }

    /// Makes a lost context again. While that fails, so do the streams that ask.
    fn revive(&mut self) {
        if !self.broken {
            return;
        }
        match self.backend.rebuild() {
            Ok(()) => self.broken = false,
            Err(error) => {
                tracing::error!(target: "mullama", %error, "the context could not be rebuilt");
                let (error, now) = (decode_failed(&Arc::new(error)), self.parts.clock.now());
                while !self.sequences.is_empty() {
                    self.end(0, |sequence| sequence.fail(error.clone(), now));
                }
            }
        }
    }

    fn end(&mut self, at: usize, how: impl FnOnce(&mut Sequence)) {
        how(&mut self.sequences[at]);
        self.retire(at);
    }

    /// Frees all that an ended sequence held.
    fn retire(&mut self, at: usize) {
        self.evict(at);
        self.sequences.remove(at);
    }

    fn idle_until(&mut self, now: Duration) -> Step {
        self.backend.rest();
        Step::Idle { until: self.sequences.iter().filter_map(|sequence| sequence.next_moment(now)).min() }
    }

    /// Ends every stream with the same error; the engine is about to end.
    pub(crate) fn close(&mut self, error: &MullamaError) {
        let now = self.parts.clock.now();
        self.hear(now);
        for sequence in &mut self.sequences {
            sequence.fail(error.clone(), now);
        }
        self.sequences.clear();
    }
}

fn decode_failed(error: &Arc<Error>) -> MullamaError {
    MullamaError::StreamingError(StreamFailure::Decode(Arc::clone(error)))
}
