//! Stop sequences are exact: no part of one is delivered, no text before it is lost, and held text is delivered at
//! every kind of end.

use mullama::testing::{ByteVocabulary, Size, Stage, always};
use mullama::{FinishReason, StreamConfig, TokenId, TokenStream};

use crate::support::{Got, PROMPT, STEP, config, ms, read, spell, spelling, steps, stopping, take};

/// Text, finish reason and stop sequence of a stream that generates these bytes.
fn written(bytes: &'static [u8], config: StreamConfig) -> (String, FinishReason, Option<String>) {
    let (mut stage, mut stream) = spell(bytes, config);
    let got = read(&mut stage, &mut stream);
    assert_eq!(stream.text(), got.text());
    (got.text(), stream.finish_reason().expect("it is over"), stream.stop_sequence())
}

fn stopped(text: &str, stop: &str) -> (String, FinishReason, Option<String>) {
    (text.into(), FinishReason::Stop, Some(stop.into()))
}

fn ended(text: &str, reason: FinishReason) -> (String, FinishReason, Option<String>) {
    (text.into(), reason, None)
}

#[test]
fn a_stop_over_many_tokens_leaks_nothing_and_loses_nothing() {
    assert_eq!(written(b"one<end>two", stopping(100, &["<end>"])), stopped("one", "<end>"));
}

#[test]
fn a_stop_of_one_token_at_the_very_start_leaves_an_empty_text() {
    let (mut stage, mut stream) = spell(b"xyz", stopping(100, &["x"]));
    let got = read(&mut stage, &mut stream);
    assert_eq!((got.text().as_str(), got.tokens.len()), ("", 1));
    assert_eq!((got.tokens[0].id, got.tokens[0].bytes.as_slice()), (Some(i32::from(b'x')), b"x".as_slice()));
    assert_eq!(stream.stop_sequence().as_deref(), Some("x"));
    assert_eq!(written(b"stop and go", stopping(100, &["stop"])), stopped("", "stop"));
}

#[test]
fn the_earliest_match_wins_over_the_order_of_the_list() {
    assert_eq!(written(b"abcdef", stopping(100, &["ef", "cd"])), stopped("ab", "cd"));
}

#[test]
fn overlapping_stops_end_at_the_one_that_begins_first() {
    assert_eq!(written(b"xabcdx", stopping(100, &["bc", "abcd"])), stopped("x", "abcd"));
    assert_eq!(written(b"xabcex", stopping(100, &["bc", "abcd"])), stopped("xa", "bc"));
}

#[test]
fn of_two_stops_where_one_is_a_prefix_of_the_other_the_shorter_ends_the_text() {
    assert_eq!(written(b"xabcd", stopping(100, &["abc", "ab"])), stopped("x", "ab"));
}

#[test]
fn a_stop_whose_start_repeats_inside_it_is_found() {
    assert_eq!(written(b"aaabaaac", stopping(100, &["aaac"])), stopped("aaab", "aaac"));
    assert_eq!(written(b"ababac", stopping(100, &["abac"])), stopped("ab", "abac"));
}

#[test]
fn a_stop_at_the_last_allowed_token_is_a_stop_and_not_a_length() {
    assert_eq!(written(b"one<end>", stopping(8, &["<end>"])), stopped("one", "<end>"));
}

#[test]
fn a_stop_one_token_beyond_the_last_allowed_is_a_length_with_the_whole_text() {
    let (mut stage, mut stream) = spell(b"one<end>", stopping(7, &["<end>"]));
    let got = read(&mut stage, &mut stream);
    assert_eq!(got.text(), "one<end");
    assert_eq!(got.tokens.len(), 7, "the last token carries the held text");
    assert_eq!(got.tokens[6].text, "<end");
    assert_eq!(got.tokens[6].id, Some(i32::from(b'd')));
    assert_eq!((stream.finish_reason(), stream.stop_sequence()), (Some(FinishReason::Length), None));
}

