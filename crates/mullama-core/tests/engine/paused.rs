//! Paused streams: they keep nobody out, have a limit of their own, and always come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use mullama::testing::{Size, Stage};
use mullama::{FinishReason, MullamaError, TokenStream};

use crate::support::{alone, config, pool, prompt, read, read_all, slots, stage, take};

/// Two slots and a queue of two, so that four streams may run or wait.
fn narrow() -> Size {
    Size { queue: 2, ..slots(2) }
}

/// Opens streams whose readers never read, each after the one before is paused.
fn stall(stage: &mut Stage, count: usize) -> Vec<TokenStream> {
    let mut stalled = Vec::new();
    for seed in 0..count {
        stalled.push(stage.open(&prompt(3, seed), config(100).buffer_size(2)).expect("paused streams keep nobody out"));
        stage.settle();
    }
    stalled
}

#[test]
fn stalled_readers_leave_the_queue_and_the_slots_to_a_fresh_stream() {
    for count in [4, 5, 100] {
        let mut stage = stage(narrow());
        let stalled = stall(&mut stage, count);
        let stats = stage.stats();
        assert_eq!((stats.queued, stats.running, stats.paused), (0, 0, count));
        let mut fresh = stage.open(&prompt(3, 500), config(50).buffer_size(1)).expect("accepted");
        assert_eq!(read(&mut stage, &mut fresh).text(), alone(&prompt(3, 500), 50));
        assert!(stalled.iter().all(|stream| stream.buffered() == 2));
    }
}

#[test]
fn streams_that_wait_for_a_delay_or_gave_up_their_cells_keep_nobody_out() {
    let mut stage = stage(Size { queue: 1, ..pool(1, 16, 4) });
    let mut waiting = Vec::new();
    for seed in 0..6 {
        waiting.push(stage.open(&prompt(10, seed), config(3).stream_delay_ms(3_600_000)).expect("accepted"));
        stage.settle();
    }
    assert!(stage.stats().preemptions > 0, "sixteen cells are too few for two of them");
    assert_eq!(stage.stats().paused, 6);
    let mut fresh = stage.open(&prompt(4, 500), config(5)).expect("accepted");
    read(&mut stage, &mut fresh);
    assert_eq!(fresh.finish_reason(), Some(FinishReason::Length));
}

#[test]
fn the_queue_is_as_long_beside_paused_streams_as_without_them() {
    let mut stage = stage(narrow());
    let _stalled = stall(&mut stage, 7);
    let mut accepted: Vec<TokenStream> =
        (0..4).map(|seed| stage.open(&prompt(3, seed), config(5)).expect("two slots and a queue of two")).collect();
    let refused = stage.open(&[1], config(5)).expect_err("the queue is full");
    assert!(matches!(refused, MullamaError::Overloaded { unfinished: 4, limit: 4 }), "{refused}");
    read_all(&mut stage, &mut accepted);
    stage.open(&[1], config(5)).expect("the queue is empty");
}

#[test]
fn paused_streams_have_a_limit_of_their_own_that_the_error_names() {
    let mut stage = stage(Size { paused: 5, ..narrow() });
    let mut stalled = stall(&mut stage, 5);
    let refused = stage.open(&[1], config(5)).expect_err("five are paused");
    assert!(matches!(refused, MullamaError::PausedOverloaded { paused: 5, active: 0, limit: 5 }), "{refused}");
    assert_eq!(refused.code(), "OVERLOADED");
    assert!(refused.to_string().contains("max_paused"), "{refused}");
    // Each way out works: a paused stream is read to its end, cancelled, or dropped.
    read(&mut stage, &mut stalled[2]);
    let again = stage.open(&prompt(3, 9), config(100).buffer_size(2)).expect("one was read to its end");
    stage.settle();
    stage.open(&[1], config(5)).expect_err("five are paused again");
    again.cancel();
    stage.settle();
    let again = stage.open(&prompt(3, 9), config(100).buffer_size(2)).expect("one was cancelled");
    stage.settle();
    stage.open(&[1], config(5)).expect_err("five are paused again");
    drop(again);
    stage.open(&[1], config(5)).expect("one was dropped");
}

#[test]
fn no_more_streams_are_ever_paused_than_the_limit_says_however_many_wait_for_a_slot_before() {
    let mut stage = stage(Size { paused: 6, ..narrow() });
    let mut stalled = stall(&mut stage, 3);
    let open = |stage: &Stage, seed| stage.open(&prompt(3, seed), config(100).buffer_size(2));
    stalled.extend((10..13).map(|seed| open(&stage, seed).expect("four may run or wait, and six be unfinished")));
    let refused = open(&stage, 13).expect_err("the three that wait may be paused later");
    assert!(matches!(refused, MullamaError::PausedOverloaded { paused: 3, active: 3, limit: 6 }), "{refused}");
    stage.settle();
    assert_eq!(stage.stats().paused, 6);
}

