//! Decides which sequences the next step computes, and which give up their KV cells for them.
//!
//! The algorithm, once per step:
//!
//! 1. Running sequences keep their slots while their buffers have capacity.
//! 2. Free slots go to sequences that were paused or preempted, in the order in which they lost their slots, then to
//!    the queue, higher priority first. After a number of bypasses the head of the queue goes before them, and the
//!    oldest of the queue before those of higher priority, so nothing waits forever.
//! 3. A sequence gets a slot only if the pool can hold everything that it and the running ones still need. Cached
//!    prefixes count as free cells. To make room, paused sequences are preempted, the longest paused first; for a
//!    sequence that had a slot before, running ones of a lower rank are preempted as well.
//! 4. Each running sequence that decodes gets one row. The remaining rows go to prompts, within the prefill budget and
//!    in the order of their rank. A prompt waits while an earlier sequence computes a prefix that both share.
//! 5. If rows lack cells, cached prefixes leave the pool, then paused sequences are preempted, then the youngest
//!    running one.
//!
//! Pure: it takes numbers and returns a plan. It does not use llama.cpp, channels or clocks.

use std::borrow::Cow;
use std::cmp::Reverse;

use crate::kv::cells::Cells;

/// What the scheduler knows of one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Higher priorities go first.
    pub(crate) priority: i32,
    /// Lower numbers go first; they are never equal.
    pub(crate) arrival: u64,
    pub(crate) run_state: RunState,
    /// Its buffer has capacity, its prompt is tokenized and no delay holds it back.
    pub(crate) ready: bool,
    /// Number of tokens that must be computed before the next one can be sampled.
    pub(crate) pending: usize,
    /// Cells that this takes from the pool; without a seq_id, including those that are restored from host memory.
    pub(crate) wants: usize,
    /// The seq_id whose cells it holds.
    pub(crate) seq_id: Option<usize>,
    /// Whether it produced a token since it last got a slot.
    pub(crate) progressed_since_scheduled: bool,
    /// The sequence that is computing a prefix of its prompt: while that sequence has a slot, this one waits to share
    /// it.
    pub(crate) waits_for: Option<usize>,
}

/// The scheduling state of a sequence between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunState {
    /// In the queue; it has never had a slot.
    Queued,
    /// It lost its slot in the step of this number: paused by its reader or a delay, or preempted.
    Paused { since: u64 },
    /// It has one of the `n_parallel` slots.
    Running,
}

impl RunState {
    /// The step in which it lost its slot; `u64::MAX` if it has not lost one.
    pub(crate) fn since(self) -> u64 {
        match self {
            Self::Paused { since } => since,
            Self::Queued | Self::Running => u64::MAX,
        }
    }
}

/// The resources that a step may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pool<'a> {
    /// Number of slots.
    pub(crate) slots: usize,
    /// Number of sequences that may hold cells at once.
    pub(crate) n_seq: usize,
    /// Which sequence holds which cells.
    pub(crate) cells: &'a Cells,
    /// The seq_ids of cached prefixes, the least recently used first.
    pub(crate) cached: &'a [usize],
    /// Maximum number of rows of one decode call.
    pub(crate) rows: usize,
    /// Limits the prompt rows of a step.
    pub(crate) prefill: &'a dyn Prefill,
}

/// Limits how many prompt rows a step may hold.
pub(crate) trait Prefill: std::fmt::Debug {
    /// Prompt rows beside this many running streams; 0 is a step with prompts alone.
    fn rows(&self, continuing: usize) -> usize;
}

/// What the next step does. A sequence is identified by its index in the slice of candidates.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Cached prefixes that leave the pool, by seq_id.
    pub(crate) drop: Vec<usize>,
    /// Sequences that lose their cells, and their slot if they had one.
    pub(crate) evict: Vec<usize>,
    /// Sequences that have a slot afterwards, best rank first.
    pub(crate) running: Vec<usize>,
    /// The rows of each sequence; a sequence of `running` may have none in this step.
    pub(crate) rows: Vec<PlannedRows>,
}

/// The rows of one sequence in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlannedRows {
    pub(crate) sequence: usize,
    pub(crate) rows: usize,
}

