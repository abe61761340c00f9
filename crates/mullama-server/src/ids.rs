//! What identifies an answer: a random id with the time of its creation.

use std::time::{SystemTime, UNIX_EPOCH};

/// A new id with this prefix: 96 random bits.
pub(crate) fn new(prefix: &str) -> String {
    let mut random = [0; 12];
    // Ids only have to differ; a system without randomness has ids of zeros.
    let _ = getrandom::fill(&mut random);
    let mut id = prefix.to_owned();
    for byte in random {
        let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0');
        id.push(digit(byte >> 4));
        id.push(digit(byte & 15));
    }
    id
}

/// Seconds of Unix time.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