#[test]
fn at_the_limit_a_new_stream_displaces_the_one_that_has_been_paused_longest() {
    let mut stage = stage(Size { paused: 5, ..narrow() });
    let mut stalled = stall(&mut stage, 5);
    // The first one is read, so it has been paused for less time than the others.
    assert_eq!(take(&mut stalled[0]).tokens.len(), 2);
    stage.settle();
    for (seed, displaced) in [(500, 1), (501, 2)] {
        stage.open(&[1], config(5)).expect_err("without displacing it is refused");
        let mut fresh = stage.open_displacing(&prompt(3, seed), config(50)).expect("accepted at once");
        assert_eq!(stage.unfinished(), 5);
        stage.open(&[1], config(5)).expect_err("no more than five are unfinished");
        stage.settle();
        let got = take(&mut stalled[displaced]);
        assert!(matches!(got.error, Some(MullamaError::Displaced { limit: 5 })), "{got:?}");
        assert_eq!((got.tokens.len(), got.text()), (2, alone(&prompt(3, displaced), 2)));
        assert_eq!(take(&mut fresh).text(), alone(&prompt(3, seed), 50));
        let again = stage.open(&prompt(3, seed), config(100).buffer_size(2)).expect("the fresh one has ended");
        stage.settle();
        stalled.push(again);
    }
    assert_eq!(stage.stats().paused, 5);
    for seed in [0, 3, 4] {
        let rest = read(&mut stage, &mut stalled[seed]);
        assert!(rest.error.is_none() && alone(&prompt(3, seed), 100).ends_with(&rest.text()), "{rest:?}");
    }
}

#[test]
fn a_full_queue_displaces_no_paused_stream() {
    let mut stage = stage(Size { paused: 100, ..narrow() });
    let stalled = stall(&mut stage, 3);
    let _queued: Vec<TokenStream> =
        (10..14).map(|seed| stage.open(&prompt(3, seed), config(5)).expect("accepted")).collect();
    let refused = stage.open_displacing(&[1], config(5)).expect_err("the queue is full");
    assert!(matches!(refused, MullamaError::Overloaded { unfinished: 4, limit: 4 }), "{refused}");
    stage.settle();
    assert!(stalled.iter().all(|stream| stream.buffered() == 2 && stream.finish_reason().is_none()));
}

#[test]
fn a_displaced_stream_gets_the_text_that_was_held_back_for_a_stop_sequence() {
    let text = alone(&prompt(3, 0), 3);
    let stop = format!("{}!", &text[1..2]);
    let mut stage = stage(Size { queue: 0, paused: 1, ..slots(1) });
    let held = config(100).buffer_size(2).stop_sequences(vec![stop]);
    let mut stalled = stage.open(&prompt(3, 0), held).expect("accepted");
    stage.settle();
    let _fresh = stage.open_displacing(&prompt(3, 1), config(5)).expect("accepted");
    stage.settle();
    let got = take(&mut stalled);
    assert_eq!((got.text(), got.code()), (text[..2].to_owned(), Some("OVERLOADED")));
}

#[test]
fn a_paused_stream_comes_back_beside_a_full_queue_and_at_the_limit_of_paused_ones() {
    let mut stage = stage(Size { paused: 7, ..narrow() });
    let mut stalled = stall(&mut stage, 3);
    let mut full: Vec<TokenStream> =
        (10..14).map(|seed| stage.open(&prompt(3, seed), config(40).buffer_size(1)).expect("accepted")).collect();
    stage.open(&[1], config(5)).expect_err("the queue is full");
    let mut all: Vec<TokenStream> = stalled.drain(..).chain(full.drain(..)).collect();
    for (seed, got) in (0..3).chain(10..14).zip(read_all(&mut stage, &mut all)) {
        assert_eq!(got.text(), alone(&prompt(3, seed), if seed < 10 { 100 } else { 40 }));
    }
    stage.open(&[1], config(5)).expect("accepted");
    stage.settle();
    let stats = stage.stats();
    assert_eq!((stats.queued, stats.running, stats.paused), (0, 0, 0), "no stream is left over");
}

#[derive(Default)]
struct Counts(AtomicUsize);

impl Wake for Counts {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_reader_that_takes_nothing_is_woken_when_its_paused_stream_ends() {
    type End = fn(&mut Stage, &TokenStream);
    let ends: [(End, FinishReason); 3] = [
        (|stage, _| stage.clock.advance(Duration::from_secs(9)), FinishReason::Timeout),
        (|_, stream| stream.cancel(), FinishReason::Cancelled),
        (|_, stream| stream.handle().close(), FinishReason::Cancelled),
    ];
    for (end, reason) in ends {
        let mut stage = stage(narrow());
        let stream = stage.open(&[1], config(100).buffer_size(1).timeout_ms(8_000)).expect("accepted");
        let (counts, handle) = (Arc::new(Counts::default()), stream.handle());
        let waker = Waker::from(Arc::clone(&counts));
        let mut cx = Context::from_waker(&waker);
        stage.settle();
        assert_eq!((handle.poll_ended(&mut cx), counts.0.load(Ordering::Relaxed)), (Poll::Pending, 0));
        end(&mut stage, &stream);
        stage.settle();
        assert_eq!((handle.poll_ended(&mut cx), counts.0.load(Ordering::Relaxed)), (Poll::Ready(reason), 1));
    }
}

#[test]
fn the_end_of_a_stream_is_known_before_its_items_are_read() {
    let mut stage = stage(narrow());
    let mut stream = stage.open(&[1], config(5)).expect("accepted");
    stage.settle();
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(stream.handle().poll_ended(&mut cx), Poll::Ready(FinishReason::Length));
    assert_eq!((stream.finish_reason(), stream.buffered()), (None, 5));
    assert_eq!(read(&mut stage, &mut stream).tokens.len(), 5);
}
