//! Learns what rows cost, and limits how many prompt rows a step may hold.
//!
//! Pure: the caller reports how long steps took. Prompts may add the larger of [`BESIDE`] and [`NORMAL_STEPS`] times
//! its usual length to a step that also continues running streams. A step with prompts alone has a fixed number of
//! rows, which does not depend on the clock.

use std::time::Duration;

/// Time that prompts may always add to a step of running streams.
const BESIDE: Duration = Duration::from_millis(20);
/// Time that prompts may add to a step of running streams, in multiples of the usual length of such a step.
const NORMAL_STEPS: f64 = 3.0;
/// The share of the limit that is planned for: rows cost more further along a prompt, and the speed of a busy machine
/// varies.
const AIM: f64 = 0.75;
/// Minimum number of rows that is worth a step.
const LEAST: usize = 8;
/// How much a chunk may grow from one step to the next, because rows of a larger chunk may cost less or more.
const GROWTH: usize = 2;
/// Weight of the latest step in a running mean.
const NEWEST: f64 = 0.25;

/// A running mean of seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Mean(Option<f64>);

impl Mean {
    fn learn(&mut self, seconds: f64) {
        self.0 = Some(self.0.map_or(seconds, |mean| mean + NEWEST * (seconds - mean)));
    }
}

/// The measured costs of steps.
#[derive(Debug)]
pub(crate) struct PrefillBudget {
    /// Prompt rows of a step with prompts alone.
    fixed: usize,
    /// Cost of steps without prompts, by their number of rows.
    normal: Vec<Mean>,
    /// Cost of prompt rows beside running streams, above the usual step.
    beside: Rows,
    /// Cost of prompt rows in steps with prompts alone: the first estimate for those beside running streams.
    alone: Rows,
}

/// The cost of a prompt row, and the largest chunk so far.
#[derive(Debug, Default)]
struct Rows {
    cost: Mean,
    seen: usize,
}

impl Rows {
    fn learn(&mut self, rows: usize, seconds: f64) {
        #[expect(clippy::cast_precision_loss, reason = "rows of a step are few")]
        self.cost.learn(seconds.max(0.0) / rows as f64);
        self.seen = self.seen.max(rows);
    }

    /// Number of rows that fit into a time; [`LEAST`] while nothing is known.
    fn within(&self, budget: f64) -> usize {
        let Some(cost) = self.cost.0 else { return LEAST };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is not negative")]
        let fit = (budget / cost.max(1e-9)) as usize;
        fit.clamp(LEAST, (self.seen * GROWTH).max(LEAST))
    }
}

impl PrefillBudget {
    /// Creates a budget that knows only the fixed number of rows of a step with prompts alone.
    pub(crate) fn new(fixed: usize) -> Self {
        Self { fixed, normal: Vec::new(), beside: Rows::default(), alone: Rows::default() }
    }

    /// Records that a step with `continuing` rows of running streams and `prompt` prompt rows took this long.
    pub(crate) fn learn(&mut self, continuing: usize, prompt: usize, took: Duration) {
        let took = took.as_secs_f64();
        match (continuing, prompt) {
            (0, 0) => {}
            (rows, 0) => {
                if self.normal.len() <= rows {
                    self.normal.resize(rows + 1, Mean::default());
                }
                self.normal[rows].learn(took);
            }
            (0, rows) => self.alone.learn(rows, took),
            (continuing, rows) => {
                if let Some(normal) = self.normal(continuing) {
                    self.beside.learn(rows, took - normal);
                }
            }
        }
    }

    /// How long a step of this many running streams usually lasts, in seconds.
    fn normal(&self, rows: usize) -> Option<f64> {
        let known = |rows: &usize| self.normal.get(*rows).and_then(|mean| mean.0);
        // A step with fewer rows is shorter, so it is a safe estimate for a step with more.
        (1..=rows).rev().find_map(|rows| known(&rows)).or_else(|| self.normal.iter().find_map(|mean| mean.0))
    }

    /// Number of prompt rows that a step with `continuing` running streams may hold.
    pub(crate) fn beside(&self, continuing: usize) -> usize {
        let normal = self.normal(continuing).unwrap_or(0.0);
        let budget = AIM * BESIDE.as_secs_f64().max(NORMAL_STEPS * normal);
        let rows = if self.beside.cost.0.is_some() { &self.beside } else { &self.alone };
        rows.within(budget)
    }

    /// Number of prompt rows that a step without running streams may hold.
    pub(crate) fn alone(&self) -> usize {
        self.fixed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prompt rows of a step with prompts alone.
    const FIXED: usize = 32;

    /// Runs a prompt in the chunks that the budget allows; returns how long each step took. Costs are in milliseconds.
    fn pieces(
        prefill_budget: &mut PrefillBudget,
        continuing: usize,
        mut prompt: usize,
        row: f64,
        normal: f64,
    ) -> Vec<f64> {
        let mut took = Vec::new();
        while prompt > 0 {
            let rows =
                prompt.min(if continuing == 0 { prefill_budget.alone() } else { prefill_budget.beside(continuing) });
            #[expect(clippy::cast_precision_loss, reason = "small numbers of a test")]
            let step = normal + row * rows as f64;
            prefill_budget.learn(continuing, rows, Duration::from_secs_f64(step / 1000.0));
            took.push(step);
            prompt -= rows;
        }
        took
    }

    fn usual(prefill_budget: &mut PrefillBudget, rows: usize, normal: f64) {
        (0..20).for_each(|_| prefill_budget.learn(rows, 0, Duration::from_secs_f64(normal / 1000.0)));
    }

    #[test]
    fn prompts_beside_running_streams_add_at_most_twenty_milliseconds_or_three_usual_steps() {
        for (row, normal) in [(0.03, 0.4), (1.0, 5.0), (2.5, 30.0), (5.0, 25.0), (8.0, 40.0)] {
            let mut prefill_budget = PrefillBudget::new(FIXED);
            usual(&mut prefill_budget, 3, normal);
            let most = (3.0 * normal).max(20.0).max(8.0 * row);
            for step in pieces(&mut prefill_budget, 3, 2_000, row, normal) {
                assert!(step <= normal + most * 1.001, "{step} ms with rows of {row} ms beside {normal} ms");
            }
        }
    }

    #[test]
    fn prompts_never_get_less_than_eight_rows() {
        let mut prefill_budget = PrefillBudget::new(FIXED);
        usual(&mut prefill_budget, 1, 10.0);
        pieces(&mut prefill_budget, 1, 100, 500.0, 10.0);
        assert_eq!(prefill_budget.beside(1), 8);
    }

    #[test]
    fn a_step_of_prompts_alone_has_a_fixed_number_of_rows_whatever_rows_cost() {
        for row in [0.03, 1.0, 50.0] {
            let mut prefill_budget = PrefillBudget::new(FIXED);
            pieces(&mut prefill_budget, 0, 5_000, row, 0.0);
            assert_eq!(prefill_budget.alone(), FIXED);
        }
    }

    #[test]
    fn chunks_beside_running_streams_shrink_when_rows_become_more_expensive() {
        let mut prefill_budget = PrefillBudget::new(FIXED);
        usual(&mut prefill_budget, 1, 10.0);
        pieces(&mut prefill_budget, 1, 5_000, 0.1, 10.0);
        let before = prefill_budget.beside(1);
        pieces(&mut prefill_budget, 1, 20_000, 2.0, 10.0);
        assert!(prefill_budget.beside(1) < before / 4, "{} after {before}", prefill_budget.beside(1));
    }
}