/// Sequences that had a slot before go before the queue, and higher priorities before older sequences. After this many
/// bypasses per slot, the sequence that was bypassed goes first.
const BYPASSES_PER_SLOT: usize = 4;

/// Its only state is how often a sequence was bypassed.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    /// Paused or preempted sequences that went before the head of the queue since the head last got a slot.
    bypassed: usize,
    /// Sequences of a higher priority that went before the oldest one of the queue.
    overtaken: usize,
}

/// Something that can give up its cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Cached { seq_id: usize },
    Sequence(usize),
}

/// What a victim gives up.
#[derive(Debug)]
struct Holding {
    /// The seq_id whose cells are freed, if it has one.
    seq_id: Option<usize>,
    /// Whether it counts among the seq_ids in use.
    takes_seq_id: bool,
    /// Cells that were reserved for it.
    promised: usize,
}

/// The plan under construction.
struct Draft<'a> {
    candidates: &'a [Candidate],
    pool: Pool<'a>,
    plan: Plan,
    /// The pool after the evictions so far.
    cells: Cow<'a, Cells>,
    /// Rows given so far: cells that the step will use.
    given: usize,
    /// Number of seq_ids in use after the evictions so far.
    seq_ids: usize,
    evicted: Vec<bool>,
}

impl Scheduler {
    /// Plans one step: keeps the running sequences, fills free slots, then distributes rows.
    pub(crate) fn plan(&mut self, candidates: &[Candidate], pool: Pool<'_>) -> Plan {
        let mut draft = Draft::new(candidates, pool);
        draft.keep_running();
        self.fill_slots(&mut draft);
        draft.give_rows();
        draft.plan
    }

    fn fill_slots(&mut self, draft: &mut Draft<'_>) {
        if draft.plan.running.len() >= draft.pool.slots {
            return;
        }
        let (mut queue, mut paused) = draft.lines();
        while draft.plan.running.len() < draft.pool.slots {
            let turns = BYPASSES_PER_SLOT * draft.pool.slots;
            let overdue = self.bypassed >= turns;
            let oldest = queue.iter().copied().min_by_key(|&i| draft.candidates[i].arrival);
            let head = if self.overtaken >= turns { oldest } else { queue.last().copied() };
            match paused.pop() {
                // Its numbers are from before it lost its cells; the next plan has new ones.
                Some(next) if draft.evicted[next] => {}
                Some(next) if !(overdue && head.is_some()) => {
                    // Sequences of a lower rank would take the cells that this one waits for.
                    if !draft.give_slot(next, true) {
                        return;
                    }
                    self.bypassed += usize::from(head.is_some());
                }
                next => {
                    paused.extend(next);
                    let Some(head) = head else { return };
                    // The queue is served in order: one that does not fit blocks the queue behind it, but not paused
                    // ones.
                    self.bypassed = 0;
                    if draft.give_slot(head, false) {
                        self.overtaken = if Some(head) == oldest { 0 } else { self.overtaken + 1 };
                        queue.retain(|&i| i != head);
                    } else {
                        queue.clear();
                    }
                }
            }
        }
    }
}

/// Whether a sequence has a seq_id, or will get one with the slot that it keeps.
fn takes_seq_id(candidate: &Candidate) -> bool {
    candidate.seq_id.is_some() || (candidate.run_state == RunState::Running && candidate.ready)
}

impl<'a> Draft<'a> {
    fn new(candidates: &'a [Candidate], pool: Pool<'a>) -> Self {
        Self {
            candidates,
            pool,
            plan: Plan::default(),
            cells: Cow::Borrowed(pool.cells),
            given: 0,
            seq_ids: candidates.iter().filter(|c| takes_seq_id(c)).count() + pool.cached.len(),
            evicted: vec![false; candidates.len()],
        }
    }

    /// Best rank first: higher priority, then earlier arrival.
    fn rank(&self, index: usize) -> (Reverse<i32>, u64) {
        let candidate = &self.candidates[index];
        (Reverse(candidate.priority), candidate.arrival)
    }

    /// The step in which it lost its slot.
    fn since(&self, index: usize) -> u64 {
        self.candidates[index].run_state.since()
    }

