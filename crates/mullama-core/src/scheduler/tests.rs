//! The plan's laws, for any candidates and any pool.

use proptest::prelude::*;

use super::*;

const CONTEXT: usize = 64;
/// Seats of idle beginnings lie above those of candidates.
const IDLE_SEATS: usize = 20;

fn standing() -> impl Strategy<Value = Standing> {
    prop_oneof![
        Just(Standing::Waiting),
        Just(Standing::Running),
        (0_u64..9).prop_map(|since| Standing::Aside { since })
    ]
}

/// A candidate and how many cells it holds.
#[derive(Debug, Clone)]
struct Held {
    candidate: Candidate,
    cells: usize,
}

/// Rows of prompts beside running streams, and alone.
#[derive(Debug, Clone, Copy)]
struct Fixed(usize, usize);

impl Prefill for Fixed {
    fn rows(&self, continuing: usize) -> usize {
        if continuing == 0 { self.1 } else { self.0 }
    }
}

const PREFILL: Fixed = Fixed(4, 32);

/// All that a plan is made from.
#[derive(Debug, Clone)]
struct Situation {
    candidates: Vec<Candidate>,
    places: usize,
    seats: usize,
    rows: usize,
    cells: Cells,
    idle: Vec<usize>,
}

impl Situation {
    fn plan(&self, bypassed: usize) -> Plan {
        let Self { places, seats, rows, .. } = *self;
        let pool = Pool { places, seats, cells: &self.cells, idle: &self.idle, rows, prefill: &PREFILL };
        Scheduler { bypassed, overtaken: 0 }.plan(&self.candidates, pool)
    }

    /// The pool after the plan's evictions.
    fn after(&self, plan: &Plan) -> Cells {
        let mut cells = self.cells.clone();
        plan.drop.iter().for_each(|&seat| cells.truncate(seat, 0));
        let seats = plan.evict.iter().filter_map(|&i| self.candidates[i].seat);
        seats.for_each(|seat| cells.truncate(seat, 0));
        cells
    }
}

/// A candidate; what it holds is cut down to what the pool has by [`situation`].
fn candidate() -> impl Strategy<Value = Held> {
    (-2..3_i32, standing(), any::<bool>(), 1..CONTEXT, 0..CONTEXT, any::<bool>()).prop_map(
        |(priority, standing, ready, pending, cells, fruitful)| {
            let pending = if standing == Standing::Running && cells > 0 && fruitful { 1 } else { pending };
            Held {
                candidate: Candidate {
                    priority,
                    arrival: 0,
                    standing,
                    ready,
                    pending,
                    wants: pending,
                    seat: None,
                    fruitful,
                    follows: None,
                },
                cells,
            }
        },
    )
}

