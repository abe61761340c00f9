//! How soon an engine that is full will take another request.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Ends of streams that the pace is judged by.
const ENDS_KEPT: usize = 32;
/// The longest time that a client is told to wait.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// The latest ends of an engine's streams, and the clients that were told to come back.
#[derive(Debug)]
pub(super) struct Pace {
    ends: VecDeque<Instant>,
    /// Since when streams run that could end.
    busy_since: Option<Instant>,
    /// When the stream ends that the last refused client was told to wait for.
    promised: Option<Instant>,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self { ends: VecDeque::new(), busy_since: None, promised: None }
    }

    /// A stream was opened on an idle engine.
    pub(super) fn start(&mut self, now: Instant) {
        self.busy_since = Some(now);
        self.ends.clear();
        self.promised = None;
    }

    /// A stream has ended, or its client has left.
    pub(super) fn end(&mut self, now: Instant) {
        if self.ends.len() == ENDS_KEPT {
            self.ends.pop_front();
        }
        self.ends.push_back(now);
    }

    /// The time after which the engine is likely to have room for one more client than were promised it before.
    pub(super) fn wait(&mut self, now: Instant) -> Duration {
        let expected = self.promised.unwrap_or(now).max(now) + self.interval(now);
        let promised = expected.min(now + LONGEST_WAIT);
        self.promised = Some(promised);
        promised.saturating_duration_since(now).max(Duration::from_secs(1))
    }

    /// The mean time between two ends. The time since the last one counts: an engine that has become slow says so.
    fn interval(&self, now: Instant) -> Duration {
        let (first, count) = match (self.ends.len(), self.ends.front(), self.busy_since) {
            (ENDS_KEPT, Some(first), _) | (_, Some(first), None) => (*first, self.ends.len()),
            (count, _, Some(start)) => (start, count + 1),
            (_, None, None) => return Duration::ZERO,
        };
        now.saturating_duration_since(first) / u32::try_from(count).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, ENDS_KEPT, Instant, LONGEST_WAIT, Pace};

    const SECOND: Duration = Duration::from_secs(1);

    fn ending_every(interval: Duration, count: u32) -> (Pace, Instant) {
        let (mut pace, start) = (Pace::new(), Instant::now());
        pace.start(start);
        for index in 1..=count {
            pace.end(start + interval * index);
        }
        (pace, start + interval * count)
    }

    #[test]
    fn each_refused_client_is_told_to_wait_for_an_end_of_its_own() {
        let (mut pace, now) = ending_every(5 * SECOND, 200);
        let waits: Vec<u64> = (0..4).map(|_| pace.wait(now).as_secs()).collect();
        // The 32 ends that are kept span 31 intervals.
        assert_eq!(waits, [4, 9, 14, 19]);
        assert_eq!(pace.wait(now + 100 * SECOND).as_secs(), 7, "what was promised is past, and the engine is slower");
    }

    #[test]
    fn a_wait_is_one_second_to_one_minute() {
        let (mut fast, now) = ending_every(SECOND / 1000, 200);
        assert_eq!(fast.wait(now), SECOND);
        let (mut slow, now) = ending_every(600 * SECOND, 3);
        assert_eq!(slow.wait(now), LONGEST_WAIT);
        assert_eq!(slow.wait(now), LONGEST_WAIT);
    }

    #[test]
    fn an_engine_whose_streams_have_not_ended_yet_is_judged_by_their_age() {
        let (mut pace, start) = ending_every(SECOND, 0);
        assert_eq!(pace.wait(start + 20 * SECOND), 20 * SECOND);
    }

    #[test]
    fn a_fixed_number_of_ends_is_kept() {
        let (pace, _) = ending_every(SECOND, 1000);
        assert_eq!(pace.ends.len(), ENDS_KEPT);
    }
}
