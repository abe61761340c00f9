//! Learns from finished work what idle KV cells cost, and what copying KV costs.
//!
//! Attention scans every cell up to the highest one in use, also those that are masked for the row, so cached prefixes
//! slow each step down. How much depends on the model, the backend and the machine: from nothing that can be measured to
//! half of a step. Steps of one kind show it, because the pool fills and empties: what a row costs is fitted as
//! `a + b × attended cells + c × masked cells`, with an `a` for each kind of step, and `c` is what an idle cell costs.
//! Copies are timed themselves.

use std::collections::BTreeMap;
use std::time::Duration;

/// How long copies may hold up a step of running streams: law 11's bound for whatever runs beside them.
const BESIDE: Duration = Duration::from_millis(20);
/// The same in normal steps, where those are long.
const NORMAL_STEPS: f64 = 3.0;
/// How long copies may last in a step without running streams: a new stream waits that long to be seen.
const ALONE: Duration = Duration::from_millis(250);
/// The part of a bound that is planned for: fragmented cells cost more than contiguous ones.
const AIM: f64 = 0.75;
/// Tokens of the first copy, when nothing is known, and the fewest of any.
const FIRST_COPY: usize = 64;
/// Weight of the newest sample in a running mean, once there are enough.
const NEWEST: f64 = 1.0 / 16.0;
/// What remains of the evidence when a step is added.
const MEMORY: f64 = 1.0 - 1.0 / 512.0;

/// A running mean: of all samples while they are few, then mostly of the newest.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    value: f64,
    samples: f64,
}

impl Mean {
    fn learn(&mut self, sample: f64) {
        self.samples += 1.0;
        self.value += (sample - self.value) * NEWEST.max(1.0 / self.samples);
    }

    fn known(self) -> Option<f64> {
        (self.samples > 0.0).then_some(self.value)
    }
}

/// Steps whose rows cost the same: as many streams that continue, or prompts of about the same number of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Decode { rows: usize },
    Prefill { rows_log2: u32 },
}

/// What steps of one kind had in common.
#[derive(Debug, Default)]
struct Usual {
    attended: Mean,
    masked: Mean,
    /// Seconds a row.
    row: Mean,
}

/// What a step computed, and in which pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    /// Rows of running streams.
    pub(crate) decode: usize,
    /// Rows of prompts.
    pub(crate) prefill: usize,
    /// Cells that the rows attended to, all rows together.
    pub(crate) attended: usize,
    /// Cells that attention scanned for each row.
    pub(crate) scanned: usize,
}

/// What the deviations of steps from their usual say about the cost of a row: sums for least squares.
#[derive(Debug, Default)]
struct Evidence {
    attended: f64,
    masked: f64,
    both: f64,
    row_attended: f64,
    row_masked: f64,
}

impl Evidence {
    /// Adds a step of this many rows that deviated by so many cells and seconds a row.
    fn add(&mut self, rows: f64, [attended, masked, row]: [f64; 3]) {
        let grow = |sum: &mut f64, product: f64| *sum = *sum * MEMORY + rows * product;
        grow(&mut self.attended, attended * attended);
        grow(&mut self.masked, masked * masked);
        grow(&mut self.both, attended * masked);
        grow(&mut self.row_attended, attended * row);
        grow(&mut self.row_masked, masked * row);
    }

    /// What a masked cell adds to a row; 0 while that cannot be told from what an attended one adds.
    fn masked_cell(&self) -> f64 {
        let apart = self.attended * self.masked - self.both * self.both;
        let slope = if self.attended == 0.0 && self.masked > 0.0 {
            self.row_masked / self.masked
        } else if apart > 0.01 * self.attended * self.masked {
            (self.attended * self.row_masked - self.both * self.row_attended) / apart
        } else {
            0.0
        };
        slope.max(0.0)
    }
}

/// What idle cells and copies cost, in seconds.
#[derive(Debug, Default)]
pub(crate) struct KvCosts {
    usual: BTreeMap<Kind, Usual>,
    evidence: Evidence,
    /// A step that only continues streams.
    decode_step: Mean,
    /// A token of a prompt.
    prefill: Mean,
    /// A token that is copied from the pool to host memory, or back.
    copy: Mean,
}

#[expect(clippy::cast_precision_loss, reason = "counts of tokens are far below 2^52")]
pub(crate) fn float(count: usize) -> f64 {
    count as f64
}

impl KvCosts {
    /// A step took this long.
    pub(crate) fn learn_step(&mut self, work: Work, took: Duration) {
        let took = took.as_secs_f64();
        let rows = float(work.decode + work.prefill);
        let kind = match (work.decode, work.prefill) {
            (0, 0) => return,
            (rows, 0) => {
                self.decode_step.learn(took);
                Kind::Decode { rows }
            }
            (0, rows) => {
                self.prefill.learn(took / float(rows));
                Kind::Prefill { rows_log2: rows.ilog2() }
            }
            // What the two kinds of rows cost apart is not known.
            _ => return,
        };
        let (row, attended) = (took / rows, float(work.attended) / rows);
        let masked = float(work.scanned) - attended;
        let usual = self.usual.entry(kind).or_default();
        if let Some(usual_row) = usual.row.known() {
            // A hiccup of the machine says nothing about cells.
            let row = row.min(2.0 * usual_row);
            self.evidence.add(rows, [attended - usual.attended.value, masked - usual.masked.value, row - usual_row]);
        }
        usual.row.learn(row);
        usual.attended.learn(attended);
        usual.masked.learn(masked);
    }