#[test]
fn held_text_is_released_with_the_token_that_rules_the_stop_out() {
    let (mut stage, mut stream) = spell(b"a<enemy", stopping(100, &["<end>"]));
    let got = read(&mut stage, &mut stream);
    let texts: Vec<&str> = got.tokens.iter().map(|token| token.text.as_str()).collect();
    assert_eq!(texts, ["a", "", "", "", "<ene", "m", "y"]);
}

#[test]
fn text_waits_only_while_it_may_still_become_a_stop() {
    let (mut stage, mut stream) = spell(b"a<<e<end>", stopping(100, &["<end>"]));
    let got = read(&mut stage, &mut stream);
    let texts: Vec<&str> = got.tokens.iter().map(|token| token.text.as_str()).collect();
    assert_eq!(texts, ["a", "", "<", "", "<e", "", "", "", ""]);
}

/// A stream that has generated `one<en` and holds back the last three characters, with its stage.
fn holding(config: StreamConfig) -> (Stage, TokenStream) {
    let (mut stage, stream) = spell(b"one<en and so on", config.stop_sequences(vec!["<end>".into()]));
    steps(&mut stage, 6);
    (stage, stream)
}

/// Asserts that the reads after the end give a text, and one last item without an id.
fn the_remainder_came(got: &Got) {
    assert_eq!(got.text(), "one<en");
    let last = got.tokens.last().expect("an item");
    assert_eq!((last.text.as_str(), last.id, last.bytes.as_slice(), last.index), ("<en", None, [].as_slice(), 6));
    assert_eq!(got.tokens.len(), 7);
}

#[test]
fn a_held_tail_comes_at_the_end_of_the_text() {
    let (mut stage, mut stream) = spell(b"one<en", stopping(100, &["<end>"]));
    let got = read(&mut stage, &mut stream);
    the_remainder_came(&got);
    assert_eq!((stream.finish_reason(), stream.stop_sequence()), (Some(FinishReason::Stop), None));
    assert_eq!(stream.usage().completion_tokens, 7, "the end token was computed");
    assert_eq!(stream.tokens_generated(), 7);
}

#[test]
fn a_held_tail_comes_at_a_stop_token() {
    let config = stopping(100, &["<end>"]).stop_tokens(vec![i32::from(b'!')]);
    let (mut stage, mut stream) = spell(b"one<en!two", config);
    the_remainder_came(&read(&mut stage, &mut stream));
    assert_eq!((stream.finish_reason(), stream.stop_sequence()), (Some(FinishReason::Stop), None));
}

#[test]
fn a_held_tail_comes_when_the_reader_cancels() {
    let (mut stage, mut stream) = holding(config(100));
    stream.cancel();
    stage.settle();
    let got = take(&mut stream);
    the_remainder_came(&got);
    assert_eq!((got.code(), stream.finish_reason()), (None, Some(FinishReason::Cancelled)));
}

#[test]
fn a_held_tail_comes_before_a_timeout() {
    let (mut stage, mut stream) = holding(config(100).timeout_ms(1_000));
    stage.clock.advance(ms(1_000));
    stage.settle();
    let got = take(&mut stream);
    the_remainder_came(&got);
    assert_eq!((got.code(), stream.finish_reason()), (Some("STREAM_TIMEOUT"), Some(FinishReason::Timeout)));
}

#[test]
fn a_held_tail_comes_before_an_error() {
    let (mut stage, mut stream) = holding(config(100));
    stage.fail_next_decode(mullama_ffi::Error::OutOfMemory { call: "a test" });
    stage.settle();
    let got = take(&mut stream);
    the_remainder_came(&got);
    assert_eq!((got.code(), stream.finish_reason()), (Some("GENERATION_ERROR"), Some(FinishReason::Error)));
}

#[test]
fn a_whole_stop_inside_a_held_tail_ends_the_text_there_at_every_kind_of_end() {
    // "abc" is held because of "abcd"; "bc" is known to be the earliest stop only when no "d" follows.
    let stops = ["abcd", "bc"];
    assert_eq!(written(b"xabc", stopping(100, &stops)), stopped("xa", "bc"));
    assert_eq!(written(b"xabcz", stopping(4, &stops)), stopped("xa", "bc"));
    assert_eq!(written(b"xabcd", stopping(100, &stops)), stopped("x", "abcd"));
}

