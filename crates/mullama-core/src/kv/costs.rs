//! Learns from finished work how much idle KV cells and copies of KV cost.
//!
//! Attention scans every cell up to the highest one in use, including cells that are masked for the row, so cached
//! prefixes slow each step down. How much depends on the model, the backend and the machine: from too little to measure
//! to half of a step. Steps of one kind reveal it, because the pool fills and empties: the cost of a row is fitted as
//! `a + b × attended cells + c × masked cells`, with one `a` for each kind of step; `c` is the cost of an idle cell.
//! Copies are timed directly.

use std::collections::BTreeMap;
use std::time::Duration;

/// How long copies may delay a step of running streams, the same limit as for prompts beside them.
const BESIDE: Duration = Duration::from_millis(20);
/// The same limit in multiples of a normal step, where normal steps are long.
const NORMAL_STEPS: f64 = 3.0;
/// How long copies may last in a step without running streams: a new stream waits that long until the engine sees it.
const ALONE: Duration = Duration::from_millis(250);
/// The share of a limit that is planned for: fragmented cells cost more than contiguous ones.
const AIM: f64 = 0.75;
/// Number of tokens of the first copy, when no cost is known, and the minimum of any copy.
const FIRST_COPY: usize = 64;
/// Weight of the latest sample in a running mean, once there are enough.
const NEWEST: f64 = 1.0 / 16.0;
/// Factor by which the evidence decays when a step is added.
const MEMORY: f64 = 1.0 - 1.0 / 512.0;

/// A running mean: of all samples while there are few, then mostly of the latest.
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

/// Steps whose rows cost the same: with the same number of continuing streams, or with about the same number of prompt
/// rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Decode { rows: usize },
    Prefill { rows_log2: u32 },
}

/// The running means of steps of one kind.
#[derive(Debug, Default)]
struct Usual {
    attended: Mean,
    masked: Mean,
    /// Seconds per row.
    row: Mean,
}

/// What a step computed, and how far attention scanned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    /// Number of rows of running streams.
    pub(crate) decode: usize,
    /// Number of prompt rows.
    pub(crate) prefill: usize,
    /// Number of cells that the rows attended to, summed over all rows.
    pub(crate) attended: usize,
    /// Number of cells that attention scanned for each row.
    pub(crate) scanned: usize,
}

/// Evidence about the cost of a row from steps that deviate from the mean of their kind: sums for a least-squares fit.
#[derive(Debug, Default)]
struct Evidence {
    attended: f64,
    masked: f64,
    both: f64,
    row_attended: f64,
    row_masked: f64,
}

impl Evidence {
    /// Adds a step with this many rows that deviated by so many cells and seconds per row.
    fn add(&mut self, rows: f64, [attended, masked, row]: [f64; 3]) {
        let grow = |sum: &mut f64, product: f64| *sum = *sum * MEMORY + rows * product;
        grow(&mut self.attended, attended * attended);
        grow(&mut self.masked, masked * masked);
        grow(&mut self.both, attended * masked);
        grow(&mut self.row_attended, attended * row);
        grow(&mut self.row_masked, masked * row);
    }

    /// What a masked cell adds to a row; 0 while it cannot be told apart from what an attended one adds.
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

/// The costs of idle cells and copies, in seconds.
#[derive(Debug, Default)]
pub(crate) struct KvCosts {
    usual: BTreeMap<Kind, Usual>,
    evidence: Evidence,
    /// Cost of a step that only continues streams.
    decode_step: Mean,
    /// Cost of a prompt token.
    prefill: Mean,
    /// Cost per token of a copy from the pool to host memory, or back.
    copy: Mean,
}

#[expect(clippy::cast_precision_loss, reason = "counts of tokens are far below 2^52")]
pub(crate) fn float(count: usize) -> f64 {
    count as f64
}

impl KvCosts {
    /// Records how long a step took.
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
            // In a mixed step, the costs of the two kinds of rows cannot be separated.
            _ => return,
        };
        let (row, attended) = (took / rows, float(work.attended) / rows);
        let masked = float(work.scanned) - attended;
        let usual = self.usual.entry(kind).or_default();
        if let Some(usual_row) = usual.row.known() {
            // An outlier says nothing about cells.
            let row = row.min(2.0 * usual_row);
            self.evidence.add(rows, [attended - usual.attended.value, masked - usual.masked.value, row - usual_row]);
        }
        usual.row.learn(row);
        usual.attended.learn(attended);
        usual.masked.learn(masked);
    }

    /// Records how long it took to copy this many tokens in either direction.
    pub(crate) fn learn_copy(&mut self, tokens: usize, took: Duration) {
        if tokens > 0 {
            self.copy.learn(took.as_secs_f64() / float(tokens));
        }
    }

    /// Whether anything has been copied yet.
    pub(crate) fn knows_copies(&self) -> bool {
        self.copy.known().is_some()
    }

    /// What one idle cell adds to each row of a step. 0 while steps have not shown any cost.
    pub(crate) fn idle_cell(&self) -> f64 {
        self.evidence.masked_cell()
    }

    /// The cost of copying a prefix of this many tokens out of the pool and back. Until something was copied, this is
    /// the cost of recomputing it, because a copy that costs more is not worth making.
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

    /// How many tokens can be copied in this time, according to earlier copies.
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

    /// Steps of 8 streams that grow from 20 tokens. A step takes 2 ms, and for each row 2 µs per attended and 70 ns per
    /// masked cell.
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
    fn steps_with_different_numbers_of_idle_cells_reveal_their_cost() {
        let mut costs = KvCosts::default();
        decode_steps(&mut costs, 100, 0, 0.1);
        assert!(costs.idle_cell() < 1e-12, "attended and masked cells grew together: {:e}", costs.idle_cell());
        decode_steps(&mut costs, 100, 3_000, 0.1);
        let cost = costs.idle_cell();
        assert!((50e-9..90e-9).contains(&cost), "{cost:e}");
    }

    #[test]
    fn noise_alone_makes_idle_cells_look_almost_free() {
        let mut costs = KvCosts::default();
        for step in 0..500_usize {
            let noise = if step.is_multiple_of(3) { 1.2 } else { 1.0 };
            let (attended, scanned) = (8 * (100 + step % 11), 900 + step % 7 * 400);
            let work = Work { decode: 8, prefill: 0, attended, scanned };
            costs.learn_step(work, Duration::from_secs_f64(3e-3 * noise));
        }
        let share = costs.idle_cell() * 8.0 * 2_400.0 / 3e-3;
        assert!(share < 0.02, "2,400 idle cells are estimated to cost {share} of a step");
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
