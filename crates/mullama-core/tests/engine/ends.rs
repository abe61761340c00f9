//! What a stream reports: items, ends, usage, timings and text, in whole characters only.

use mullama::testing::{ByteVocabulary, Logits, Size, Stage, Step};
use mullama::{FinishReason, StreamConfig};

use crate::support::{Got, PROMPT, STEP, config, hashed, ms, prompt, read, slots, spell, stage, steps, take};
use std::sync::Arc;

fn texts(got: &Got) -> Vec<&str> {
    got.tokens.iter().map(|token| token.text.as_str()).collect()
}

#[test]
fn each_computed_token_is_one_item_with_its_id_its_bytes_and_its_index() {
    let (mut stage, mut stream) = spell("aé🦊".as_bytes(), config(100));
    let got = read(&mut stage, &mut stream);
    assert_eq!(texts(&got), ["a", "", "é", "", "", "", "🦊"]);
    for (index, (token, &byte)) in got.tokens.iter().zip("aé🦊".as_bytes()).enumerate() {
        assert_eq!((token.index, token.id, token.bytes.as_slice()), (index, Some(byte.into()), [byte].as_slice()));
    }
    assert_eq!((stream.finish_reason(), stream.tokens_generated()), (Some(FinishReason::Stop), 7));
}

#[test]
fn joined_pieces_are_the_decoded_ids_whatever_the_buffer() {
    let bytes = "Ünïcödé 🦊🏳️‍🌈 漢字 \u{0} end".as_bytes();
    for buffer in [1, 2, 3, 64] {
        let (mut stage, mut stream) = spell(bytes, config(1_000).buffer_size(buffer));
        let got = read(&mut stage, &mut stream);
        let ids: Vec<u8> = got.tokens.iter().filter_map(|token| Some(u8::try_from(token.id?).unwrap())).collect();
        let raw: Vec<u8> = got.tokens.iter().flat_map(|token| token.bytes.clone()).collect();
        assert_eq!((ids.as_slice(), raw.as_slice()), (bytes, bytes));
        assert_eq!((got.text().as_bytes(), stream.text()), (bytes, got.text()));
    }
}

#[test]
fn a_stray_byte_becomes_a_replacement_character_at_once_and_the_stream_continues() {
    let (mut stage, mut stream) = spell(b"a\xFFb\x80c", config(100));
    let got = read(&mut stage, &mut stream);
    assert_eq!(texts(&got), ["a", "\u{FFFD}", "b", "\u{FFFD}", "c"]);
    assert_eq!(got.tokens[1].bytes, [0xFF]);
}

#[test]
fn an_incomplete_character_is_held_back_only_until_the_next_token() {
    let (mut stage, mut stream) = spell(b"\xF0\x9F\x8Ca\xE6\xBCb", config(100));
    assert_eq!(texts(&read(&mut stage, &mut stream)), ["", "", "", "\u{FFFD}a", "", "", "\u{FFFD}b"]);
}

#[test]
fn a_split_character_at_the_end_of_the_text_is_a_last_item_without_an_id() {
    let (mut stage, mut stream) = spell(b"a\xF0\x9F", config(100));
    let got = read(&mut stage, &mut stream);
    assert_eq!(texts(&got), ["a", "", "", "\u{FFFD}"]);
    let last = &got.tokens[3];
    assert_eq!((last.id, last.bytes.len(), last.index, last.logprob), (None, 0, 3, None));
    assert_eq!(
        (stream.tokens_generated(), stream.usage().completion_tokens),
        (4, 4),
        "four items; three and the end token"
    );
}

#[test]
fn a_split_character_at_the_last_allowed_token_comes_with_that_token() {
    let (mut stage, mut stream) = spell("a🦊".as_bytes(), config(3));
    let got = read(&mut stage, &mut stream);
    assert_eq!(texts(&got), ["a", "", "\u{FFFD}"]);
    assert_eq!(got.tokens[2].id, Some(0x9F));
    assert_eq!(stream.finish_reason(), Some(FinishReason::Length));
}

#[test]
fn a_text_that_ends_whole_has_no_item_after_its_last_token() {
    let (mut stage, mut stream) = spell(b"abc", config(100));
    let got = read(&mut stage, &mut stream);
    assert_eq!((texts(&got), stream.usage().completion_tokens), (vec!["a", "b", "c"], 4));
}

#[test]
fn a_text_that_ends_at_once_is_an_empty_stream() {
    let (mut stage, mut stream) = spell(b"", config(100));
    let got = read(&mut stage, &mut stream);
    assert_eq!((got.tokens.len(), got.code()), (0, None));
    assert_eq!((stream.finish_reason(), stream.usage().completion_tokens), (Some(FinishReason::Stop), 1));
}