#[test]
fn only_a_stream_that_ended_by_a_stop_sequence_names_one() {
    let (mut stage, mut stream) = spell(b"xabcd", stopping(100, &["abcd", "bc"]).timeout_ms(1_000));
    steps(&mut stage, 4);
    stage.clock.advance(ms(1_000));
    stage.settle();
    assert_eq!(take(&mut stream).text(), "xa", "nothing of a stop leaks");
    assert_eq!((stream.finish_reason(), stream.stop_sequence()), (Some(FinishReason::Timeout), None));
    let (mut stage, mut stream) = spell(b"xabcd", stopping(100, &["abcd", "bc"]));
    steps(&mut stage, 4);
    stream.cancel();
    stage.settle();
    assert_eq!(take(&mut stream).text(), "xa");
    assert_eq!((stream.finish_reason(), stream.stop_sequence()), (Some(FinishReason::Cancelled), None));
}

#[test]
fn a_stop_of_characters_of_several_bytes_is_found_over_their_pieces() {
    assert_eq!(written("aé🦊b".as_bytes(), stopping(100, &["🦊"])), stopped("aé", "🦊"));
    assert_eq!(written("aé🦁b".as_bytes(), stopping(100, &["🦊"])), ended("aé🦁b", FinishReason::Stop));
}

#[test]
fn a_split_character_before_a_stop_is_not_lost() {
    assert_eq!(written(b"a\xF0\x9F<end>", stopping(100, &["<end>"])), stopped("a\u{FFFD}", "<end>"));
}

#[test]
fn stops_are_looked_for_in_the_completion_and_not_in_the_prompt() {
    let mut stage = Stage::new(Size::default(), always(|tokens| b"d>ok"[tokens.len() - 4].into()), |_| STEP);
    let prompt: Vec<TokenId> = b"<end".iter().map(|&byte| byte.into()).collect();
    let mut stream = stage.open(&prompt, stopping(4, &["<end>", "end>"])).unwrap();
    assert_eq!(read(&mut stage, &mut stream).text(), "d>ok");
}

#[test]
fn a_stop_token_ends_the_stream_without_an_item_and_counts_as_computed() {
    let (mut stage, mut stream) = spell(b"one!two", config(100).stop_tokens(vec![i32::from(b'!')]));
    let got = read(&mut stage, &mut stream);
    assert_eq!((got.text().as_str(), got.tokens.len()), ("one", 3));
    assert_eq!((stream.finish_reason(), stream.usage().completion_tokens), (Some(FinishReason::Stop), 4));
    assert_eq!(stream.stop_sequence(), None);
}

#[test]
fn ignore_eos_goes_on_where_the_text_would_end() {
    let logits = always(|tokens| if tokens.len() == 3 { ByteVocabulary::END } else { i32::from(b'a') });
    let mut stage = Stage::new(Size::default(), logits, |_| STEP);
    let mut ends = stage.open(PROMPT, config(10)).unwrap();
    let mut goes_on = stage.open(PROMPT, config(10).ignore_eos(true)).unwrap();
    assert_eq!(read(&mut stage, &mut ends).text(), "aa");
    let got = read(&mut stage, &mut goes_on);
    assert_eq!((got.tokens.len(), goes_on.finish_reason()), (10, Some(FinishReason::Length)));
}

#[test]
fn many_long_stops_cost_no_token_of_the_text() {
    let stops: Vec<String> = (0..200).map(|n| format!("{}{n}", "a".repeat(50))).collect();
    let mut stage = Stage::new(Size::default(), spelling(&[b'a'; 300]), |_| STEP);
    let mut stream = stage.open(PROMPT, config(300).stop_sequences(stops)).unwrap();
    assert_eq!(read(&mut stage, &mut stream).text(), "a".repeat(300));
}