    fn keep_running(&mut self) {
        let running = |c: &Candidate| c.run_state == RunState::Running && c.ready;
        self.plan.running = self.indices(running);
    }

    fn indices(&self, wanted: impl Fn(&Candidate) -> bool) -> Vec<usize> {
        let mut found: Vec<usize> = (0..self.candidates.len()).filter(|&i| wanted(&self.candidates[i])).collect();
        found.sort_by_key(|&i| self.rank(i));
        found
    }

    /// The sequences that wait for a slot: the queue, and those that had one before. The next one is last in each list.
    fn lines(&self) -> (Vec<usize>, Vec<usize>) {
        let mut queue = self.indices(|c| c.run_state == RunState::Queued && c.ready);
        let mut paused = self.indices(|c| matches!(c.run_state, RunState::Paused { .. }) && c.ready);
        // Round robin: the sequence that lost its slot most recently goes behind those that have waited longer.
        paused.sort_by_key(|&i| (Reverse(self.candidates[i].priority), self.since(i), self.candidates[i].arrival));
        queue.reverse();
        paused.reverse();
        (queue, paused)
    }

    /// Cells that the running sequences need for their pending tokens.
    fn promised(&self) -> usize {
        self.plan.running.iter().map(|&i| self.candidates[i].wants).sum()
    }

    /// Gives a slot if the cells and a seq_id can be had; a sequence that `had` one before may preempt running ones
    /// behind it.
    fn give_slot(&mut self, index: usize, had: bool) -> bool {
        let Some(victims) = self.victims_for(index, had) else { return false };
        for victim in victims {
            self.evict(victim);
        }
        self.seq_ids += usize::from(!takes_seq_id(&self.candidates[index]));
        let at = self.plan.running.partition_point(|&other| self.rank(other) < self.rank(index));
        self.plan.running.insert(at, index);
        true
    }

    /// The victims to evict so that a sequence can get a slot; `None` if even all of them were not enough.
    fn victims_for(&self, index: usize, had: bool) -> Option<Vec<Victim>> {
        let candidate = &self.candidates[index];
        let new_seq_id = usize::from(!takes_seq_id(candidate));
        let enough_seq_ids = |taken: usize| taken + new_seq_id <= self.pool.n_seq;
        let enough_cells =
            |cells: usize, promised: usize| cells + promised + candidate.wants <= self.pool.cells.capacity();
        let (mut taken, mut promised) = (self.seq_ids, self.promised());
        if enough_seq_ids(taken) && enough_cells(self.cells.used(), promised) {
            return Some(Vec::new());
        }
        // Cells of cached prefixes count as free, because `give` takes them when rows need them. Their seq_ids do not.
        let mut cells = self.without_cached();
        let mut victims = self.victims_without_slot(index);
        if had {
            let running = self.running_victims(index, |c| c.progressed_since_scheduled);
            victims.extend(running.into_iter().map(Victim::Sequence));
        }
        let mut chosen = Vec::new();
        for victim in victims {
            if enough_seq_ids(taken) && enough_cells(cells.used(), promised) {
                break;
            }
            if matches!(victim, Victim::Cached { .. }) && enough_seq_ids(taken) {
                continue;
            }
            let holding = self.holding(victim);
            if let Some(seq_id) = holding.seq_id {
                cells.truncate(seq_id, 0);
            }
            taken -= usize::from(holding.takes_seq_id);
            promised -= holding.promised;
            chosen.push(victim);
        }
        (enough_seq_ids(taken) && enough_cells(cells.used(), promised)).then_some(chosen)
    }

    /// The pool as it would be without any cached prefixes.
    fn without_cached(&self) -> Cells {
        let mut cells = self.cells.clone().into_owned();
        self.pool.cached.iter().for_each(|&seq_id| cells.truncate(seq_id, 0));
        cells
    }

    fn holding(&self, victim: Victim) -> Holding {
        match victim {
            Victim::Cached { seq_id } => Holding { seq_id: Some(seq_id), takes_seq_id: true, promised: 0 },
            Victim::Sequence(index) => {
                let candidate = &self.candidates[index];
                let promised = if self.plan.running.contains(&index) { candidate.wants } else { 0 };
                Holding { seq_id: candidate.seq_id, takes_seq_id: takes_seq_id(candidate), promised }
            }
        }
    }