#[test]
fn the_end_is_reported_only_after_everything_before_it_was_read() {
    let mut stage = stage(slots(1));
    let mut stream = stage.open(PROMPT, config(3)).unwrap();
    stage.settle();
    for _ in 0..3 {
        assert_eq!(stream.finish_reason(), None);
        stream.next_blocking().unwrap().unwrap();
    }
    assert_eq!(stream.finish_reason(), Some(FinishReason::Length));
    assert!(stream.next_blocking().is_none() && stream.next_blocking().is_none());
}

#[test]
fn usage_counts_the_prompt_and_each_computed_token_while_the_stream_runs() {
    let mut stage = stage(slots(1));
    let mut stream = stage.open(&prompt(300, 0), config(10)).unwrap();
    assert_eq!(stream.usage(), mullama::Usage::default());
    steps(&mut stage, 1);
    assert_eq!((stream.usage().prompt_tokens, stream.usage().completion_tokens), (300, 0));
    // There are ten steps for the prompt, and the last of them yields a token.
    steps(&mut stage, 12);
    let usage = stream.usage();
    assert_eq!((usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens), (300, 0, 4));
    assert_eq!((stream.tokens_generated(), stream.buffered()), (0, 4));
    assert_eq!(read(&mut stage, &mut stream).tokens.len(), 10);
    assert_eq!((stream.tokens_generated(), stream.usage().completion_tokens), (10, 10));
}

#[test]
fn timings_report_the_duration_of_each_phase() {
    let mut stage = Stage::new(slots(1), hashed(), |rows| ms(rows as u64));
    stage.clock.advance(ms(500));
    let mut first = stage.open(&prompt(10, 0), config(5)).unwrap();
    let mut second = stage.open(&prompt(300, 1), config(6)).unwrap();
    read(&mut stage, &mut first);
    read(&mut stage, &mut second);
    let (one, two) = (first.timings(), second.timings());
    assert_eq!((one.queue, one.prefill, one.first_token, one.decode), (ms(0), ms(10), ms(10), ms(4)));
    assert_eq!((two.queue, two.prefill, two.first_token, two.decode), (ms(14), ms(300), ms(314), ms(5)));
    assert_eq!((one.reader_wait, two.reader_wait), (ms(0), ms(0)));
    assert!((second.tokens_per_second() - 1_000.0).abs() < 1e-6, "five tokens in five ms after the first");
}

#[test]
fn a_speed_is_known_only_with_the_second_token() {
    let mut stage = stage(slots(1));
    let stream = stage.open(PROMPT, config(2)).unwrap();
    assert!(stream.tokens_per_second().abs() < f64::EPSILON);
    steps(&mut stage, 1);
    assert!(stream.tokens_per_second().abs() < f64::EPSILON);
    steps(&mut stage, 1);
    assert!(stream.tokens_per_second() > 0.0);
}

#[test]
fn no_tokens_at_all_is_an_empty_stream_that_computes_nothing() {
    let mut stage = stage(slots(1));
    let _running = stage.open(&[5], config(100)).unwrap();
    steps(&mut stage, 1);
    stage.decodes();
    let mut stream = stage.open(&prompt(50, 0), config(0)).unwrap();
    steps(&mut stage, 1);
    let got = take(&mut stream);
    assert!(got.over && got.error.is_none() && got.tokens.is_empty());
    assert_eq!((stream.finish_reason(), stream.usage().completion_tokens), (Some(FinishReason::Length), 0));
    assert_eq!(stream.usage().prompt_tokens, 50);
    assert_eq!(stage.decodes().concat().len(), 1, "the running one's row alone");
}

#[test]
fn more_tokens_than_the_context_holds_end_with_length_where_it_is_full() {
    for len in [1, 500, 1_023] {
        let mut stage = stage(slots(1));
        let mut stream = stage.open(&prompt(len, 0), config(100_000)).unwrap();
        let got = read(&mut stage, &mut stream);
        assert_eq!((got.tokens.len(), stream.finish_reason()), (1_024 - len, Some(FinishReason::Length)));
        assert_eq!(stage.decodes().concat().len(), 1_023, "the last token needs no cell");
    }
}

/// Scripted logits: token 97 + n has the logit -n, all others are far below.
fn ladder() -> Logits {
    Arc::new(|_, logits| {
        logits.fill(-50.0);
        (97..123).zip(0_i16..).for_each(|(token, n)| logits[token] = -f32::from(n));
    })
}

#[test]
fn logprobs_are_those_of_the_model_before_sampling() {
    let mut stage = Stage::new(Size::default(), ladder(), |_| STEP);
    let config = StreamConfig::new().max_tokens(40).temperature(3.0).top_k(3).seed(7).timeout_ms(None);
    let mut stream = stage.open(PROMPT, config.logprobs(4)).unwrap();
    let log_sum = (0..26_u8).map(|n| (-f32::from(n)).exp()).sum::<f32>().ln();
    let got = read(&mut stage, &mut stream);
    assert!(got.tokens.iter().any(|token| token.id != Some(97)), "at temperature 1 other tokens are sampled as well");
    for token in &got.tokens {
        let n = u8::try_from(token.id.unwrap() - 97).unwrap();
        assert!((token.logprob.unwrap() - (-f32::from(n) - log_sum)).abs() < 1e-4);
        let ids: Vec<i32> = token.top_logprobs.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [97, 98, 99, 100], "top_k does not affect the log-probabilities");
        assert!((token.top_logprobs[2].1 - (-2.0 - log_sum)).abs() < 1e-4);
    }
}

