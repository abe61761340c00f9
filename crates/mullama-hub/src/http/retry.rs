//! Which failed requests are tried again, and when.

use std::time::{Duration, SystemTime};

use mullama::DownloadFailure;

use super::Kind;

/// The longest `Retry-After` that is waited for; a longer one ends the download.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(2);
const FIRST_DELAY: Duration = Duration::from_millis(250);
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// Counts the tries in a row that brought no new bytes.
#[derive(Debug, Clone)]
pub(crate) struct Tries {
    most: u32,
    failures: u32,
    seen: u64,
}

impl Tries {
    /// Allows at most `most` tries in a row without new bytes. `arrived` is the number of bytes before the first of them.
    pub(crate) const fn new(most: u32, arrived: u64) -> Self {
        Self { most, failures: 0, seen: arrived }
    }

    /// The failure for giving up, with the number of tries.
    pub(crate) fn exhausted(&self, mut failure: DownloadFailure) -> DownloadFailure {
        use DownloadFailure::{Network, Stalled, Status};
        if let Network { tries, .. } | Stalled { tries, .. } | Status { tries, .. } = &mut failure {
            *tries = self.failures.max(1);
        }
        failure
    }

    /// Counts a try that failed when `arrived` bytes were there. Returns how long to wait before the next one, or `None`
    /// to give up. Bytes that have arrived since the last failure restart the count.
    pub(crate) fn failed(&mut self, kind: Kind, arrived: u64) -> Option<Duration> {
        let Kind::Transient { after } = kind else { return None };
        if arrived > self.seen {
            (self.failures, self.seen) = (0, arrived);
        }
        self.failures += 1;
        if self.failures >= self.most || after.is_some_and(|after| after > LONGEST_RETRY_AFTER) {
            return None;
        }
        let doubled = FIRST_DELAY.saturating_mul(1 << (self.failures - 1).min(16)).min(LONGEST_DELAY);
        Some(after.map_or(doubled, |after| after.max(doubled)))
    }
}

/// A delay with a random extra of up to a quarter, so that clients that failed together do not all retry together.
pub(crate) fn jittered(delay: Duration) -> Duration {
    delay + delay.mul_f64(fastrand::f64() / 4.0)
}

/// The kind of failure for an HTTP status other than success.
pub(super) fn kind(status: u16, after: Option<Duration>) -> Kind {
    match status {
        404 | 410 => Kind::Missing,
        401 | 403 => Kind::Refused,
        416 => Kind::Range,
        408 | 425 | 429 | 500 | 502..=504 | 506..=599 => Kind::Transient { after },
        _ => Kind::Permanent,
    }
}

/// The wait that a `Retry-After` header asks for: seconds or a date.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SOON: Kind = Kind::Transient { after: None };

    #[test]
    fn six_tries_without_a_byte_are_the_end() {
        let mut tries = Tries::new(6, 0);
        let waits = (0..6).map(|_| tries.failed(SOON, 0)).collect::<Vec<_>>();
        assert_eq!(waits[..5], [250, 500, 1000, 2000, 4000].map(|ms| Some(Duration::from_millis(ms))));
        assert_eq!(waits[5], None);
    }

    #[test]
    fn what_cannot_get_better_is_not_tried_again() {
        for status in [301, 400, 401, 403, 404, 410, 416, 418, 501] {
            assert_eq!(Tries::new(6, 0).failed(kind(status, None), 0), None, "{status}");
        }
        for status in [408, 429, 500, 502, 503, 504, 520] {
            assert!(Tries::new(6, 0).failed(kind(status, None), 0).is_some(), "{status}");
        }
    }

    #[test]
    fn a_server_that_names_a_time_is_obeyed_up_to_a_limit() {
        let wait = |seconds| Tries::new(6, 0).failed(kind(429, Some(Duration::from_secs(seconds))), 0);
        assert_eq!(wait(0), Some(FIRST_DELAY));
        assert_eq!(wait(7), Some(Duration::from_secs(7)));
        assert_eq!(wait(121), None);
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(retry_after(" 12 ", now), Some(Duration::from_secs(12)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:40 GMT", now), Some(Duration::from_secs(3)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:00 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("99999999999999999999999", now), Some(Duration::from_secs(u32::MAX.into())));
        for value in ["", "-1", "1.5", "soon", "+3"] {
            assert_eq!(retry_after(value, now), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn the_count_begins_again_with_each_new_byte(steps in prop::collection::vec(0_u64..3, 1..200)) {
            let (mut tries, mut arrived, mut in_a_row) = (Tries::new(6, 0), 0, 0);
            for step in steps {
                arrived += step;
                in_a_row = if step > 0 { 1 } else { in_a_row + 1 };
                prop_assert_eq!(tries.failed(SOON, arrived).is_none(), in_a_row >= 6);
            }
        }

        #[test]
        fn a_jittered_delay_is_at_most_a_quarter_longer(ms in 0_u64..100_000) {
            let delay = Duration::from_millis(ms);
            let longer = jittered(delay);
            prop_assert!(longer >= delay && longer <= delay.mul_f64(1.251));
        }
    }
}
