//! However text is cut into pieces, the matcher ends it before the leftmost stop sequence, the shortest of several there.
#![no_main]
#![allow(dead_code, reason = "the module is part of a crate, and this target uses some of it")]

#[path = "../../crates/mullama-core/src/text/stop_matcher.rs"]
mod stop_matcher;

use stop_matcher::{StopMatcher, Verdict};

/// The text and the stop sequence that ended it, as the definition says.
fn expected<'s>(stops: &'s [String], text: &str) -> (String, Option<&'s str>) {
    let found = stops.iter().filter_map(|stop| Some((text.find(stop.as_str())?, stop.len(), stop)));
    match found.min_by_key(|(at, len, _)| (*at, *len)) {
        Some((at, _, stop)) => (text[..at].to_owned(), Some(stop.as_str())),
        None => (text.to_owned(), None),
    }
}

/// The same from the matcher, which gets the pieces one by one.
fn matched(stops: &[String], pieces: &[&str]) -> (String, Option<String>) {
    let mut matcher = StopMatcher::new(stops.to_vec());
    let mut text = String::new();
    for piece in pieces {
        match matcher.push((*piece).to_owned()) {
            Verdict::Go(certain) => text.push_str(&certain),
            Verdict::Stopped { text: certain, stop } => {
                return (text + &certain, Some(matcher.sequence(stop).to_owned()));
            }
        }
    }
    match matcher.finish() {
        Verdict::Go(rest) => (text + &rest, None),
        Verdict::Stopped { text: rest, stop } => (text + &rest, Some(matcher.sequence(stop).to_owned())),
    }
}

// Lines: the stop sequences first, an empty line, then the pieces of the text.
libfuzzer_sys::fuzz_target!(|input: &str| {
    let (head, tail) = input.split_once("\n\n").unwrap_or(("", input));
    let stops: Vec<String> = head.lines().filter(|line| !line.is_empty()).take(16).map(str::to_owned).collect();
    let pieces: Vec<&str> = tail.split('\n').take(256).collect();
    let (text, stop) = matched(&stops, &pieces);
    assert_eq!((text, stop.as_deref()), expected(&stops, &pieces.concat()));
});
