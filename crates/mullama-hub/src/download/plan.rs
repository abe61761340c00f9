//! Which bytes of a file have arrived, and in which parts the others are fetched. Nothing here does any input or output.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A set of bytes: ranges in ascending order that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub(super) struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// Adds a range.
    pub(super) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|other| other.end < range.start);
        let behind = self.0.partition_point(|other| other.start <= range.end);
        let touched = &self.0[first..behind];
        let start = touched.first().map_or(range.start, |other| other.start.min(range.start));
        let end = touched.last().map_or(range.end, |other| other.end.max(range.end));
        self.0.splice(first..behind, std::iter::once(start..end));
    }

    /// The number of contiguous bytes from the start of the file.
    pub(super) fn frontier(&self) -> u64 {
        self.0.first().filter(|range| range.start == 0).map_or(0, |range| range.end)
    }

    /// The number of bytes.
    pub(super) fn covered(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// The offset after the last byte.
    pub(super) fn end(&self) -> u64 {
        self.0.last().map_or(0, |range| range.end)
    }

    /// The gaps in a file of `len` bytes, in ascending order.
    pub(super) fn missing(&self, len: u64) -> Vec<Range<u64>> {
        let starts = std::iter::once(0).chain(self.0.iter().map(|range| range.end));
        let ends = self.0.iter().map(|range| range.start).chain(std::iter::once(len));
        starts.zip(ends).map(|(start, end)| start..end.min(len)).filter(|gap| !gap.is_empty()).collect()
    }
}

impl TryFrom<Vec<(u64, u64)>> for Ranges {
    type Error = &'static str;

    fn try_from(pairs: Vec<(u64, u64)>) -> Result<Self, Self::Error> {
        let in_order = pairs.windows(2).all(|pair| pair[0].1 < pair[1].0);
        if !in_order || pairs.iter().any(|(start, end)| start >= end) {
            return Err("the ranges are not in order");
        }
        Ok(Self(pairs.into_iter().map(|(start, end)| start..end).collect()))
    }
}

impl From<Ranges> for Vec<(u64, u64)> {
    fn from(ranges: Ranges) -> Self {
        ranges.0.into_iter().map(|range| (range.start, range.end)).collect()
    }
}

/// The parts that are still to be fetched, in ascending order.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    gaps: std::vec::IntoIter<Range<u64>>,
    gap: Range<u64>,
    longest: u64,
}

impl Parts {
    /// Cuts gaps into parts of at most `longest` bytes.
    pub(super) fn new(gaps: Vec<Range<u64>>, longest: u64) -> Self {
        Self { gaps: gaps.into_iter(), gap: 0..0, longest }
    }
}

impl Iterator for Parts {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        if self.gap.is_empty() {
            self.gap = self.gaps.next()?;
        }
        let start = self.gap.start;
        self.gap.start = self.gap.end.min(start.saturating_add(self.longest));
        Some(start..self.gap.start)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEN: u64 = 200;

    fn ranges() -> impl Strategy<Value = Vec<Range<u64>>> {
        prop::collection::vec((0..LEN, 0..40_u64).prop_map(|(start, len)| start..(start + len).min(LEN)), 0..30)
    }

    fn filled(inserted: &[Range<u64>]) -> (Ranges, Vec<bool>) {
        let (mut set, mut bytes) = (Ranges::default(), vec![false; usize::try_from(LEN).unwrap()]);
        for range in inserted {
            set.insert(range.clone());
            range.clone().for_each(|at| bytes[usize::try_from(at).unwrap()] = true);
        }
        (set, bytes)
    }

    proptest! {
        #[test]
        fn a_set_has_exactly_the_bytes_that_were_inserted(inserted in ranges()) {
            let (set, bytes) = filled(&inserted);
            prop_assert_eq!(set.covered(), bytes.iter().filter(|there| **there).count() as u64);
            prop_assert_eq!(set.frontier(), bytes.iter().take_while(|there| **there).count() as u64);
            prop_assert_eq!(set.end(), bytes.iter().rposition(|there| *there).map_or(0, |last| last as u64 + 1));
            prop_assert!(Ranges::try_from(Vec::from(set.clone())) == Ok(set));
        }

        #[test]
        fn the_parts_cover_each_missing_byte_once_and_in_order(inserted in ranges(), longest in 1..50_u64) {
            let (mut set, bytes) = filled(&inserted);
            let parts = Parts::new(set.missing(LEN), longest).collect::<Vec<_>>();
            let fetched = parts.iter().cloned().flatten().collect::<Vec<_>>();
            let missing = (0..LEN).filter(|at| !bytes[usize::try_from(*at).unwrap()]).collect::<Vec<_>>();
            prop_assert_eq!(fetched, missing);
            prop_assert!(parts.iter().all(|part| !part.is_empty() && part.end - part.start <= longest));
            for part in parts {
                set.insert(part);
            }
            prop_assert_eq!(Vec::from(set), [(0, LEN)]);
        }
    }

    #[test]
    fn a_record_with_ranges_out_of_order_is_refused() {
        for pairs in [vec![(3, 3)], vec![(5, 2)], vec![(0, 4), (4, 6)], vec![(8, 9), (0, 1)]] {
            assert!(Ranges::try_from(pairs).is_err());
        }
    }

    #[test]
    fn an_empty_file_has_no_gaps() {
        assert!(Ranges::default().missing(0).is_empty());
    }
}