    /// Holders of cells without a slot: cached prefixes, then paused sequences, the longest paused first.
    fn victims_without_slot(&self, but: usize) -> Vec<Victim> {
        let in_pool = |seq_id: &&usize| !self.plan.drop.contains(seq_id);
        let cached = self.pool.cached.iter().filter(in_pool).map(|&seq_id| Victim::Cached { seq_id });
        let waits = |&i: &usize| {
            i != but && !self.evicted[i] && self.candidates[i].seq_id.is_some() && !self.plan.running.contains(&i)
        };
        let mut paused: Vec<usize> = (0..self.candidates.len()).filter(waits).collect();
        paused.sort_by_key(|&i| {
            let candidate = &self.candidates[i];
            (candidate.ready, self.since(i), candidate.arrival)
        });
        cached.chain(paused.into_iter().map(Victim::Sequence)).collect()
    }

    /// Running sequences of a lower rank, the youngest first.
    fn running_victims(&self, than: usize, wanted: impl Fn(&Candidate) -> bool) -> Vec<usize> {
        let lower = |&&i: &&usize| self.rank(i) > self.rank(than) && wanted(&self.candidates[i]);
        self.plan.running.iter().rev().filter(lower).copied().collect()
    }

    fn evict(&mut self, victim: Victim) {
        let holding = self.holding(victim);
        if let Some(seq_id) = holding.seq_id {
            self.cells.to_mut().truncate(seq_id, 0);
        }
        self.seq_ids -= usize::from(holding.takes_seq_id);
        match victim {
            Victim::Cached { seq_id } => self.plan.drop.push(seq_id),
            Victim::Sequence(index) => {
                self.evicted[index] = true;
                self.plan.running.retain(|&i| i != index);
                if let Some(at) = self.plan.rows.iter().position(|planned| planned.sequence == index) {
                    self.given -= self.plan.rows.remove(at).rows + self.restored(index);
                }
                self.plan.evict.push(index);
            }
        }
    }

    fn give_rows(&mut self) {
        let continues = |draft: &Self, i: usize| draft.candidates[i].pending == 1;
        let waits = |&i: &usize| self.candidates[i].waits_for.is_some_and(|source| self.plan.running.contains(&source));
        let running: Vec<usize> = self.plan.running.iter().copied().filter(|i| !waits(i)).collect();
        let mut rows = self.pool.rows;
        for &index in running.iter().filter(|&&i| continues(self, i)).collect::<Vec<_>>() {
            if !self.evicted[index] {
                rows -= self.give(index, rows.min(1));
            }
        }
        let mut prefill = self.pool.prefill.rows(self.plan.rows.len()).min(rows);
        for &index in running.iter().filter(|&&i| !continues(self, i)).collect::<Vec<_>>() {
            let candidate = &self.candidates[index];
            if !self.evicted[index] {
                prefill -= self.give(index, candidate.pending.min(prefill));
            }
        }
    }

    /// Cells beyond those of its rows that a sequence without a seq_id takes from the pool, because a prefix is
    /// restored.
    fn restored(&self, index: usize) -> usize {
        let candidate = &self.candidates[index];
        if candidate.seq_id.is_none() { candidate.wants - candidate.pending } else { 0 }
    }

    /// Gives up to `rows` rows to a running sequence and evicts others if cells are needed; it may get fewer, or none.
    fn give(&mut self, index: usize, rows: usize) -> usize {
        let restored = self.restored(index);
        let room =
            |draft: &Self| draft.pool.cells.capacity().saturating_sub(draft.cells.used() + draft.given + restored);
        while rows > room(self) {
            let waiting = self.victims_without_slot(index).first().copied();
            let running = || self.running_victims(index, |_| true).first().copied().map(Victim::Sequence);
            let Some(victim) = waiting.or_else(running) else { break };
            self.evict(victim);
        }
        let rows = rows.min(room(self));
        if rows > 0 {
            self.plan.rows.push(PlannedRows { sequence: index, rows });
            self.given += rows + restored;
        }
        rows
    }
}

#[cfg(test)]
mod tests;
