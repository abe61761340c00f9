//! Decides which sequences the next step computes, and who gives up cells for them.
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
    /// Cells that this takes out of the pool; without a seat, also those that are copied back from host memory.
    pub(crate) wants: usize,
    /// The seat whose cells it holds.
    pub(crate) seq_id: Option<usize>,
    /// It produced a token since it was last given a place.
    pub(crate) progressed_since_scheduled: bool,
    /// Who is computing what it begins with: while that one has a place, it waits to share.
    pub(crate) waits_for: Option<usize>,
}

/// Where a sequence stands between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunState {
    /// In the queue, not begun.
    Queued,
    /// Begun, without a place: paused since the step of this number, paused or preempted.
    Paused { since: u64 },
    /// Holds one of the `n_parallel` places.
    Running,
}

impl RunState {
    /// The step in which it gave up its place; the end of time if it has not.
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
    /// Seats of idle beginnings, the least wanted first.
    pub(crate) idle: &'a [usize],
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

/// What the next step does. Numbers of sequences are places in the slice of candidates.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Idle beginnings that lose their cells, by seat.
    pub(crate) drop: Vec<usize>,
    /// Sequences that lose their cells, and their place if they had one.
    pub(crate) evict: Vec<usize>,
    /// Sequences that have a place after this, best rank first.
    pub(crate) running: Vec<usize>,
    /// How many rows each computes; a sequence of `running` may have none this time.
    pub(crate) rows: Vec<(usize, usize)>,
}

/// Begun streams go before the queue, and higher priorities before older streams; but after this many times for each place
/// it is the turn of who was passed over.
const BYPASSES_PER_SLOT: usize = 4;

/// Remembers only how often somebody was passed over.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    /// Begun streams that went before the head of the queue since it moved last.
    bypassed: usize,
    /// Streams of a higher priority that went before the oldest of the queue.
    overtaken: usize,
}

/// Who can give cells up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Idle { seq_id: usize },
    Sequence(usize),
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
    /// Seats that stay taken after the evictions so far.
    held: usize,
    evicted: Vec<bool>,
}

impl Scheduler {
    /// Plans one step: keeps the running, fills free places, then gives out rows.
    pub(crate) fn plan(&mut self, candidates: &[Candidate], pool: Pool<'_>) -> Plan {
        let mut draft = Draft::new(candidates, pool);
        draft.keep_running();
        self.fill_places(&mut draft);
        draft.give_rows();
        draft.plan
    }