#[test]
fn without_logprobs_none_are_computed_and_zero_gives_only_the_token_s_own() {
    let mut stage = Stage::new(Size::default(), ladder(), |_| STEP);
    let mut without = stage.open(PROMPT, config(3)).unwrap();
    let mut own = stage.open(PROMPT, config(3).logprobs(0)).unwrap();
    let plain = read(&mut stage, &mut without);
    let with = read(&mut stage, &mut own);
    assert!(plain.tokens.iter().all(|token| token.logprob.is_none() && token.top_logprobs.is_empty()));
    assert!(with.tokens.iter().all(|token| token.logprob.is_some() && token.top_logprobs.is_empty()));
    assert_eq!(plain.text(), with.text());
}

#[test]
fn penalties_count_a_token_once() {
    // "a" has 5 and "b" 2.5: at 1 per occurrence "a" falls to 2 after three times, and would fall to 1 after two if
    // each counted twice.
    let logits: Logits = Arc::new(|_, logits| (logits[97], logits[98]) = (5.0, 2.5));
    let mut stage = Stage::new(Size::default(), logits, |_| STEP);
    let mut stream = stage.open(PROMPT, config(6).frequency_penalty(1.0)).unwrap();
    assert_eq!(read(&mut stage, &mut stream).text(), "aaabab");
}

#[test]
fn penalties_include_the_prompt_and_look_back_repeat_last_n_tokens() {
    let logits: Logits = Arc::new(|_, logits| (logits[97], logits[98]) = (5.0, 4.5));
    let mut stage = Stage::new(Size::default(), logits, |_| STEP);
    let mut text = |config: StreamConfig| {
        let mut stream = stage.open(&[97, 1, 1], config).unwrap();
        read(&mut stage, &mut stream).text()
    };
    assert_eq!(text(config(1).presence_penalty(1.0)), "b");
    assert_eq!(text(config(1).presence_penalty(1.0).repeat_last_n(2)), "a", "the last two tokens do not include a");
    assert_eq!(text(config(1).presence_penalty(1.0).repeat_last_n(3)), "b");
    assert_eq!(text(config(1).presence_penalty(1.0).repeat_last_n(0)), "a");
    assert_eq!(text(config(1).presence_penalty(1.0).repeat_last_n(-1)), "b");
}

#[test]
fn equal_seeds_give_equal_texts_and_different_seeds_different_texts() {
    let text = |seed: u32, company: usize| {
        let warm = || StreamConfig::new().max_tokens(60).timeout_ms(None).top_p(1.0).top_k(0);
        let mut stage = Stage::new(Size::default(), ladder(), |_| STEP);
        let beside: Vec<_> = (0..company).map(|n| stage.open(&prompt(n + 1, n), warm()).unwrap()).collect();
        let mut stream = stage.open(PROMPT, warm().seed(seed)).unwrap();
        let text = read(&mut stage, &mut stream).text();
        assert_eq!(stream.seed(), seed);
        drop(beside);
        text
    };
    assert_eq!(text(1, 0), text(1, 0));
    assert_eq!(text(1, 0), text(1, 7), "other streams change nothing");
    assert_eq!(text(1, 0), text(1, 20), "nor does waiting for a slot");
    assert_ne!(text(1, 0), text(2, 0));
}

#[test]
fn a_random_seed_is_reported_and_reproduces_the_text() {
    let warm = || StreamConfig::new().max_tokens(60).timeout_ms(None);
    let mut stage = Stage::new(Size::default(), ladder(), |_| STEP);
    let streams = [stage.open(PROMPT, warm()).unwrap(), stage.open(PROMPT, warm()).unwrap()];
    assert_ne!(streams[0].seed(), streams[1].seed());
    for mut stream in streams {
        let mut again = stage.open(PROMPT, warm().seed(stream.seed())).unwrap();
        assert_eq!(read(&mut stage, &mut again).text(), read(&mut stage, &mut stream).text());
    }
}

#[test]
fn an_end_token_needs_no_buffer_capacity() {
    let logits = mullama::testing::always(|tokens| if tokens.len() < 4 { 97 } else { ByteVocabulary::END });
    let mut stage = Stage::new(Size::default(), logits, |_| STEP);
    let mut stream = stage.open(PROMPT, config(100).buffer_size(3)).unwrap();
    stage.settle();
    assert_eq!(stage.step(), Step::Idle { until: None });
    stream.next_blocking().unwrap().unwrap();
    stage.settle();
    assert_eq!((stream.buffered(), stage.unfinished()), (2, 0));
}
