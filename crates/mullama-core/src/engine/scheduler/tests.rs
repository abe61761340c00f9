//! Properties of the plan, for any candidates and any pool.

use proptest::prelude::*;

use super::*;

const CONTEXT: usize = 64;
/// The seq_ids of cached prefixes are above those of candidates.
const FIRST_CACHED: usize = 20;

fn run_state() -> impl Strategy<Value = RunState> {
    prop_oneof![
        Just(RunState::Queued),
        Just(RunState::Running),
        (0_u64..9).prop_map(|since| RunState::Paused { since })
    ]
}

/// A candidate and the number of its cells.
#[derive(Debug, Clone)]
struct Holder {
    candidate: Candidate,
    cells: usize,
}

/// Prompt rows beside running streams, and alone.
#[derive(Debug, Clone, Copy)]
struct Fixed(usize, usize);

impl Prefill for Fixed {
    fn rows(&self, continuing: usize) -> usize {
        if continuing == 0 { self.1 } else { self.0 }
    }
}

const PREFILL: Fixed = Fixed(4, 32);

/// The input of a plan.
#[derive(Debug, Clone)]
struct Situation {
    candidates: Vec<Candidate>,
    slots: usize,
    n_seq: usize,
    rows: usize,
    cells: Cells,
    cached: Vec<usize>,
}

impl Situation {
    fn plan(&self, bypassed: usize) -> Plan {
        let Self { slots, n_seq, rows, .. } = *self;
        let pool = Pool { slots, n_seq, cells: &self.cells, cached: &self.cached, rows, prefill: &PREFILL };
        Scheduler { bypassed, overtaken: 0 }.plan(&self.candidates, pool)
    }

    /// The pool after the plan's evictions.
    fn after(&self, plan: &Plan) -> Cells {
        let mut cells = self.cells.clone();
        plan.drop.iter().for_each(|&seq_id| cells.truncate(seq_id, 0));
        let n_seq = plan.evict.iter().filter_map(|&i| self.candidates[i].seq_id);
        n_seq.for_each(|seq_id| cells.truncate(seq_id, 0));
        cells
    }
}

/// A candidate; [`situation`] reduces its cells to what the pool has.
fn candidate() -> impl Strategy<Value = Holder> {
    (-2..3_i32, run_state(), any::<bool>(), 1..CONTEXT, 0..CONTEXT, any::<bool>()).prop_map(
        |(priority, run_state, ready, pending, cells, progressed_since_scheduled)| {
            let pending =
                if run_state == RunState::Running && cells > 0 && progressed_since_scheduled { 1 } else { pending };
            Holder {
                candidate: Candidate {
                    priority,
                    arrival: 0,
                    run_state,
                    ready,
                    pending,
                    wants: pending,
                    seq_id: None,
                    progressed_since_scheduled,
                    waits_for: None,
                },
                cells,
            }
        },
    )
}

/// A pool and candidates that fit it: no cell is counted twice, queued ones hold no cells, and there are cached
/// prefixes, one of which shares cells with a sequence.
fn situation() -> impl Strategy<Value = Situation> {
    let pool = (1..6_usize, 0..4_usize, CONTEXT..4 * CONTEXT, 6..40_usize);
    (prop::collection::vec(candidate(), 0..14), pool, 0..3_usize).prop_map(
        |(holders, (slots, more, cells, rows), cached)| {
            let n_seq = slots + more;
            let mut pool = Cells::new(cells, FIRST_CACHED + 3);
            let (mut free, mut running, mut candidates) = (n_seq, slots, Vec::new());
            for (Holder { mut candidate, cells: wanted }, arrival) in holders.into_iter().zip(0..) {
                candidate.arrival = arrival;
                running -= usize::from(candidate.run_state == RunState::Running && running > 0);
                if candidate.run_state == RunState::Running && running == 0 {
                    candidate.run_state = RunState::Paused { since: arrival };
                }
                let fits = wanted > 0 && pool.used() + wanted <= cells && free > 0;
                if candidate.run_state != RunState::Queued && fits {
                    candidate.seq_id = Some(candidates.len());
                    pool.extend(candidates.len(), wanted);
                    free -= 1;
                    candidate.pending = candidate.pending.min(CONTEXT - wanted);
                }
                candidate.wants = candidate.pending;
                candidates.push(candidate);
            }
            for candidate in candidates.iter_mut().filter(|c| c.run_state == RunState::Running && c.seq_id.is_none()) {
                // A running sequence without a seq_id has one reserved.
                if free == 0 {
                    candidate.run_state = RunState::Paused { since: 0 };
                }
                free = free.saturating_sub(1);
            }
            let cached: Vec<usize> = (FIRST_CACHED..FIRST_CACHED + cached.min(free)).collect();
            for &seq_id in &cached {
                match candidates.iter().find_map(|c| c.seq_id) {
                    Some(from) if seq_id == FIRST_CACHED => pool.share(from, seq_id, pool.of(from) / 2),
                    _ => pool.extend(seq_id, 5.min(cells - pool.used())),
                }
            }
            Situation { candidates, slots, n_seq, rows, cells: pool, cached }
        },
    )
}

