//! Deadlines hold in every phase, and everything that was produced before them is delivered first.

use mullama::testing::{Size, Stage, Step};
use mullama::{Deadline, FinishReason, MullamaError, StreamConfig, TokenStream};

use crate::support::{Got, alone, config, hashed, ms, now, prompt, read, rows, slots, stage, steps, take};

/// The deadline that ended a stream, its length, and the number of tokens until then.
fn timeout(got: &Got) -> (Deadline, u64, usize) {
    match &got.error {
        Some(MullamaError::StreamTimeout { deadline, limit_ms, completion_tokens }) => {
            (*deadline, *limit_ms, *completion_tokens)
        }
        other => panic!("expected a timeout, got {other:?}"),
    }
}

/// A stage with one slot where a decode takes a millisecond per row.
fn slow() -> Stage {
    Stage::new(slots(1), hashed(), |rows| ms(rows as u64))
}

/// A deadline of each kind.
fn each_kind() -> [(Deadline, StreamConfig); 3] {
    [
        (Deadline::Total, config(500).timeout_ms(1_000)),
        (Deadline::FirstToken, config(500).ttft_timeout_ms(1_000)),
        (Deadline::Queue, config(500).queue_timeout_ms(1_000)),
    ]
}

#[test]
fn every_deadline_holds_in_the_queue() {
    for (kind, config_of_kind) in each_kind() {
        let mut stage = slow();
        let _running = stage.open(&[1], config(1_000)).unwrap();
        steps(&mut stage, 1);
        let mut queued = stage.open(&[2], config_of_kind).unwrap();
        stage.clock.advance(ms(998));
        // This step uses the last millisecond but one; at the next step the deadline is due but has not passed.
        steps(&mut stage, 1);
        assert_eq!(queued.finish_reason(), None, "{kind}");
        stage.clock.advance(ms(1));
        steps(&mut stage, 1);
        let got = take(&mut queued);
        assert_eq!(timeout(&got), (kind, 1_000, 0));
        assert_eq!(queued.finish_reason(), Some(FinishReason::Timeout));
        assert_eq!((got.tokens.len(), stage.unfinished()), (0, 1));
    }
}

#[test]
fn a_deadline_in_prefill_ends_the_stream_between_two_chunks_and_frees_its_slot() {
    let configs = [config(500).timeout_ms(300), config(500).ttft_timeout_ms(300)];
    for (config_of_kind, kind) in configs.into_iter().zip([Deadline::Total, Deadline::FirstToken]) {
        let mut stage = slow();
        let mut stream = stage.open(&prompt(1_000, 0), config_of_kind).unwrap();
        let mut next = stage.open(&prompt(2, 1), config(4)).unwrap();
        assert_eq!(read(&mut stage, &mut next).text(), alone(&prompt(2, 1), 4));
        let chunks = [[32; 10].as_slice(), &[2, 1, 1, 1]].concat();
        assert_eq!(rows(&stage), chunks, "320 ms have passed after the tenth chunk");
        assert_eq!(timeout(&take(&mut stream)), (kind, 300, 0));
    }
}

#[test]
fn the_queue_deadline_no_longer_applies_once_the_stream_has_a_slot() {
    let mut stage = slow();
    let mut stream = stage.open(&prompt(600, 0), config(20).queue_timeout_ms(100)).unwrap();
    let got = read(&mut stage, &mut stream);
    assert_eq!((got.code(), got.text()), (None, alone(&prompt(600, 0), 20)));
}

#[test]
fn the_first_token_deadline_no_longer_applies_after_the_first_token() {
    let mut stage = slow();
    let mut stream = stage.open(&[1], config(500).ttft_timeout_ms(100)).unwrap();
    let got = read(&mut stage, &mut stream);
    assert_eq!((got.code(), got.tokens.len()), (None, 500));
}

#[test]
fn a_deadline_in_decode_comes_after_what_was_produced() {
    let mut stage = slow();
    let mut stream = stage.open(&[1], config(500).timeout_ms(25)).unwrap();
    let got = read(&mut stage, &mut stream);
    assert_eq!(timeout(&got), (Deadline::Total, 25, 25));
    assert_eq!(got.text(), alone(&[1], 25));
    assert_eq!(stream.finish_reason(), Some(FinishReason::Timeout));
    assert_eq!(stream.usage().completion_tokens, 25);
    assert!(take(&mut stream).error.is_none(), "the error is returned once, then the stream is over");
}

#[test]
fn a_deadline_while_paused_comes_after_what_was_produced() {
    let mut stage = slow();
    let mut stream = stage.open(&[1], config(500).buffer_size(7).timeout_ms(5_000)).unwrap();
    stage.settle();
    assert_eq!(stage.step(), Step::Idle { until: Some(ms(5_000)) });
    let left = ms(5_000).saturating_sub(now(&stage));
    stage.clock.advance(left);
    assert_eq!(stage.step(), Step::Idle { until: None });
    assert_eq!((stage.unfinished(), stream.finish_reason()), (0, None), "the reader learns of it when it gets there");
    let got = take(&mut stream);
    assert_eq!(got.text(), alone(&[1], 7));
    assert_eq!(timeout(&got), (Deadline::Total, 5_000, 7));
}