    fn fill_places(&mut self, draft: &mut Draft<'_>) {
        if draft.plan.running.len() >= draft.pool.slots {
            return;
        }
        let (mut queue, mut begun) = draft.lines();
        while draft.plan.running.len() < draft.pool.slots {
            let turns = BYPASSES_PER_SLOT * draft.pool.slots;
            let overdue = self.bypassed >= turns;
            let oldest = queue.iter().copied().min_by_key(|&i| draft.candidates[i].arrival);
            let head = if self.overtaken >= turns { oldest } else { queue.last().copied() };
            match begun.pop() {
                // Its numbers are those from before it lost its cells; the next plan knows better.
                Some(next) if draft.evicted[next] => {}
                Some(next) if !(overdue && head.is_some()) => {
                    // Whoever came later would take the cells that this one waits for.
                    if !draft.slot(next, true) {
                        return;
                    }
                    self.bypassed += usize::from(head.is_some());
                }
                next => {
                    begun.extend(next);
                    let Some(head) = head else { return };
                    // First come, first served: who does not fit holds up those behind it, not those begun.
                    self.bypassed = 0;
                    if draft.slot(head, false) {
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

/// Whether a sequence has a seat, or is promised one with the place that it keeps.
fn takes_seat(candidate: &Candidate) -> bool {
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
            held: candidates.iter().filter(|c| takes_seat(c)).count() + pool.idle.len(),
            evicted: vec![false; candidates.len()],
        }
    }

    /// Best rank first: higher priority, then earlier arrival.
    fn rank(&self, index: usize) -> (Reverse<i32>, u64) {
        let candidate = &self.candidates[index];
        (Reverse(candidate.priority), candidate.arrival)
    }

    /// The step in which it gave up its place.
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

    /// Who waits for a place: the queue, and those begun before. The first in line is last in the list.
    fn lines(&self) -> (Vec<usize>, Vec<usize>) {
        let mut queue = self.indices(|c| c.run_state == RunState::Queued && c.ready);
        let mut begun = self.indices(|c| matches!(c.run_state, RunState::Paused { .. }) && c.ready);
        // By turns: whoever gave up its place last goes behind those that have waited since before.
        begun.sort_by_key(|&i| (Reverse(self.candidates[i].priority), self.since(i), self.candidates[i].arrival));
        queue.reverse();
        begun.reverse();
        (queue, begun)
    }

    /// Cells that the placed sequences will need for what is pending.
    fn promised(&self) -> usize {
        self.plan.running.iter().map(|&i| self.candidates[i].wants).sum()
    }

    /// Gives a place if the cells and a seat can be had; a sequence begun before may push out running ones behind it.
    fn slot(&mut self, index: usize, begun: bool) -> bool {
        let candidate = self.candidates[index];
        let new_seat = usize::from(!takes_seat(&candidate));
        let fits = |cells: usize, held: usize, promised: usize, draft: &Self| {
            cells + promised + candidate.wants <= draft.pool.cells.capacity() && held + new_seat <= draft.pool.n_seq
        };
        if !fits(self.cells.used(), self.held, self.promised(), self) {
            // Cells of cached prefixes are as good as free: `give` takes them when rows need them. Their seq_ids are not.
            let mut victims = self.idle_victims(index);
            if begun {
                let running = self.running_victims(index, |c| c.progressed_since_scheduled);
                victims.extend(running.into_iter().map(Victim::Sequence));
            }
            let (mut cells, mut held, mut promised) = (self.without_cached(), self.held, self.promised());
            let mut chosen = Vec::new();
            for victim in victims {
                if fits(cells.used(), held, promised, self) {
                    break;
                }
                if matches!(victim, Victim::Idle { .. }) && held + new_seat <= self.pool.n_seq {
                    continue;
                }
                let (seq_id, had_seat, freed) = self.holdings(victim);
                if let Some(seq_id) = seq_id {
                    cells.truncate(seq_id, 0);
                }
                held -= usize::from(had_seat);
                promised -= freed;
                chosen.push(victim);
            }
            if !fits(cells.used(), held, promised, self) {
                return false;
            }
            for victim in chosen {
                self.evict(victim);
            }
        }
        self.held += new_seat;
        let at = self.plan.running.partition_point(|&other| self.rank(other) < self.rank(index));
        self.plan.running.insert(at, index);
        true
    }

    /// The pool as it would be if all cached prefixes left it.
    fn without_cached(&self) -> Cells {
        let mut cells = self.cells.clone().into_owned();
        self.pool.idle.iter().for_each(|&seq_id| cells.truncate(seq_id, 0));
        cells
    }

    /// What a victim gives up: the seat whose cells go, whether it counts as seated, and cells that were promised to it.
    fn holdings(&self, victim: Victim) -> (Option<usize>, bool, usize) {
        match victim {
            Victim::Idle { seq_id } => (Some(seq_id), true, 0),
            Victim::Sequence(index) => {
                let candidate = &self.candidates[index];
                let promised = if self.plan.running.contains(&index) { candidate.wants } else { 0 };
                (candidate.seq_id, takes_seat(candidate), promised)
            }
        }
    }

    /// Who holds cells without a place: idle beginnings, then sequences that wait for their readers, longest first.
    fn idle_victims(&self, but: usize) -> Vec<Victim> {
        let idle = self
            .pool
            .idle
            .iter()
            .filter(|seq_id| !self.plan.drop.contains(seq_id))
            .map(|&seq_id| Victim::Idle { seq_id });
        let aside = |&i: &usize| {
            i != but && !self.evicted[i] && self.candidates[i].seq_id.is_some() && !self.plan.running.contains(&i)
        };
        let mut paused: Vec<usize> = (0..self.candidates.len()).filter(aside).collect();
        paused.sort_by_key(|&i| {
            let candidate = &self.candidates[i];
            (candidate.ready, self.since(i), candidate.arrival)
        });
        idle.chain(paused.into_iter().map(Victim::Sequence)).collect()
    }

    /// Placed sequences of a lower rank, the youngest first.
    fn running_victims(&self, than: usize, wanted: impl Fn(&Candidate) -> bool) -> Vec<usize> {
        let lower = |&&i: &&usize| self.rank(i) > self.rank(than) && wanted(&self.candidates[i]);
        self.plan.running.iter().rev().filter(lower).copied().collect()
    }

    fn evict(&mut self, victim: Victim) {
        let (seq_id, had_seat, _) = self.holdings(victim);
        if let Some(seq_id) = seq_id {
            self.cells.to_mut().truncate(seq_id, 0);
        }
        self.held -= usize::from(had_seat);
        match victim {
            Victim::Idle { seq_id } => self.plan.drop.push(seq_id),
            Victim::Sequence(index) => {
                self.evicted[index] = true;
                self.plan.running.retain(|&i| i != index);
                if let Some(at) = self.plan.rows.iter().position(|&(i, _)| i == index) {
                    self.given -= self.plan.rows.remove(at).1 + self.beginning(index);
                }
                self.plan.evict.push(index);
            }
        }
    }

    fn give_rows(&mut self) {
        let continues = |draft: &Self, i: usize| draft.candidates[i].pending == 1;
        let waits = |&i: &usize| {
            self.candidates[i].waits_for.is_some_and(|prefix_source| self.plan.running.contains(&prefix_source))
        };
        let placed: Vec<usize> = self.plan.running.iter().copied().filter(|i| !waits(i)).collect();
        let mut rows = self.pool.rows;
        for &index in placed.iter().filter(|&&i| continues(self, i)).collect::<Vec<_>>() {
            if !self.evicted[index] {
                rows -= self.give(index, rows.min(1));
            }
        }
        let mut prefill = self.pool.prefill.rows(self.plan.rows.len()).min(rows);
        for &index in placed.iter().filter(|&&i| !continues(self, i)).collect::<Vec<_>>() {
            let candidate = &self.candidates[index];
            if !self.evicted[index] {
                prefill -= self.give(index, candidate.pending.min(prefill));
            }
        }
    }

    /// Cells that a sequence without a seat takes out of the pool beside those of its rows: its beginning comes back.
    fn beginning(&self, index: usize) -> usize {
        let candidate = &self.candidates[index];
        if candidate.seq_id.is_none() { candidate.wants - candidate.pending } else { 0 }
    }

    /// Gives `rows` to a placed sequence, evicting others for cells; perhaps fewer, perhaps none.
    fn give(&mut self, index: usize, rows: usize) -> usize {
        let beginning = self.beginning(index);
        let room =
            |draft: &Self| draft.pool.cells.capacity().saturating_sub(draft.cells.used() + draft.given + beginning);
        while rows > room(self) {
            let idle = self.idle_victims(index).first().copied();
            let running = || self.running_victims(index, |_| true).first().copied().map(Victim::Sequence);
            let Some(victim) = idle.or_else(running) else { break };
            self.evict(victim);
        }
        let rows = rows.min(room(self));
        if rows > 0 {
            self.plan.rows.push((index, rows));
            self.given += rows + beginning;
        }
        rows
    }
}

#[cfg(test)]
mod tests;
