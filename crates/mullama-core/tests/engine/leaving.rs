//! A stream that its reader leaves frees its slot within one step, in every phase.

use std::sync::{Arc, Mutex};

use mullama::testing::{Logits, Size, Stage, Step};
use mullama::{FinishReason, TokenStream};

use crate::support::{STEP, alone, config, hashed, prompt, read, rows, slots, stage, steps, take};

/// The three ways to leave.
#[derive(Debug, Clone, Copy)]
enum Way {
    Cancel,
    Close,
    Drop,
}

const WAYS: [Way; 3] = [Way::Cancel, Way::Close, Way::Drop];

/// Leaves, and returns the stream if it still exists.
fn leave(mut stream: TokenStream, way: Way) -> Option<TokenStream> {
    match way {
        Way::Cancel => stream.cancel(),
        Way::Close => stream.close(),
        Way::Drop => return None,
    }
    Some(stream)
}

/// A stage with one slot, where a stream in some phase has another one behind it.
fn before_another(len: usize, buffer: u32, steps: usize) -> (Stage, TokenStream, TokenStream) {
    let mut stage = stage(slots(1));
    let stream = stage.open(&prompt(len, 0), config(500).buffer_size(buffer)).expect("opened");
    let next = stage.open(&prompt(3, 1), config(10)).expect("opened");
    (0..steps).for_each(|_| assert_eq!(stage.step(), Step::Worked));
    stage.decodes();
    (stage, stream, next)
}

fn the_next_runs_at_once(mut stage: Stage, stream: TokenStream, next: &mut TokenStream, way: Way) {
    let gone = leave(stream, way);
    assert_eq!(stage.step(), Step::Worked);
    assert_eq!(rows(&stage), [3], "the step after computes the next one, and nothing else");
    assert_eq!(stage.unfinished(), 1);
    assert_eq!(read(&mut stage, next).text(), alone(&prompt(3, 1), 10));
    if let Some(mut gone) = gone {
        take(&mut gone);
        assert_eq!(gone.finish_reason(), Some(FinishReason::Cancelled));
    }
    assert_eq!((stage.unfinished(), stage.settle()), (0, 0));
}

#[test]
fn leaving_during_a_long_prefill_frees_the_slot_within_one_step() {
    for way in WAYS {
        let (stage, stream, mut next) = before_another(900, 8, 2);
        assert_eq!(stream.usage().completion_tokens, 0, "two of four chunks are computed");
        the_next_runs_at_once(stage, stream, &mut next, way);
    }
}

#[test]
fn leaving_during_generation_frees_the_slot_within_one_step() {
    for way in WAYS {
        let (stage, stream, mut next) = before_another(5, 64, 7);
        assert_eq!(stream.buffered(), 7);
        the_next_runs_at_once(stage, stream, &mut next, way);
    }
}

#[test]
fn leaving_the_queue_takes_effect_at_once_without_a_step() {
    for way in WAYS {
        let (mut stage, running, queued) = before_another(5, 64, 3);
        assert_eq!(stage.unfinished(), 2);
        let gone = leave(queued, way);
        assert_eq!(stage.unfinished(), 1);
        if let Some(mut gone) = gone {
            assert!(take(&mut gone).over);
            assert_eq!(gone.finish_reason(), Some(FinishReason::Cancelled));
        }
        stage.decodes();
        stage.step();
        assert_eq!(rows(&stage), [1]);
        assert_eq!(running.buffered(), 4);
    }
}

#[test]
fn leaving_while_paused_frees_the_cells_and_the_admission_within_one_step() {
    for way in WAYS {
        let mut stage = stage(slots(1));
        let stream = stage.open(&prompt(5, 0), config(500).buffer_size(2)).unwrap();
        stage.settle();
        let gone = leave(stream, way);
        assert_eq!(stage.step(), Step::Idle { until: None });
        assert_eq!(stage.unfinished(), 0);
        drop(gone);
        let mut long = stage.open(&prompt(1000, 1), config(100)).unwrap();
        assert_eq!(read(&mut stage, &mut long).text().len(), 24, "the whole pool is free for the next stream");
        assert_eq!(rows(&stage).iter().sum::<usize>(), 5 + 1 + 1000 + 23, "nothing was computed twice");
    }
}