/// A pool and candidates that can stand in it: nobody holds what there is not, the queue holds nothing, and some seats
/// hold idle beginnings, one of them shared with a sequence.
fn situation() -> impl Strategy<Value = Situation> {
    let pool = (1..6_usize, 0..4_usize, CONTEXT..4 * CONTEXT, 6..40_usize);
    (prop::collection::vec(candidate(), 0..14), pool, 0..3_usize).prop_map(
        |(held, (places, more, cells, rows), idle)| {
            let seats = places + more;
            let mut pool = Cells::new(cells, IDLE_SEATS + 3);
            let (mut free, mut running, mut candidates) = (seats, places, Vec::new());
            for (Held { mut candidate, cells: wanted }, arrival) in held.into_iter().zip(0..) {
                candidate.arrival = arrival;
                running -= usize::from(candidate.standing == Standing::Running && running > 0);
                if candidate.standing == Standing::Running && running == 0 {
                    candidate.standing = Standing::Aside { since: arrival };
                }
                let fits = wanted > 0 && pool.used() + wanted <= cells && free > 0;
                if candidate.standing != Standing::Waiting && fits {
                    candidate.seat = Some(candidates.len());
                    pool.extend(candidates.len(), wanted);
                    free -= 1;
                    candidate.pending = candidate.pending.min(CONTEXT - wanted);
                }
                candidate.wants = candidate.pending;
                candidates.push(candidate);
            }
            for candidate in candidates.iter_mut().filter(|c| c.standing == Standing::Running && c.seat.is_none()) {
                // A running sequence without a seat was promised one.
                if free == 0 {
                    candidate.standing = Standing::Aside { since: 0 };
                }
                free = free.saturating_sub(1);
            }
            let idle: Vec<usize> = (IDLE_SEATS..IDLE_SEATS + idle.min(free)).collect();
            for &seat in &idle {
                match candidates.iter().find_map(|c| c.seat) {
                    Some(from) if seat == IDLE_SEATS => pool.share(from, seat, pool.of(from) / 2),
                    _ => pool.extend(seat, 5.min(cells - pool.used())),
                }
            }
            Situation { candidates, places, seats, rows, cells: pool, idle }
        },
    )
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
    fn a_plan_keeps_every_limit_and_names_nobody_twice(situation in situation(), bypassed in 0..30_usize) {
        let candidates = &situation.candidates;
        let plan = situation.plan(bypassed);
        prop_assert!(distinct(plan.running.iter().copied()) && distinct(plan.evict.iter().copied()));
        prop_assert!(distinct(plan.rows.iter().map(|(i, _)| *i)));
        prop_assert!(plan.running.len() <= situation.places);
        prop_assert!(plan.running.iter().all(|i| candidates[*i].ready && !plan.evict.contains(i)));
        for &(index, rows) in &plan.rows {
            prop_assert!(plan.running.contains(&index) && rows > 0 && rows <= candidates[index].pending);
        }
        let rows: usize = plan.rows.iter().map(|(_, rows)| rows).sum();
        let stays = |index: usize| !plan.evict.contains(&index);
        let held = situation.after(&plan).used();
        let capacity = situation.cells.capacity();
        prop_assert!(rows <= situation.rows && held + rows <= capacity, "{held} cells and {rows} rows of {capacity}");
        let seats = (0..candidates.len()).filter(|&i| (stays(i) && candidates[i].seat.is_some()) || rows_of(&plan, i) > 0);
        let idle = situation.idle.len() - plan.drop.len();
        prop_assert!(seats.count() + idle <= situation.seats);
    }

    #[test]
    fn prompts_take_no_more_rows_than_their_share(situation in situation()) {
        let candidates = &situation.candidates;
        let plan = situation.plan(0);
        let continuing = plan.rows.iter().any(|(i, _)| candidates[*i].pending == 1);
        let prompts = plan.rows.iter().filter(|(i, _)| candidates[*i].pending > 1);
        let share = PREFILL.rows(usize::from(continuing));
        prop_assert!(prompts.map(|(_, rows)| rows).sum::<usize>() <= share);
    }

    #[test]
    fn while_anybody_is_ready_somebody_is_computed(situation in situation(), bypassed in 0..30_usize) {
        let candidates = &situation.candidates;
        let plan = situation.plan(bypassed);
        prop_assert_eq!(candidates.iter().any(|c| c.ready), !plan.rows.is_empty());
    }

    #[test]
    fn the_best_of_the_running_is_computed_and_never_evicted(situation in situation()) {
        let candidates = &situation.candidates;
        let running = |i: &usize| candidates[*i].standing == Standing::Running && candidates[*i].ready;
        let rank = |i: &usize| (Reverse(candidates[*i].priority), candidates[*i].arrival);
        let best_begun = (0..candidates.len())
            .filter(|i| candidates[*i].ready && candidates[*i].standing != Standing::Waiting)
            .min_by_key(rank);
        if let Some(best) = best_begun.filter(running) {
        let plan = situation.plan(0);
            prop_assert!(!plan.evict.contains(&best) && plan.running.contains(&best));
        }
    }

    #[test]
    fn nobody_who_runs_is_pushed_out_while_a_parked_one_still_holds_cells(situation in situation()) {
        let candidates = &situation.candidates;
        let plan = situation.plan(0);
        let pushed_out = |c: &Candidate| c.standing == Standing::Running && c.ready;
        if plan.evict.iter().any(|&i| pushed_out(&candidates[i])) {
            let parked = |i: &usize| candidates[*i].seat.is_some() && !candidates[*i].ready && !plan.evict.contains(i);
            prop_assert!(!(0..candidates.len()).any(|i| parked(&i)));
        }
    }

    #[test]
    fn the_queue_is_served_in_order_of_rank(situation in situation(), bypassed in 0..30_usize) {
        let candidates = &situation.candidates;
        let plan = situation.plan(bypassed);
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
    let aside = |arrival, ready, since, seat: Option<usize>| {
        let pending = if seat.is_some() { 1 } else { 20 };
        let standing = Standing::Aside { since };
        Candidate {
            priority: 0,
            arrival,
            standing,
            ready,
            pending,
            wants: pending,
            seat,
            fruitful: true,
            follows: None,
        }
    };
    let mut cells = Cells::new(100, 2);
    (0..2).for_each(|seat| cells.extend(seat, 10));
    let pool = Pool { places: 2, seats: 2, cells: &cells, idle: &[], rows: 50, prefill: &PREFILL };
    let (sleeper, wakes) = (aside(0, false, 9, Some(0)), aside(1, true, 1, None));
    let plan = Scheduler::default().plan(&[sleeper, wakes, aside(2, true, 2, Some(1))], pool);
    assert_eq!((plan.evict, plan.running), (vec![0], vec![1, 2]));
    let plan = Scheduler::default().plan(&[wakes, aside(2, true, 2, Some(0)), aside(3, true, 1, Some(1))], pool);
    assert_eq!((plan.evict, plan.running), (vec![2], vec![0, 1]), "the evicted one waits for the next plan");
}

#[test]
fn a_follower_waits_only_while_its_leader_has_a_place() {
    let fresh = |arrival, ready, follows| {
        let standing = Standing::Waiting;
        Candidate { priority: 0, arrival, standing, ready, pending: 9, wants: 9, seat: None, fruitful: false, follows }
    };
    let cells = Cells::new(100, 4);
    let pool = Pool { places: 2, seats: 4, cells: &cells, idle: &[], rows: 50, prefill: &PREFILL };
    let plan = Scheduler::default().plan(&[fresh(0, true, None), fresh(1, true, Some(0))], pool);
    assert_eq!((plan.running, plan.rows), (vec![0, 1], vec![(0, 9)]));
    let plan = Scheduler::default().plan(&[fresh(0, false, None), fresh(1, true, Some(0))], pool);
    assert_eq!((plan.running, plan.rows), (vec![1], vec![(1, 9)]));
}
