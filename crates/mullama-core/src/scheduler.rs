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
            draft.committed() + candidate.pending <= draft.pool.cells + cells
                && draft.seated + new_seat <= draft.pool.seats + seats
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
        let idle =
            |i: usize| i != but && !self.evicted[i] && self.candidates[i].seated && !self.plan.running.contains(&i);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONTEXT: usize = 64;

    fn standing() -> impl Strategy<Value = Standing> {
        prop_oneof![
            Just(Standing::Waiting),
            Just(Standing::Running),
            (0_u64..9).prop_map(|since| Standing::Aside { since })
        ]
    }

    /// A candidate; what it holds is cut down to what the pool has by [`situation`].
    fn candidate() -> impl Strategy<Value = Candidate> {
        (-2..3_i32, standing(), any::<bool>(), 1..CONTEXT, 0..CONTEXT, any::<bool>()).prop_map(
            |(priority, standing, ready, pending, cells, fruitful)| {
                let pending = if standing == Standing::Running && cells > 0 && fruitful { 1 } else { pending };
                Candidate { priority, arrival: 0, standing, ready, pending, cells, seated: cells > 0, fruitful }
            },
        )
    }

    /// A pool and candidates that can stand in it: nobody holds what there is not, and the queue holds nothing.
    fn situation() -> impl Strategy<Value = (Vec<Candidate>, Pool)> {
        let pool =
            (1..6_usize, 0..4_usize, CONTEXT..4 * CONTEXT, 6..40_usize).prop_map(|(places, more, cells, rows)| Pool {
                places,
                seats: places + more,
                cells,
                rows,
                prefill_beside: 4,
                prefill_alone: 32,
            });
        (prop::collection::vec(candidate(), 0..14), pool).prop_map(|(mut candidates, pool)| {
            let (mut cells, mut seats, mut running) = (pool.cells, pool.seats, pool.places);
            for (candidate, arrival) in candidates.iter_mut().zip(0..) {
                candidate.arrival = arrival;
                running -= usize::from(candidate.standing == Standing::Running && running > 0);
                if candidate.standing == Standing::Running && running == 0 {
                    candidate.standing = Standing::Aside { since: arrival };
                }
                let holds = candidate.standing != Standing::Waiting && candidate.seated && seats > 0;
                // One seat stays for each place, so that those promised to the running are there.
                candidate.cells = if holds && candidate.cells <= cells { candidate.cells } else { 0 };
                candidate.seated = candidate.cells > 0;
                candidate.pending = candidate.pending.min(CONTEXT - candidate.cells);
                (cells, seats) = (cells - candidate.cells, seats - usize::from(candidate.seated));
            }
            for candidate in candidates.iter_mut().filter(|c| c.standing == Standing::Running && !c.seated) {
                // A running sequence without a seat was promised one.
                if seats == 0 {
                    candidate.standing = Standing::Aside { since: 0 };
                }
                seats = seats.saturating_sub(1);
            }
            (candidates, pool)
        })
    }

    fn rows_of(plan: &Plan, index: usize) -> usize {
        plan.rows.iter().filter(|(i, _)| *i == index).map(|(_, rows)| *rows).sum()
    }

    fn distinct(numbers: impl Iterator<Item = usize>) -> bool {
        let mut all: Vec<usize> = numbers.collect();
        let len = all.len();
        all.sort_unstable();
        all.dedup();
        all.len() == len
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_plan_keeps_every_limit_and_names_nobody_twice((candidates, pool) in situation(), bypassed in 0..30_usize) {
            let plan = Scheduler { bypassed }.plan(&candidates, pool);
            prop_assert!(distinct(plan.running.iter().copied()) && distinct(plan.evict.iter().copied()));
            prop_assert!(distinct(plan.rows.iter().map(|(i, _)| *i)));
            prop_assert!(plan.running.len() <= pool.places);
            prop_assert!(plan.running.iter().all(|i| candidates[*i].ready && !plan.evict.contains(i)));
            for &(index, rows) in &plan.rows {
                prop_assert!(plan.running.contains(&index) && rows > 0 && rows <= candidates[index].pending);
            }
            let rows: usize = plan.rows.iter().map(|(_, rows)| rows).sum();
            let stays = |index: usize| !plan.evict.contains(&index);
            let held: usize = (0..candidates.len()).filter(|&i| stays(i)).map(|i| candidates[i].cells).sum();
            prop_assert!(rows <= pool.rows && held + rows <= pool.cells, "{held} cells and {rows} rows");
            let seats = (0..candidates.len()).filter(|&i| (stays(i) && candidates[i].seated) || rows_of(&plan, i) > 0);
            prop_assert!(seats.count() <= pool.seats);
        }

        #[test]
        fn prompts_take_no_more_rows_than_their_share((candidates, pool) in situation()) {
            let plan = Scheduler::default().plan(&candidates, pool);
            let continuing = plan.rows.iter().any(|(i, _)| candidates[*i].pending == 1);
            let prompts = plan.rows.iter().filter(|(i, _)| candidates[*i].pending > 1);
            let share = if continuing { pool.prefill_beside } else { pool.prefill_alone };
            prop_assert!(prompts.map(|(_, rows)| rows).sum::<usize>() <= share);
        }

        #[test]
        fn while_anybody_is_ready_somebody_is_computed((candidates, pool) in situation(), bypassed in 0..30_usize) {
            let plan = Scheduler { bypassed }.plan(&candidates, pool);
            prop_assert_eq!(candidates.iter().any(|c| c.ready), !plan.rows.is_empty());
        }

        #[test]
        fn the_best_of_the_running_is_computed_and_never_evicted((candidates, pool) in situation()) {
            let running = |i: &usize| candidates[*i].standing == Standing::Running && candidates[*i].ready;
            let rank = |i: &usize| (Reverse(candidates[*i].priority), candidates[*i].arrival);
            let best_begun = (0..candidates.len())
                .filter(|i| candidates[*i].ready && candidates[*i].standing != Standing::Waiting)
                .min_by_key(rank);
            if let Some(best) = best_begun.filter(running) {
                let plan = Scheduler::default().plan(&candidates, pool);
                prop_assert!(!plan.evict.contains(&best) && plan.running.contains(&best));
            }
        }

        #[test]
        fn nobody_who_runs_is_pushed_out_while_a_parked_one_still_holds_cells((candidates, pool) in situation()) {
            let plan = Scheduler::default().plan(&candidates, pool);
            let pushed_out = |c: &Candidate| c.standing == Standing::Running && c.ready;
            if plan.evict.iter().any(|&i| pushed_out(&candidates[i])) {
                let parked = |i: &usize| candidates[*i].seated && !candidates[*i].ready && !plan.evict.contains(i);
                prop_assert!(!(0..candidates.len()).any(|i| parked(&i)));
            }
        }

        #[test]
        fn the_queue_is_served_in_order_of_rank((candidates, pool) in situation(), bypassed in 0..30_usize) {
            let plan = Scheduler { bypassed }.plan(&candidates, pool);
            let rank = |i: usize| (Reverse(candidates[i].priority), candidates[i].arrival);
            let queue = (0..candidates.len()).filter(|&i| candidates[i].standing == Standing::Waiting && candidates[i].ready);
            // One that was placed and evicted for cells again has had its turn in the order.
            let (placed, left): (Vec<usize>, Vec<usize>) = queue.partition(|i| plan.running.contains(i) || plan.evict.contains(i));
            let last = placed.into_iter().map(rank).max();
            prop_assert!(left.into_iter().map(rank).all(|waiting| last.is_none_or(|last| last < waiting)));
        }
    }

    #[test]
    fn who_lost_its_cells_in_this_plan_gets_no_place_by_its_old_numbers() {
        let aside = |arrival, ready, since, cells| Candidate {
            priority: 0,
            arrival,
            standing: Standing::Aside { since },
            ready,
            pending: if cells > 0 { 1 } else { 20 },
            cells,
            seated: cells > 0,
            fruitful: true,
        };
        let sleeper = aside(0, false, 9, 10);
        let (wakes, loses) = (aside(1, true, 1, 0), aside(2, true, 2, 10));
        let pool = Pool { places: 2, seats: 2, cells: 100, rows: 50, prefill_beside: 4, prefill_alone: 32 };
        let plan = Scheduler::default().plan(&[sleeper, wakes, loses], pool);
        assert_eq!((plan.evict, plan.running), (vec![0], vec![1, 2]));
        let plan = Scheduler::default().plan(&[wakes, aside(2, true, 2, 10), aside(3, true, 1, 10)], pool);
        assert_eq!((plan.evict, plan.running), (vec![2], vec![0, 1]), "the evicted one waits for the next plan");
    }
}
