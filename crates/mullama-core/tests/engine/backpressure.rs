//! Backpressure: no token is computed without buffer capacity for it, and a full buffer delays no other stream.

use std::time::Duration;

use mullama::testing::Step;
use mullama::{FinishReason, TokenStream, TryNext};

use crate::support::{Got, alone, config, ms, pool, prompt, read, read_all, rows, slots, spell, stage, stopping, take};

const ASLEEP: Step = Step::Idle { until: None };

#[test]
fn at_most_buffer_size_tokens_are_computed_ahead_of_a_sleeping_reader() {
    for buffer in [1, 2, 7, 64, 300] {
        let mut stage = stage(slots(8));
        let mut stream = stage.open(&[1], config(500).buffer_size(buffer)).unwrap();
        for read in 0..20 {
            loop {
                let step = stage.step();
                assert!(stream.buffered() <= buffer as usize);
                if step == ASLEEP {
                    break;
                }
            }
            assert_eq!(stream.buffered(), buffer as usize);
            assert_eq!(stream.usage().completion_tokens, buffer as usize + read);
            assert!(matches!(stream.next_within(Duration::ZERO), TryNext::Token(_)));
        }
    }
}

#[test]
fn a_prompt_is_not_computed_twice_for_a_paused_reader() {
    let mut stage = stage(slots(1));
    let mut stream = stage.open(&prompt(40, 0), config(100).buffer_size(3)).unwrap();
    stage.settle();
    assert_eq!(rows(&stage), [32, 8, 1, 1]);
    for _ in 0..5 {
        stream.next_blocking().unwrap().unwrap();
        stage.settle();
        assert_eq!(rows(&stage), [1]);
    }
}

#[test]
fn seven_streams_beside_a_paused_one_finish_as_if_it_did_not_exist() {
    let run = |sleeper: bool| {
        let mut stage = stage(slots(8));
        let asleep = sleeper.then(|| stage.open(&[200], config(500).buffer_size(4)).unwrap());
        let open = |seed| stage.open(&prompt(1, seed), config(50 + u32::try_from(seed).unwrap())).unwrap();
        let mut streams: Vec<TokenStream> = (0..7).map(open).collect();
        let texts: Vec<String> = read_all(&mut stage, &mut streams).iter().map(Got::text).collect();
        let rows = rows(&stage);
        assert_eq!(asleep.map_or(0, |stream| stream.buffered()), if sleeper { 4 } else { 0 });
        (texts, rows)
    };
    let (beside, rows_beside) = run(true);
    let (alone, rows_alone) = run(false);
    assert_eq!(beside, alone);
    assert_eq!(rows_beside.len(), rows_alone.len(), "as many steps");
    assert_eq!(rows_beside[4..], rows_alone[4..], "and once it is paused, the same rows");
}

#[test]
fn a_stream_runs_beside_twenty_stalled_readers_on_eight_slots() {
    let mut stage = stage(slots(8));
    let open = |seed| stage.open(&prompt(5, seed), config(200).buffer_size(2)).unwrap();
    let stalled: Vec<TokenStream> = (0..20).map(open).collect();
    let mut last = stage.open(&prompt(5, 99), config(100).buffer_size(2)).unwrap();
    let got = read(&mut stage, &mut last);
    assert_eq!(got.text(), alone(&prompt(5, 99), 100));
    assert_eq!(last.finish_reason(), Some(FinishReason::Length));
    assert_eq!(stage.settle(), 0);
    assert!(
        stalled.iter().all(|stream| stream.buffered() == 2),
        "each of the twenty filled its buffer, and no more was computed"
    );
}

#[test]
fn with_all_readers_paused_the_engine_sleeps_and_one_read_wakes_it() {
    let mut stage = stage(slots(2));
    let mut streams: Vec<TokenStream> =
        (0..5).map(|seed| stage.open(&prompt(2, seed), config(100).buffer_size(3)).unwrap()).collect();
    stage.settle();
    assert_eq!(stage.decodes().len(), 3 * 3, "two slots, five streams, three tokens each");
    assert_eq!(stage.step(), ASLEEP);
    streams[3].next_blocking().unwrap().unwrap();
    assert_eq!(stage.step(), Step::Worked);
    assert_eq!(stage.step(), ASLEEP);
    assert_eq!(rows(&stage), [1], "one token for the one that was read");
}