#[test]
fn time_counts_from_the_call_and_not_from_the_first_step() {
    let mut stage = slow();
    let mut stream = stage.open(&[1], config(500).timeout_ms(100)).unwrap();
    stage.clock.advance(ms(100));
    assert_eq!(timeout(&read(&mut stage, &mut stream)), (Deadline::Total, 100, 0));
    assert!(rows(&stage).is_empty(), "nothing was computed for it");
}

#[test]
fn of_two_deadlines_that_have_passed_the_earlier_one_is_reported() {
    let mut stage = slow();
    let mut stream = stage.open(&[1], config(500).timeout_ms(80).queue_timeout_ms(90).ttft_timeout_ms(70)).unwrap();
    stage.clock.advance(ms(500));
    assert_eq!(timeout(&read(&mut stage, &mut stream)), (Deadline::FirstToken, 70, 0));
}

#[test]
fn none_and_zero_are_no_limit_and_a_huge_one_does_not_overflow() {
    let none = config(3).timeout_ms(None);
    let zero = config(3).timeout_ms(0).ttft_timeout_ms(0).queue_timeout_ms(0);
    let huge = config(3).timeout_ms(u64::MAX).ttft_timeout_ms(u64::MAX).queue_timeout_ms(u64::MAX);
    for config in [none, zero, huge] {
        let mut stage = slow();
        let mut stream = stage.open(&[1], config).unwrap();
        stage.clock.advance(ms(1_000_000_000_000));
        assert_eq!(read(&mut stage, &mut stream).text(), alone(&[1], 3));
    }
}

#[test]
fn the_default_deadline_is_thirty_seconds() {
    let mut stage = slow();
    let mut stream = stage.open(&[1], StreamConfig::new().buffer_size(1)).unwrap();
    stage.settle();
    assert_eq!(stage.step(), Step::Idle { until: Some(ms(30_000)) });
    stage.clock.advance(ms(30_000));
    stage.settle();
    assert_eq!(timeout(&take(&mut stream)), (Deadline::Total, 30_000, 1));
}

#[test]
fn a_timeout_of_one_stream_does_not_affect_the_others() {
    let mut stage = Stage::new(Size::default(), hashed(), |_| ms(1));
    let mut short = stage.open(&prompt(3, 0), config(500).timeout_ms(20)).unwrap();
    let mut long = stage.open(&prompt(3, 1), config(60)).unwrap();
    assert_eq!(read(&mut stage, &mut long).text(), alone(&prompt(3, 1), 60));
    assert_eq!(take(&mut short).code(), Some("STREAM_TIMEOUT"));
}

/// The time of each token of a stream, in milliseconds.
fn arrivals(stage: &mut Stage, stream: &mut TokenStream, step: &mut impl FnMut(&mut Stage)) -> Vec<u128> {
    let (mut got, mut at) = (Got::default(), Vec::new());
    while !got.over {
        let before = got.tokens.len();
        got.take(stream, usize::MAX);
        at.extend((before..got.tokens.len()).map(|_| now(stage).as_millis()));
        if !got.over {
            step(stage);
        }
    }
    at
}

#[test]
fn a_delay_keeps_two_tokens_apart_and_the_engine_sleeps_between_them() {
    let mut stage = stage(slots(1));
    let mut stream = stage.open(&[1], config(5).stream_delay_ms(50)).unwrap();
    let at = arrivals(&mut stage, &mut stream, &mut |stage| {
        if let Step::Idle { until } = stage.step() {
            let left = until.expect("the next token is due").saturating_sub(now(stage));
            stage.clock.advance(left);
        }
    });
    assert_eq!(at, [1, 52, 103, 154, 205], "each 50 ms after the last, and a millisecond to compute it");
}

#[test]
fn a_delayed_stream_leaves_its_slot_to_others() {
    let mut stage = stage(slots(1));
    let mut slow = stage.open(&[1], config(3).stream_delay_ms(1_000)).unwrap();
    let mut other = stage.open(&[2], config(30)).unwrap();
    assert_eq!(read(&mut stage, &mut other).text(), alone(&[2], 30));
    assert!(now(&stage) < ms(100));
    assert_eq!(read(&mut stage, &mut slow).text(), alone(&[1], 3));
}

#[test]
fn a_deadline_holds_between_two_delayed_tokens() {
    let mut stage = stage(slots(1));
    let mut stream = stage.open(&[1], config(50).stream_delay_ms(1_000).timeout_ms(1_500)).unwrap();
    let got = read(&mut stage, &mut stream);
    assert_eq!(timeout(&got), (Deadline::Total, 1_500, 2));
    assert_eq!(now(&stage), ms(1_500));
}