fn rows_of(plan: &Plan, index: usize) -> usize {
    plan.rows.iter().filter(|planned| planned.sequence == index).map(|planned| planned.rows).sum()
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
    fn a_plan_keeps_every_limit_and_names_no_sequence_twice(situation in situation(), bypassed in 0..30_usize) {
        let candidates = &situation.candidates;
        let plan = situation.plan(bypassed);
        prop_assert!(distinct(plan.running.iter().copied()) && distinct(plan.evict.iter().copied()));
        prop_assert!(distinct(plan.rows.iter().map(|planned| planned.sequence)));
        prop_assert!(plan.running.len() <= situation.slots);
        prop_assert!(plan.running.iter().all(|i| candidates[*i].ready && !plan.evict.contains(i)));
        for &PlannedRows { sequence, rows } in &plan.rows {
            prop_assert!(plan.running.contains(&sequence) && rows > 0 && rows <= candidates[sequence].pending);
        }
        let rows: usize = plan.rows.iter().map(|planned| planned.rows).sum();
        let stays = |index: usize| !plan.evict.contains(&index);
        let held = situation.after(&plan).used();
        let capacity = situation.cells.capacity();
        prop_assert!(rows <= situation.rows && held + rows <= capacity, "{held} cells and {rows} rows of {capacity}");
        let n_seq = (0..candidates.len()).filter(|&i| (stays(i) && candidates[i].seq_id.is_some()) || rows_of(&plan, i) > 0);
        let cached = situation.cached.len() - plan.drop.len();
        prop_assert!(n_seq.count() + cached <= situation.n_seq);
    }

    #[test]
    fn prompts_take_no_more_rows_than_the_prefill_budget(situation in situation()) {
        let candidates = &situation.candidates;
        let plan = situation.plan(0);
        let continuing = plan.rows.iter().any(|planned| candidates[planned.sequence].pending == 1);
        let prompts = plan.rows.iter().filter(|planned| candidates[planned.sequence].pending > 1);
        let share = PREFILL.rows(usize::from(continuing));
        prop_assert!(prompts.map(|planned| planned.rows).sum::<usize>() <= share);
    }

    #[test]
    fn while_a_sequence_is_ready_one_is_computed(situation in situation(), bypassed in 0..30_usize) {
        let candidates = &situation.candidates;
        let plan = situation.plan(bypassed);
        prop_assert_eq!(candidates.iter().any(|c| c.ready), !plan.rows.is_empty());
    }

    #[test]
    fn the_running_sequence_of_the_best_rank_is_computed_and_never_evicted(situation in situation()) {
        let candidates = &situation.candidates;
        let running = |i: &usize| candidates[*i].run_state == RunState::Running && candidates[*i].ready;
        let rank = |i: &usize| (Reverse(candidates[*i].priority), candidates[*i].arrival);
        let best_begun = (0..candidates.len())
            .filter(|i| candidates[*i].ready && candidates[*i].run_state != RunState::Queued)
            .min_by_key(rank);
        if let Some(best) = best_begun.filter(running) {
        let plan = situation.plan(0);
            prop_assert!(!plan.evict.contains(&best) && plan.running.contains(&best));
        }
    }

    #[test]
    fn no_running_sequence_is_preempted_while_a_paused_one_still_has_cells(situation in situation()) {
        let candidates = &situation.candidates;
        let plan = situation.plan(0);
        let pushed_out = |c: &Candidate| c.run_state == RunState::Running && c.ready;
        if plan.evict.iter().any(|&i| pushed_out(&candidates[i])) {
            let paused = |i: &usize| candidates[*i].seq_id.is_some() && !candidates[*i].ready && !plan.evict.contains(i);
            prop_assert!(!(0..candidates.len()).any(|i| paused(&i)));
        }
    }

    #[test]
    fn the_queue_is_served_in_order_of_rank(situation in situation(), bypassed in 0..30_usize) {
        let candidates = &situation.candidates;
        let plan = situation.plan(bypassed);
        let rank = |i: usize| (Reverse(candidates[i].priority), candidates[i].arrival);
        let queue = (0..candidates.len()).filter(|&i| candidates[i].run_state == RunState::Queued && candidates[i].ready);
        // A sequence that got a slot and was then evicted for cells was still served in order.
        let (placed, left): (Vec<usize>, Vec<usize>) = queue.partition(|i| plan.running.contains(i) || plan.evict.contains(i));
        let last = placed.into_iter().map(rank).max();
        prop_assert!(left.into_iter().map(rank).all(|waiting| last.is_none_or(|last| last < waiting)));
    }
}

