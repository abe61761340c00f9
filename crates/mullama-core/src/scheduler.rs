//! Decides which sequences the next step computes, and who gives up cells for them.
//!
//! Pure: it sees numbers and returns a plan. It knows no llama.cpp, no channel and no clock.

use std::cmp::Reverse;

/// What the scheduler knows of one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Higher goes first.
    pub(crate) priority: i32,
    /// Earlier goes first; never equal.
    pub(crate) arrival: u64,
    pub(crate) standing: Standing,
    /// Its reader has room, its prompt is known and no delay holds it.
    pub(crate) ready: bool,
    /// Tokens that must be computed before the next one can be sampled.
    pub(crate) pending: usize,
    /// Cells of the pool that it holds.
    pub(crate) cells: usize,
    /// It holds one of the pool's seats.
    pub(crate) seated: bool,
    /// It produced a token since it was last given a place.
    pub(crate) fruitful: bool,
}

/// Where a sequence stands between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// In the queue, not begun.
    Waiting,
    /// Begun, without a place: parked since the step of this number, paused or preempted.
    Aside { since: u64 },
    /// Holds one of the `n_parallel` places.
    Running,
}

/// What a step may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pool {
    /// Sequences computed at once.
    pub(crate) places: usize,
    /// Sequences that may hold cells at once.
    pub(crate) seats: usize,
    /// Cells of the KV pool.
    pub(crate) cells: usize,
    /// Rows of one decode call.
    pub(crate) rows: usize,
    /// Rows of prompts in a step that also continues other sequences.
    pub(crate) prefill_beside: usize,
    /// Rows of prompts in a step of prompts alone.
    pub(crate) prefill_alone: usize,
}

/// What the next step does. Numbers are places in the slice of candidates.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Sequences that lose their cells, and their place if they had one.
    pub(crate) evict: Vec<usize>,
    /// Sequences that have a place after this, best rank first.
    pub(crate) running: Vec<usize>,
    /// How many rows each computes; a sequence of `running` may have none this time.
    pub(crate) rows: Vec<(usize, usize)>,
}

/// Begun streams go before the queue, but after this many times for each place the head of the queue goes first.
const BYPASSES_PER_PLACE: usize = 4;

/// Remembers only how long the head of the queue has been passed over.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    bypassed: usize,
}

/// The plan while it is being made.
struct Draft<'a> {
    candidates: &'a [Candidate],
    pool: Pool,
    plan: Plan,
    /// Cells that stay taken after the evictions so far.
    held: usize,
    /// Seats that stay taken after the evictions so far.
    seated: usize,
    evicted: Vec<bool>,
}

impl Scheduler {
    /// Plans one step: keeps the running, fills free places, then gives out rows.
    pub(crate) fn plan(&mut self, candidates: &[Candidate], pool: Pool) -> Plan {
        let mut draft = Draft::new(candidates, pool);
        draft.keep_running();
        self.fill_places(&mut draft);
        draft.give_rows();
        draft.plan
    }