    /// Copying this many tokens, in either direction, took this long.
    pub(crate) fn learn_copy(&mut self, tokens: usize, took: Duration) {
        if tokens > 0 {
            self.copy.learn(took.as_secs_f64() / float(tokens));
        }
    }

    /// Whether anything was copied yet.
    pub(crate) fn knows_copies(&self) -> bool {
        self.copy.known().is_some()
    }

    /// What one idle cell adds to a step, for each of its rows. 0 while steps have not shown any cost.
    pub(crate) fn idle_cell(&self) -> f64 {
        self.evidence.masked_cell()
    }

    /// What it costs to copy a prefix of this many tokens out of the pool and back. As long as nothing was copied, the cost
    /// of computing it again, which a copy that is worth anything stays below.
    pub(crate) fn out_and_back(&self, tokens: usize) -> f64 {
        match (self.copy.known(), self.prefill.known()) {
            (Some(copy), _) => 2.0 * copy * float(tokens),
            (None, Some(prefill)) => prefill * float(tokens),
            (None, None) => f64::INFINITY,
        }
    }

    /// How long the copies of one step may last.
    pub(crate) fn copy_budget(&self, beside_running: bool) -> Duration {
        if !beside_running {
            return ALONE.mul_f64(AIM);
        }
        let normal = self.decode_step.known().unwrap_or(0.0);
        Duration::from_secs_f64(AIM * BESIDE.as_secs_f64().max(NORMAL_STEPS * normal))
    }

    /// How many tokens can be copied in this time, judged by earlier copies.
    pub(crate) fn tokens_within(&self, budget: Duration) -> usize {
        if budget.is_zero() {
            return 0;
        }
        let Some(copy) = self.copy.known() else { return FIRST_COPY };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is not negative")]
        let fit = (budget.as_secs_f64() / copy.max(1e-12)) as usize;
        fit.max(FIRST_COPY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps of 8 streams that grow from 20 tokens: 2 ms, and for each row 2 µs an attended cell and 70 ns a masked one.
    fn decode_steps(costs: &mut KvCosts, count: usize, idle_cells: usize, noise: f64) {
        for step in 0..count {
            let jitter = if step % 2 == 0 { 1.0 + noise } else { 1.0 - noise };
            let (own, scanned) = (20 + step, idle_cells + 8 * (20 + step));
            let row = 250e-6 + 2e-6 * float(own) + 70e-9 * float(scanned - own);
            let work = Work { decode: 8, prefill: 0, attended: 8 * own, scanned };
            costs.learn_step(work, Duration::from_secs_f64(8.0 * row * jitter));
        }
    }

    #[test]
    fn steps_in_pools_that_are_full_to_different_degrees_show_what_an_idle_cell_costs() {
        let mut costs = KvCosts::default();
        decode_steps(&mut costs, 100, 0, 0.1);
        assert!(costs.idle_cell() < 1e-12, "own and foreign cells grew together: {:e}", costs.idle_cell());
        decode_steps(&mut costs, 100, 3_000, 0.1);
        let cost = costs.idle_cell();
        assert!((50e-9..90e-9).contains(&cost), "{cost:e}");
    }

    #[test]
    fn where_idle_cells_cost_nothing_noise_makes_them_cost_next_to_nothing() {
        let mut costs = KvCosts::default();
        for step in 0..500_usize {
            let noise = if step.is_multiple_of(3) { 1.2 } else { 1.0 };
            let (attended, scanned) = (8 * (100 + step % 11), 900 + step % 7 * 400);
            let work = Work { decode: 8, prefill: 0, attended, scanned };
            costs.learn_step(work, Duration::from_secs_f64(3e-3 * noise));
        }
        let share = costs.idle_cell() * 8.0 * 2_400.0 / 3e-3;
        assert!(share < 0.02, "2,400 idle cells are said to cost {share} of a step");
    }

    #[test]
    fn copies_beside_running_streams_stay_within_twenty_milliseconds_or_three_normal_steps() {
        let mut costs = KvCosts::default();
        assert_eq!(costs.tokens_within(costs.copy_budget(true)), FIRST_COPY);
        costs.learn_copy(100, Duration::from_millis(10));
        assert_eq!(costs.tokens_within(costs.copy_budget(true)), 150);
        let work = Work { decode: 4, prefill: 0, attended: 0, scanned: 0 };
        (0..100).for_each(|_| costs.learn_step(work, Duration::from_millis(40)));
        assert!(
            (899..=900).contains(&costs.tokens_within(costs.copy_budget(true))),
            "three steps of 40 ms, of which three quarters"
        );
        assert_eq!(costs.tokens_within(costs.copy_budget(false)), 1_875);
        assert_eq!(costs.tokens_within(Duration::ZERO), 0);
    }

    #[test]
    fn a_prefix_is_worth_no_more_than_computing_it_again() {
        let mut costs = KvCosts::default();
        assert!(costs.out_and_back(100).is_infinite());
        costs.learn_step(Work { decode: 0, prefill: 100, attended: 0, scanned: 0 }, Duration::from_millis(100));
        assert!((costs.out_and_back(100) - 0.1).abs() < 1e-9);
        costs.learn_copy(1_000, Duration::from_millis(1));
        assert!((costs.out_and_back(100) - 2e-4).abs() < 1e-9);
    }
}