#[test]
fn a_sequence_that_loses_its_cells_in_a_plan_gets_no_slot_in_the_same_plan() {
    let paused = |arrival, ready, since, seq_id: Option<usize>| {
        let pending = if seq_id.is_some() { 1 } else { 20 };
        let run_state = RunState::Paused { since };
        Candidate {
            priority: 0,
            arrival,
            run_state,
            ready,
            pending,
            wants: pending,
            seq_id,
            progressed_since_scheduled: true,
            waits_for: None,
        }
    };
    let mut cells = Cells::new(100, 2);
    (0..2).for_each(|seq_id| cells.extend(seq_id, 10));
    let pool = Pool { slots: 2, n_seq: 2, cells: &cells, cached: &[], rows: 50, prefill: &PREFILL };
    let (sleeper, wakes) = (paused(0, false, 9, Some(0)), paused(1, true, 1, None));
    let plan = Scheduler::default().plan(&[sleeper, wakes, paused(2, true, 2, Some(1))], pool);
    assert_eq!((plan.evict, plan.running), (vec![0], vec![1, 2]));
    let plan = Scheduler::default().plan(&[wakes, paused(2, true, 2, Some(0)), paused(3, true, 1, Some(1))], pool);
    assert_eq!((plan.evict, plan.running), (vec![2], vec![0, 1]), "the evicted one waits for the next plan");
}

#[test]
fn a_prompt_waits_for_a_shared_prefix_only_while_its_source_has_a_slot() {
    let fresh = |arrival, ready, waits_for| {
        let run_state = RunState::Queued;
        Candidate {
            priority: 0,
            arrival,
            run_state,
            ready,
            pending: 9,
            wants: 9,
            seq_id: None,
            progressed_since_scheduled: false,
            waits_for,
        }
    };
    let cells = Cells::new(100, 4);
    let pool = Pool { slots: 2, n_seq: 4, cells: &cells, cached: &[], rows: 50, prefill: &PREFILL };
    let plan = Scheduler::default().plan(&[fresh(0, true, None), fresh(1, true, Some(0))], pool);
    assert_eq!((plan.running, plan.rows), (vec![0, 1], vec![PlannedRows { sequence: 0, rows: 9 }]));
    let plan = Scheduler::default().plan(&[fresh(0, false, None), fresh(1, true, Some(0))], pool);
    assert_eq!((plan.running, plan.rows), (vec![1], vec![PlannedRows { sequence: 1, rows: 9 }]));
}
