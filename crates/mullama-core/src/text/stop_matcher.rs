//! Finds stop sequences across tokens, and holds text back only while it may still become one.
//!
//! Flow: detokenize → **stop** → stream.

/// The text that became certain with a piece, and whether a stop sequence ended it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This text is certain; the rest is held back.
    Go(String),
    /// The text ends here, before the stop sequence with this index.
    Stopped {
        /// All certain text before the stop sequence.
        text: String,
        /// Index into the stop sequences.
        stop: usize,
    },
}

/// Finds the leftmost stop sequence in the text; if several start at the same position, the shortest of them.
#[derive(Debug)]
pub(crate) struct StopMatcher {
    stops: Vec<String>,
    /// Starts with a proper prefix of a stop sequence, or is empty.
    held: String,
}

/// How the text at one position compares with the stop sequences.
enum Match {
    Complete(usize),
    Prefix,
    Nothing,
}

impl StopMatcher {
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new() }
    }

    /// The stop sequence for an index of a [`Verdict`].
    pub(crate) fn sequence(&self, stop: usize) -> &str {
        &self.stops[stop]
    }

    /// Processes a piece of text.
    pub(crate) fn push(&mut self, text: String) -> Verdict {
        if self.stops.is_empty() {
            return Verdict::Go(text);
        }
        self.held.push_str(&text);
        let starts = self.held.char_indices().map(|(at, _)| at);
        for at in starts {
            match self.look(at) {
                Match::Complete(stop) => return self.stopped(at, stop),
                Match::Prefix => return Verdict::Go(self.release(at)),
                Match::Nothing => {}
            }
        }
        Verdict::Go(std::mem::take(&mut self.held))
    }

    /// Ends the text: the text that was held back is now certain, unless it contains a whole stop sequence.
    pub(crate) fn finish(&mut self) -> Verdict {
        // A longer sequence may have started before a whole shorter one: `abcd` before `bc` in "abc".
        let starts = self.held.char_indices().map(|(at, _)| at);
        for at in starts {
            if let Match::Complete(stop) = self.look(at) {
                return self.stopped(at, stop);
            }
        }
        Verdict::Go(std::mem::take(&mut self.held))
    }

    fn look(&self, at: usize) -> Match {
        let rest = &self.held[at..];
        let whole = self.stops.iter().enumerate().filter(|(_, stop)| rest.starts_with(stop.as_str()));
        if let Some((stop, _)) = whole.min_by_key(|(_, stop)| stop.len()) {
            return Match::Complete(stop);
        }
        if self.stops.iter().any(|stop| stop.starts_with(rest)) { Match::Prefix } else { Match::Nothing }
    }

    fn stopped(&mut self, at: usize, stop: usize) -> Verdict {
        let text = self.release(at);
        self.held.clear();
        Verdict::Stopped { text, stop }
    }

    fn release(&mut self, up_to: usize) -> String {
        self.held.drain(..up_to).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matcher(stops: &[&str]) -> StopMatcher {
        StopMatcher::new(stops.iter().map(ToString::to_string).collect())
    }

    /// Pushes the pieces; returns the resulting text, and the stop sequence that ended it.
    fn run<'a>(stops: &[&str], pieces: impl IntoIterator<Item = &'a str>) -> (String, Option<String>) {
        let mut matcher = matcher(stops);
        let mut out = String::new();
        for piece in pieces {
            match matcher.push(piece.into()) {
                Verdict::Go(text) => out.push_str(&text),
                Verdict::Stopped { text, stop } => return (out + &text, Some(matcher.sequence(stop).into())),
            }
        }
        match matcher.finish() {
            Verdict::Go(text) => (out + &text, None),
            Verdict::Stopped { text, stop } => (out + &text, Some(matcher.sequence(stop).into())),
        }
    }

    /// The definition: the text ends before the leftmost match, or before the shortest of those that start there.
    fn expected(stops: &[&str], text: &str) -> (String, Option<String>) {
        let found = stops.iter().filter_map(|stop| Some((text.find(stop)?, stop.len(), stop)));
        match found.min_by_key(|(at, len, _)| (*at, *len)) {
            Some((at, _, stop)) => (text[..at].into(), Some((*stop).to_string())),
            None => (text.into(), None),
        }
    }

    proptest! {
        #[test]
        fn the_earliest_match_wins_in_any_chunking(
            text in "[abc]{0,24}",
            stops in prop::collection::vec("[abc]{1,5}", 0..4),
            cuts in prop::collection::vec(1_usize..4, 1..24),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let mut rest = text.as_str();
            let mut pieces = Vec::new();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, tail) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = tail;
            }
            prop_assert_eq!(run(&stops, pieces), expected(&stops, &text));
        }

        #[test]
        fn text_waits_only_while_it_is_a_proper_prefix(text in "[abc]{0,24}", stops in prop::collection::vec("[abc]{1,5}", 1..4)) {
            let mut matcher = StopMatcher::new(stops.clone());
            for piece in text.chars() {
                if let Verdict::Stopped { .. } = matcher.push(piece.into()) { break; }
                let proper = |stop: &String| stop.starts_with(&matcher.held) && *stop != matcher.held;
                let covers_a_stop = |stop: &String| matcher.held.contains(stop.as_str());
                prop_assert!(matcher.held.is_empty() || stops.iter().any(|s| proper(s) || covers_a_stop(s)));
            }
        }
    }

    #[test]
    fn a_stop_over_three_tokens_leaks_nothing() {
        assert_eq!(run(&["<end>"], ["one <e", "n", "d> two"]), ("one ".into(), Some("<end>".into())));
    }

    #[test]
    fn held_text_is_released_when_it_can_no_longer_become_a_stop() {
        let mut matcher = matcher(&["<end>"]);
        assert_eq!(matcher.push("a<en".into()), Verdict::Go("a".into()));
        assert_eq!(matcher.push("emy".into()), Verdict::Go("<enemy".into()));
    }

    #[test]
    fn of_two_stops_with_the_same_start_the_shorter_ends_the_text_at_once() {
        assert_eq!(run(&["abc", "ab"], ["xab"]), ("x".into(), Some("ab".into())));
    }

    #[test]
    fn a_longer_stop_that_began_earlier_is_waited_for() {
        assert_eq!(run(&["abcd", "bc"], ["xabc", "d"]), ("x".into(), Some("abcd".into())));
        assert_eq!(run(&["abcd", "bc"], ["xabc", "x"]), ("xa".into(), Some("bc".into())));
        assert_eq!(run(&["abcd", "bc"], ["xabc"]), ("xa".into(), Some("bc".into())));
    }

    #[test]
    fn characters_of_several_bytes_are_never_cut() {
        assert_eq!(run(&["é!"], ["caf", "é", "s"]), ("cafés".into(), None));
    }
}
