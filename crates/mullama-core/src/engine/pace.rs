//! Learns what rows cost, and says how many rows of prompts a step may hold.
//!
//! Pure: it is told how long steps took. A step that also continues running streams may be held up by prompts for
//! [`BESIDE`] or [`NORMAL_STEPS`] of its usual length, whichever is more; a step of prompts alone lasts [`ALONE`].

use std::time::Duration;

/// Least time that prompts may add to a step of running streams.
const BESIDE: Duration = Duration::from_millis(20);
/// What prompts may add to a step of running streams, in such steps' usual length.
const NORMAL_STEPS: f64 = 3.0;
/// How long a step of prompts alone may last: a new stream waits that long to be seen.
const ALONE: Duration = Duration::from_millis(250);
/// Fewer rows than this are not worth a step.
const LEAST: usize = 8;
/// Rows of the first step of prompts, when nothing is known.
const FIRST: usize = 32;
/// How much a chunk may grow from one step to the next; a row of a larger chunk may cost less or more.
const GROWTH: usize = 2;
/// Weight of the newest step in a running mean.
const NEWEST: f64 = 0.25;

/// A running mean of seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Mean(Option<f64>);

impl Mean {
    fn learn(&mut self, seconds: f64) {
        self.0 = Some(self.0.map_or(seconds, |mean| mean + NEWEST * (seconds - mean)));
    }
}

/// What steps have cost so far.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Steps without prompts, by their number of rows.
    normal: Vec<Mean>,
    /// A row of a prompt beside running streams, above the usual step, and the largest chunk that was seen.
    beside: Rows,
    /// A row of a prompt in a step of prompts alone, and the largest chunk that was seen.
    alone: Rows,
}

/// What a row of a prompt costs.
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

    /// Rows that fit into a time.
    fn within(&self, budget: f64) -> usize {
        let Some(cost) = self.cost.0 else { return FIRST };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is not negative")]
        let fit = (budget / cost.max(1e-9)) as usize;
        fit.clamp(LEAST, (self.seen * GROWTH).max(FIRST))
    }
}

impl Pace {
    /// A step of `continuing` rows of running streams and `prompt` rows of prompts took this long.
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
        // A step of fewer rows is shorter: it is the safe guess for one of more.
        (1..=rows).rev().find_map(|rows| known(&rows)).or_else(|| self.normal.iter().find_map(|mean| mean.0))
    }

    /// Rows of prompts that a step of `continuing` running streams may hold.
    pub(crate) fn beside(&self, continuing: usize) -> usize {
        let normal = self.normal(continuing).unwrap_or(0.0);
        let budget = BESIDE.as_secs_f64().max(NORMAL_STEPS * normal);
        let rows = if self.beside.cost.0.is_some() { &self.beside } else { &self.alone };
        rows.within(budget)
    }

    /// Rows of prompts that a step without running streams may hold.
    pub(crate) fn alone(&self) -> usize {
        self.alone.within(ALONE.as_secs_f64())
    }
}