    fn fill_places(&mut self, draft: &mut Draft<'_>) {
        let (mut queue, mut begun) = draft.lines();
        while draft.plan.running.len() < draft.pool.places {
            let overdue = self.bypassed >= BYPASSES_PER_PLACE * draft.pool.places;
            let head = queue.last().copied();
            match begun.pop() {
                // Its numbers are those from before it lost its cells; the next plan knows better.
                Some(next) if draft.evicted[next] => {}
                Some(next) if !(overdue && head.is_some()) => {
                    // Whoever came later would take the cells that this one waits for.
                    if !draft.place(next, true) {
                        return;
                    }
                    self.bypassed += usize::from(head.is_some());
                }
                next => {
                    begun.extend(next);
                    let Some(head) = head else { return };
                    // First come, first served: who does not fit holds up those behind it, not those begun.
                    self.bypassed = 0;
                    if draft.place(head, false) {
                        queue.pop();
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
    candidate.seated || (candidate.standing == Standing::Running && candidate.ready)
}

impl<'a> Draft<'a> {
    fn new(candidates: &'a [Candidate], pool: Pool) -> Self {
        Self {
            candidates,
            pool,
            plan: Plan::default(),
            held: candidates.iter().map(|c| c.cells).sum(),
            seated: candidates.iter().filter(|c| takes_seat(c)).count(),
            evicted: vec![false; candidates.len()],
        }
    }

    /// Best rank first: higher priority, then earlier arrival.
    fn rank(&self, index: usize) -> (Reverse<i32>, u64) {
        let candidate = &self.candidates[index];
        (Reverse(candidate.priority), candidate.arrival)
    }

    fn keep_running(&mut self) {
        let running = |c: &Candidate| c.standing == Standing::Running && c.ready;
        self.plan.running = self.indices(running);
    }

    fn indices(&self, wanted: impl Fn(&Candidate) -> bool) -> Vec<usize> {
        let mut found: Vec<usize> = (0..self.candidates.len()).filter(|&i| wanted(&self.candidates[i])).collect();
        found.sort_by_key(|&i| self.rank(i));
        found
    }

    /// Who waits for a place: the queue, and those begun before. The first in line is last in the list.
    fn lines(&self) -> (Vec<usize>, Vec<usize>) {
        let mut queue = self.indices(|c| c.standing == Standing::Waiting && c.ready);
        let mut begun = self.indices(|c| matches!(c.standing, Standing::Aside { .. }) && c.ready);
        queue.reverse();
        begun.reverse();
        (queue, begun)
    }

    /// Cells that the placed sequences hold or will need for what is pending, and that the others hold.
    fn committed(&self) -> usize {
        let promised: usize = self.plan.running.iter().map(|&i| self.candidates[i].pending).sum();
        self.held + promised
    }

    /// Gives a place if the cells and a seat can be had; a sequence begun before may push out running ones behind it.
    fn place(&mut self, index: usize, begun: bool) -> bool {
        let candidate = &self.candidates[index];
        let new_seat = usize::from(!takes_seat(candidate));
        let mut victims = self.idle_victims(index);
        if begun {
            victims.extend(self.running_victims(index, |c| c.fruitful));
        }
        let enough = |draft: &Self, cells: usize, seats: usize| {
            draft.committed() + candidate.pending <= draft.pool.cells + cells && draft.seated + new_seat <= draft.pool.seats + seats
        };
        let (mut cells, mut seats, mut taken) = (0, 0, 0);
        while !enough(self, cells, seats) {
            let Some(&victim) = victims.get(taken) else { return false };
            let leaves = &self.candidates[victim];
            let promised = if self.plan.running.contains(&victim) { leaves.pending } else { 0 };
            cells += leaves.cells + promised;
            seats += usize::from(takes_seat(leaves));
            taken += 1;
        }
        victims.truncate(taken);
        victims.into_iter().for_each(|victim| self.evict(victim));
        self.seated += new_seat;
        let at = self.plan.running.partition_point(|&other| self.rank(other) < self.rank(index));
        self.plan.running.insert(at, index);
        true
    }

    /// Sequences without a place that hold a seat: those that wait for their readers first, longest parked first.
    fn idle_victims(&self, but: usize) -> Vec<usize> {
        let idle = |i: usize| i != but && !self.evicted[i] && self.candidates[i].seated && !self.plan.running.contains(&i);
        let mut found: Vec<usize> = (0..self.candidates.len()).filter(|&i| idle(i)).collect();
        found.sort_by_key(|&i| {
            let candidate = &self.candidates[i];
            let since = match candidate.standing {
                Standing::Aside { since } => since,
                Standing::Waiting | Standing::Running => u64::MAX,
            };
            (candidate.ready, since, candidate.arrival)
        });
        found
    }

    /// Placed sequences of a lower rank, the youngest first.
    fn running_victims(&self, than: usize, wanted: impl Fn(&Candidate) -> bool) -> Vec<usize> {
        let lower = |&&i: &&usize| self.rank(i) > self.rank(than) && wanted(&self.candidates[i]);
        self.plan.running.iter().rev().filter(lower).copied().collect()
    }

    fn evict(&mut self, victim: usize) {
        let candidate = &self.candidates[victim];
        self.held -= candidate.cells;
        self.seated -= usize::from(takes_seat(candidate));
        self.evicted[victim] = true;
        self.plan.running.retain(|&i| i != victim);
        self.plan.rows.retain(|&(i, _)| i != victim);
        self.plan.evict.push(victim);
    }

    fn give_rows(&mut self) {
        let continuing = |draft: &Self, i: usize| draft.candidates[i].pending == 1;
        let (mut rows, mut prefill) = (self.pool.rows, self.pool.prefill_alone);
        for index in self.plan.running.clone() {
            if !continuing(self, index) || !self.plan.running.contains(&index) {
                continue;
            }
            prefill = self.pool.prefill_beside;
            rows -= self.give(index, rows.min(1));
        }
        for index in self.plan.running.clone() {
            if continuing(self, index) || !self.plan.running.contains(&index) {
                continue;
            }
            let given = self.give(index, self.candidates[index].pending.min(prefill).min(rows));
            prefill -= given;
            rows -= given;
        }
    }

    /// Gives `rows` to a placed sequence, evicting others for cells; perhaps fewer, perhaps none.
    fn give(&mut self, index: usize, rows: usize) -> usize {
        let used = |draft: &Self| draft.held + draft.plan.rows.iter().map(|&(_, rows)| rows).sum::<usize>();
        while used(self) + rows > self.pool.cells {
            let idle = self.idle_victims(index).first().copied();
            let Some(victim) = idle.or_else(|| self.running_victims(index, |_| true).first().copied()) else { break };
            self.evict(victim);
        }
        let rows = rows.min(self.pool.cells.saturating_sub(used(self)));
        if rows > 0 {
            self.plan.rows.push((index, rows));
        }
        rows
    }
}