#[test]
fn a_cancelled_stream_delivers_the_produced_tokens_and_then_ends() {
    let mut stage = stage(slots(1));
    let mut stream = stage.open(&[1], config(500)).unwrap();
    steps(&mut stage, 10);
    stream.cancel();
    stage.settle();
    let got = take(&mut stream);
    assert_eq!(got.text(), alone(&[1], 10));
    assert!(got.over && got.error.is_none());
    assert_eq!(stream.finish_reason(), Some(FinishReason::Cancelled));
    assert!(take(&mut stream).over, "further reads return the same");
}

#[test]
fn a_closed_stream_discards_unread_tokens_and_ends_at_once() {
    let mut stage = stage(slots(1));
    let mut stream = stage.open(&[1], config(500)).unwrap();
    steps(&mut stage, 10);
    stream.close();
    assert_eq!((stream.buffered(), stage.unfinished()), (0, 0));
    let got = take(&mut stream);
    assert!(got.over && got.error.is_none() && got.tokens.is_empty());
    assert_eq!(stream.finish_reason(), Some(FinishReason::Cancelled));
    assert_eq!(stage.settle(), 0);
    assert!(take(&mut stream).tokens.is_empty());
}

#[test]
fn cancel_and_close_after_the_end_change_nothing() {
    let mut stage = stage(slots(1));
    let mut stream = stage.open(&[1], config(5)).unwrap();
    stage.settle();
    stream.cancel();
    stage.settle();
    assert_eq!(take(&mut stream).text(), alone(&[1], 5));
    stream.close();
    stream.cancel();
    assert_eq!(stream.finish_reason(), Some(FinishReason::Length));
    assert_eq!(stage.unfinished(), 0);
}

/// Logits that drop a stream during its decode.
fn leaving_in_step(way: Way) -> (Logits, Arc<Mutex<Option<TokenStream>>>) {
    let slot: Arc<Mutex<Option<TokenStream>>> = Arc::default();
    let (inside, base_logits) = (Arc::clone(&slot), hashed());
    let logits: Logits = Arc::new(move |tokens, logits| {
        let mut slot = inside.lock().expect("whole");
        if tokens.len() == 10 {
            *slot = slot.take().and_then(|stream| leave(stream, way));
        }
        base_logits(tokens, logits);
    });
    (logits, slot)
}

#[test]
fn leaving_while_a_step_runs_frees_the_slot_within_the_next() {
    for way in WAYS {
        let (logits, slot) = leaving_in_step(way);
        let mut stage = Stage::new(slots(1), logits, |_| STEP);
        *slot.lock().unwrap() = Some(stage.open(&prompt(4, 0), config(500)).unwrap());
        let mut next = stage.open(&prompt(3, 1), config(5)).unwrap();
        assert_eq!(read(&mut stage, &mut next).text(), alone(&prompt(3, 1), 5));
        assert_eq!(rows(&stage), [4, 1, 1, 1, 1, 1, 1, 3, 1, 1, 1, 1]);
        assert_eq!(stage.unfinished(), 0);
        if let Some(mut gone) = slot.lock().unwrap().take() {
            let got = take(&mut gone);
            assert!(got.over && alone(&prompt(4, 0), 20).starts_with(&got.text()));
            assert_eq!(gone.finish_reason(), Some(FinishReason::Cancelled));
        }
    }
}

#[test]
fn ten_thousand_opened_and_abandoned_streams_leave_nothing_behind() {
    let mut stage = stage(Size::default());
    for n in 0..10_000_usize {
        let stream = stage.open(&prompt(3 + n % 300, n), config(20).buffer_size(2)).unwrap();
        steps(&mut stage, n % 5);
        drop(stream);
    }
    stage.settle();
    assert_eq!((stage.unfinished(), stage.settle()), (0, 0));
    stage.decodes();
    let mut after = stage.open(&prompt(1000, 7), config(50)).unwrap();
    assert_eq!(read(&mut stage, &mut after).text(), alone(&prompt(1000, 7), 24));
    assert_eq!(rows(&stage).iter().sum::<usize>(), 1000 + 23, "all cells were free");
}
