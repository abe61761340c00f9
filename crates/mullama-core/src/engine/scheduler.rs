//! Decides which sequences the next step computes, and which give up their KV cells for them.
//!
//! The algorithm, once per step:
//!
//! 1. Running sequences keep their slots while their readers have room.
//! 2. Free slots go to sequences that were paused or preempted, in the order in which they lost their slots, then to the
//!    queue, higher priority first. After some turns the first in the queue goes before them, and the oldest before those of
//!    higher priority: nothing waits forever.
//! 3. A sequence gets a slot only if the pool can hold all that it and the running ones still need. Cached prefixes count as
//!    free cells. Paused sequences are preempted for it, the longest paused first, and for one that had a slot before also
//!    running ones behind it.
//! 4. Each sequence that continues gets one row. What is left of the step's rows goes to prompts, within the prefill budget, in
//!    the order of their rank. A prompt waits while an earlier one computes a prefix that both share.
//! 5. Where rows lack cells, cached prefixes leave the pool, then paused sequences are preempted, then the youngest running one.
//!
//! Pure: it sees numbers and returns a plan. It knows no llama.cpp, no channel and no clock.

use std::borrow::Cow;
use std::cmp::Reverse;

use crate::kv::cells::Cells;

/// What the scheduler knows of one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Higher goes first.
    pub(crate) priority: i32,
    /// Earlier goes first; never equal.
    pub(crate) arrival: u64,
    pub(crate) run_state: RunState,
    /// Its reader has room, its prompt is known and no delay holds it.
    pub(crate) ready: bool,
    /// Tokens that must be computed before the next one can be sampled.
    pub(crate) pending: usize,
    /// Cells that this takes out of the pool; without a seq_id, also those that are restored from host memory.
    pub(crate) wants: usize,
    /// The seq_id whose cells it holds.
    pub(crate) seq_id: Option<usize>,
    /// It produced a token since it last got a slot.
    pub(crate) progressed_since_scheduled: bool,
    /// The sequence that is computing a prefix of its prompt: while that one has a slot, this one waits to share it.
    pub(crate) waits_for: Option<usize>,
}

/// Where a sequence stands between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunState {
    /// In the queue; it has never had a slot.
    Queued,
    /// Lost its slot in the step of this number: paused by its reader or a delay, or preempted.
    Paused { since: u64 },
    /// Has one of the `n_parallel` slots.
    Running,
}

impl RunState {
    /// The step in which it lost its slot; the end of time if it has not.
    pub(crate) fn since(self) -> u64 {
        match self {
            Self::Paused { since } => since,
            Self::Queued | Self::Running => u64::MAX,
        }
    }
}

/// What a step may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pool<'a> {
    /// Sequences computed at once.
    pub(crate) slots: usize,
    /// Sequences that may hold cells at once.
    pub(crate) n_seq: usize,
    /// Who holds which cells.
    pub(crate) cells: &'a Cells,
    /// The seq_ids of cached prefixes, the longest unused first.
    pub(crate) cached: &'a [usize],
    /// Rows of one decode call.
    pub(crate) rows: usize,
    /// Rows of prompts in a step that continues this many sequences.
    pub(crate) prefill: &'a dyn Prefill,
}

/// How many rows of prompts a step may hold.
pub(crate) trait Prefill: std::fmt::Debug {
    /// Rows beside this many running streams; 0 is a step of prompts alone.
    fn rows(&self, continuing: usize) -> usize;
}

/// What the next step does. Sequences are named by their indices in the slice of candidates.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Cached prefixes that leave the pool, by seq_id.
    pub(crate) drop: Vec<usize>,
    /// Sequences that lose their cells, and their slot if they had one.
    pub(crate) evict: Vec<usize>,
    /// Sequences that have a slot after this, best rank first.
    pub(crate) running: Vec<usize>,
    /// What each computes; a sequence of `running` may have no rows this time.
    pub(crate) rows: Vec<PlannedRows>,
}

/// One sequence's part of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlannedRows {
    pub(crate) sequence: usize,
    pub(crate) rows: usize,
}

/// Sequences that had a slot before go before the queue, and higher priorities before older sequences; but after this many
/// times for each slot it is the turn of the one that was passed over.
const BYPASSES_PER_SLOT: usize = 4;

/// Remembers only how often a sequence was passed over.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    /// Paused or preempted sequences that went before the head of the queue since it moved last.
    bypassed: usize,
    /// Sequences of a higher priority that went before the oldest of the queue.
    overtaken: usize,
}

/// What can give up its cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Cached { seq_id: usize },
    Sequence(usize),
}

/// What a victim gives up.
#[derive(Debug)]
struct Holding {
    /// The seq_id whose cells go, if it has one.
    seq_id: Option<usize>,
    /// Whether it counts among the seq_ids that are taken.
    takes_seq_id: bool,
    /// Cells that were promised to it.
    promised: usize,
}

/// The plan while it is being made.
struct Draft<'a> {
    candidates: &'a [Candidate],
    pool: Pool<'a>,
    plan: Plan,
    /// The pool after the evictions so far.
    cells: Cow<'a, Cells>,
    /// Rows given so far: cells that the step will take.
    given: usize,
    /// seq_ids that are taken after the evictions so far.
    seq_ids: usize,
    evicted: Vec<bool>,
}

impl Scheduler {
    /// Plans one step: keeps the running sequences, fills free slots, then gives out rows.
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
                    // Sequences behind it would take the cells that this one waits for.
                    if !draft.give_slot(next, true) {
                        return;
                    }
                    self.bypassed += usize::from(head.is_some());
                }
                next => {
                    paused.extend(next);
                    let Some(head) = head else { return };
                    // First come, first served: one that does not fit holds up the queue behind it, but not paused ones.
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

/// Whether a sequence has a seq_id, or is promised one with the slot that it keeps.
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

    /// Which sequences wait for a slot: the queue, and those that had one before. The first in line is last in the list.
    fn lines(&self) -> (Vec<usize>, Vec<usize>) {
        let mut queue = self.indices(|c| c.run_state == RunState::Queued && c.ready);
        let mut paused = self.indices(|c| matches!(c.run_state, RunState::Paused { .. }) && c.ready);
        // By turns: the one that lost its slot last goes behind those that have waited for longer.
        paused.sort_by_key(|&i| (Reverse(self.candidates[i].priority), self.since(i), self.candidates[i].arrival));
        queue.reverse();
        paused.reverse();
        (queue, paused)
    }

    /// Cells that the running sequences will need for what is pending.
    fn promised(&self) -> usize {
        self.plan.running.iter().map(|&i| self.candidates[i].wants).sum()
    }

    /// Gives a slot if the cells and a seq_id can be had; a sequence that `had` one before may preempt running ones behind it.
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

    /// What would have to go for a sequence to get a slot; `None` if all of that were not enough.
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
        // Cells of cached prefixes are as good as free: `give` takes them when rows need them. Their seq_ids are not.
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

    /// The pool as it would be if all cached prefixes left it.
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

    /// What holds cells without a slot: cached prefixes, then sequences that wait for their readers, the longest paused first.
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

    /// Cells that a sequence without a seq_id takes out of the pool beside those of its rows: a prefix is restored.
    fn restored(&self, index: usize) -> usize {
        let candidate = &self.candidates[index];
        if candidate.seq_id.is_none() { candidate.wants - candidate.pending } else { 0 }
    }

    /// Gives `rows` to a running sequence, evicting others for cells; perhaps fewer, perhaps none.
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
