//! Mutants of the demo model: whatever is changed in a header, the check ends soon, without a panic.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::writer::{check, demo};

/// The length of the demo model's header.
const HEADER_LEN: usize = 32_122;
/// A check takes under a millisecond; this is for a machine that does ten other things.
const SOON: Duration = Duration::from_secs(2);

fn check_soon(bytes: &[u8]) -> bool {
    let begin = Instant::now();
    let passed = check(bytes).is_ok();
    assert!(begin.elapsed() < SOON, "took {:?}", begin.elapsed());
    passed
}

/// The mutants of the corpus: lines of `offset bytes`, several to a mutant, or `cut length`; `#` is a comment.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let demo = demo();
    let text = include_str!("../corpus/gguf/mutants.txt");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mutate = |line: &str| {
        let mut bytes = demo.clone();
        for patch in line.split(';') {
            let (at, new) = patch.trim().split_once(' ').unwrap();
            if at == "cut" {
                bytes.truncate(new.parse().unwrap());
                continue;
            }
            let at: usize = at.parse().unwrap();
            let digits = new.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
            let new: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
            bytes[at..at + new.len()].copy_from_slice(&new);
        }
        (line.to_owned(), bytes)
    };
    lines.map(mutate).collect()
}

#[test]
fn every_mutant_of_the_corpus_is_refused() {
    let corpus = corpus();
    assert!(corpus.len() > 10);
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
