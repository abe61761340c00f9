//! Mutants of the demo model: whatever is changed in a header, the check ends quickly and without a panic.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::writer::{HEADER_LEN, check, demo};

/// A check takes less than a millisecond; this limit allows for a busy machine.
const SOON: Duration = Duration::from_secs(5);

fn check_soon(bytes: &[u8]) -> bool {
    let begin = Instant::now();
    let passed = check(bytes).is_ok();
    assert!(begin.elapsed() < SOON, "took {:?}", begin.elapsed());
    passed
}

/// The mutants of the corpus: `offset bytes` or `cut length`, several of them joined by `;`, and the reason after a
/// `#`.
fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let demo = demo();
    let lines = include_str!("../corpus/gguf/mutants.txt").lines();
    let patches = lines.map(|line| (line, line.split('#').next().unwrap_or_default().trim()));
    patches.filter(|(_, patch)| !patch.is_empty()).map(|(line, patch)| (line, patched(demo.clone(), patch))).collect()
}

fn patched(mut bytes: Vec<u8>, patch: &str) -> Vec<u8> {
    for part in patch.split(';') {
        let (at, new) = part.trim().split_once(' ').expect("an offset and the new bytes");
        if at == "cut" {
            bytes.truncate(new.parse().expect("a length"));
            continue;
        }
        let at: usize = at.parse().expect("an offset");
        for (nth, digits) in new.as_bytes().chunks(2).enumerate() {
            let digits = std::str::from_utf8(digits).expect("two digits");
            bytes[at + nth] = u8::from_str_radix(digits, 16).expect("two digits");
        }
    }
    bytes
}

#[test]
fn every_mutant_of_the_corpus_is_refused() {
    let corpus = corpus();
    assert!(corpus.len() > 50);
    for (line, bytes) in corpus {
        assert!(!check_soon(&bytes), "passed: {line}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bits_never_panic_or_hang(bits in prop::collection::vec(0..HEADER_LEN * 8, 1..8)) {
        let mut bytes = demo();
        for bit in bits {
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        check_soon(&bytes);
    }

    #[test]
    fn overwritten_bytes_never_panic_or_hang(at in 0..HEADER_LEN - 8, patch in prop::collection::vec(any::<u8>(), 1..9)) {
        let mut bytes = demo();
        bytes[at..at + patch.len()].copy_from_slice(&patch);
        check_soon(&bytes);
    }

    #[test]
    fn absurd_counts_never_panic_or_hang(at in 0..HEADER_LEN - 8, shift in 0..64_u32, near in 0..4_u64) {
        let mut bytes = demo();
        let count = (1_u64 << shift).wrapping_sub(near);
        bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
        check_soon(&bytes);
    }

    #[test]
    fn a_cut_file_is_refused(len in 0..2_338_432_usize) {
        prop_assert!(!check_soon(&demo()[..len]));
    }

    #[test]
    fn a_swapped_piece_never_panics_or_hangs(from in 0..HEADER_LEN - 64, to in 0..HEADER_LEN - 64, len in 1..64_usize) {
        let mut bytes = demo();
        bytes.copy_within(from..from + len, to);
        check_soon(&bytes);
    }
}