#[test]
fn with_all_readers_paused_the_engine_sleeps_until_the_next_deadline() {
    let mut stage = stage(slots(2));
    let _forever = stage.open(&[1], config(100).buffer_size(1)).unwrap();
    let _minute = stage.open(&[2], config(100).buffer_size(1).timeout_ms(60_000)).unwrap();
    let soon = stage.open(&[3], config(100).buffer_size(1).timeout_ms(5_000)).unwrap();
    stage.settle();
    assert_eq!(stage.step(), Step::Idle { until: Some(ms(5_000)) });
    drop(soon);
    assert_eq!(stage.step(), Step::Idle { until: Some(ms(60_000)) });
}

#[test]
fn a_paused_stream_frees_its_slot_within_one_step() {
    let mut stage = stage(slots(1));
    let first = stage.open(&[1], config(100).buffer_size(1)).unwrap();
    let second = stage.open(&[2], config(100).buffer_size(1)).unwrap();
    stage.step();
    assert_eq!((first.buffered(), second.buffered()), (1, 0));
    stage.step();
    assert_eq!((first.buffered(), second.buffered()), (1, 1));
}

#[test]
fn a_resumed_stream_goes_before_the_queue() {
    let mut stage = stage(slots(1));
    let mut paused = stage.open(&[1], config(100).buffer_size(1)).unwrap();
    stage.step();
    let mut runs = stage.open(&[2], config(3)).unwrap();
    stage.step();
    let waits = stage.open(&[3], config(3)).unwrap();
    paused.next_blocking().unwrap().unwrap();
    assert_eq!(read(&mut stage, &mut runs).text().len(), 3);
    assert_eq!((paused.buffered(), waits.buffered()), (0, 0));
    stage.step();
    assert_eq!((paused.buffered(), waits.buffered()), (1, 0));
}

#[test]
fn capacity_for_the_final_remainder_is_reserved_from_the_start() {
    let (mut stage, mut stream) = spell(b"ab<e", stopping(100, &["<end>"]).buffer_size(4));
    stage.settle();
    assert_eq!(stream.buffered(), 4, "the buffer is full before the text ends");
    let first = stream.next_blocking().unwrap().unwrap();
    stage.settle();
    assert_eq!(stream.buffered(), 4, "three items, and the text that was held back");
    let rest = take(&mut stream);
    assert_eq!(first.text + &rest.text(), "ab<e");
    assert_eq!(rest.tokens.last().unwrap().id, None);
}

#[test]
fn the_remainder_fits_a_full_buffer_when_the_reader_cancels() {
    let (mut stage, mut stream) = spell(b"ab<en", stopping(100, &["<end>"]).buffer_size(4));
    stage.settle();
    stream.cancel();
    stage.settle();
    assert_eq!(stream.buffered(), 5);
    assert_eq!(take(&mut stream).text(), "ab<e");
}

#[test]
fn the_paused_time_is_reported_however_the_stream_ends() {
    let mut stage = stage(slots(1));
    let mut read_late = stage.open(&[1], config(3).buffer_size(2)).unwrap();
    let never = stage.open(&[2], config(3).buffer_size(2).timeout_ms(10_000)).unwrap();
    stage.settle();
    stage.clock.advance(ms(4_000));
    assert_eq!(read(&mut stage, &mut read_late).text().len(), 3);
    let next = read_late.timings().reader_wait;
    assert!(next >= ms(4_000) && next < ms(4_100), "{next:?}");
    stage.clock.advance(ms(8_000));
    stage.settle();
    let next = never.timings().reader_wait;
    assert!(next >= ms(9_900), "a timeout ends the pause, and its time still counts: {next:?}");
}

#[test]
fn a_paused_stream_keeps_its_cells_until_they_are_needed() {
    let mut stage = stage(pool(2, 64, 8));
    let mut paused = stage.open(&prompt(20, 0), config(30).buffer_size(1)).unwrap();
    stage.settle();
    let mut other = stage.open(&prompt(10, 1), config(10)).unwrap();
    assert_eq!(read(&mut stage, &mut other).text(), alone(&prompt(10, 1), 10));
    stage.decodes();
    paused.next_blocking().unwrap().unwrap();
    stage.settle();
    assert_eq!(rows(&stage), [1]);
}
