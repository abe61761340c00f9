//! Interleavings of readers with an engine that runs on its own thread.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use shuttle::future::block_on;
use shuttle::sync::Mutex;
use shuttle::thread;

use super::{config, explore, open, read, start, start_with, try_open};
use crate::engine::handle::EngineHandle;
use crate::shutdown::Close;
use crate::stream::admission::{AdmissionLimits, WhenFull};
use crate::stream::usage::FinishReason;
use crate::{LoopNotifier, TokenStream};

/// Asserts that the engine still serves a new stream with its one slot, counts no stream as unfinished, and keeps none.
fn serves_the_next_and_forgets_the_others(engine: &EngineHandle) {
    assert_eq!(read(&mut open(engine, 2, 1)), ("ab".into(), None));
    assert_eq!(engine.unfinished(), 0);
    // It may not have looked at its inbox yet. A stream that it does not know about would stay forever, which exceeds
    // the limit.
    while engine.stats().queued + engine.stats().running + engine.stats().paused > 0 {
        thread::yield_now();
    }
}

#[test]
fn a_read_of_a_full_buffer_always_wakes_the_engine() {
    explore(|| {
        let engine = start(1);
        let mut streams = [open(&engine, 4, 1), open(&engine, 3, 2)];
        assert_eq!(streams.each_mut().map(read), [("abcd".into(), None), ("abc".into(), None)]);
        serves_the_next_and_forgets_the_others(&engine);
    });
}

#[test]
fn two_concurrent_readers_get_their_whole_texts() {
    explore(|| {
        let engine = start(2);
        let readers = [3, 4].map(|tokens| {
            let mut stream = open(&engine, tokens, 1);
            thread::spawn(move || read(&mut stream))
        });
        assert_eq!(readers.map(|reader| reader.join().unwrap()), [("abc".into(), None), ("abcd".into(), None)]);
        serves_the_next_and_forgets_the_others(&engine);
    });
}

#[test]
fn a_stream_whose_reader_leaves_in_any_phase_ends_once_and_frees_its_slot() {
    explore(|| {
        let engine = start(1);
        let leaving = open(&engine, 20, 3);
        let handle = leaving.handle();
        let left = thread::spawn(move || drop(leaving));
        assert_eq!(read(&mut open(&engine, 2, 1)), ("ab".into(), None));
        left.join().unwrap();
        assert_eq!((handle.finish_reason(), handle.buffered()), (Some(FinishReason::Cancelled), 0));
        serves_the_next_and_forgets_the_others(&engine);
    });
}

#[test]
fn a_cancelled_stream_ends_once_whether_it_is_queued_admitted_or_paused() {
    explore(|| {
        let engine = start(1);
        let mut ahead = open(&engine, 2, 1);
        let mut cancelled = open(&engine, 4, 2);
        let handle = cancelled.handle();
        let cancels = thread::spawn(move || handle.cancel());
        assert_eq!(read(&mut ahead), ("ab".into(), None));
        let (text, error) = read(&mut cancelled);
        assert!("abcd".starts_with(&text) && error.is_none());
        let whole = text == "abcd" && cancelled.finish_reason() == Some(FinishReason::Length);
        assert!(whole || cancelled.finish_reason() == Some(FinishReason::Cancelled));
        assert!(cancelled.next_blocking().is_none());
        cancels.join().unwrap();
        serves_the_next_and_forgets_the_others(&engine);
    });
}

#[test]
fn whoever_waits_for_the_end_of_a_stream_is_woken_in_any_phase() {
    explore(|| {
        let engine = start(1);
        let streams = [open(&engine, 9, 1), open(&engine, 2, 3)];
        let waiting = streams.each_ref().map(|stream| {
            let handle = stream.handle();
            thread::spawn(move || block_on(poll_fn(|cx| handle.poll_ended(cx))))
        });
        streams[0].cancel();
        assert_eq!(waiting.map(|wait| wait.join().unwrap()), [FinishReason::Cancelled, FinishReason::Length]);
    });
}

#[test]
fn closing_a_stream_wakes_its_reader_in_any_phase() {
    explore(|| {
        let engine = start(1);
        let _ahead = open(&engine, 9, 1);
        let mut closed = open(&engine, 9, 2);
        let handle = closed.handle();
        let reader = thread::spawn(move || {
            let got = read(&mut closed);
            assert!(closed.next_blocking().is_none());
            got
        });
        handle.close();
        let (text, error) = reader.join().unwrap();
        assert!("abcdefghi".starts_with(&text) && error.is_none());
        assert_eq!((handle.buffered(), engine.unfinished()), (0, 1));
    });
}

#[test]
fn a_stream_read_alternately_from_two_threads_loses_no_token() {
    explore(|| {
        let engine = start(1);
        let stream = Arc::new(Mutex::new((open(&engine, 5, 1), String::new())));
        let turn = |stream: Arc<Mutex<(TokenStream, String)>>| {
            move || loop {
                let mut stream = stream.lock().unwrap();
                let Some(item) = stream.0.next_blocking() else { return };
                stream.1.push_str(&item.unwrap().text);
            }
        };
        let other = thread::spawn(turn(Arc::clone(&stream)));
        turn(Arc::clone(&stream))();
        other.join().unwrap();
        assert_eq!(stream.lock().unwrap().1, "abcde");
        serves_the_next_and_forgets_the_others(&engine);
    });
}

#[test]
fn a_stream_that_changes_threads_after_a_poll_wakes_its_new_reader() {
    struct Ignores;
    impl Wake for Ignores {
        fn wake(self: Arc<Self>) {}
    }
    explore(|| {
        let engine = start(1);
        let mut stream = open(&engine, 3, 1);
        let waker = Waker::from(Arc::new(Ignores));
        let mut text = String::new();
        if let Poll::Ready(Some(item)) = stream.poll_token(&mut Context::from_waker(&waker)) {
            text.push_str(&item.unwrap().text);
        }
        let rest = thread::spawn(move || read(&mut stream)).join().unwrap();
        assert_eq!((text + &rest.0, rest.1), ("abc".into(), None));
    });
}

#[test]
fn an_event_loop_that_sleeps_on_its_notifier_is_woken_for_every_item() {
    explore(|| {
        let engine = start(2);
        let notifier = Arc::new(LoopNotifier::new().unwrap());
        let mut streams = [open(&engine, 3, 1), open(&engine, 2, 2)];
        let (mut texts, mut open) = ([String::new(), String::new()], 2);
        while open > 0 {
            for (key, stream) in streams.iter_mut().enumerate().filter(|(_, stream)| stream.finish_reason().is_none()) {
                let waker = notifier.handle(key as u64).into_waker();
                while let Poll::Ready(item) = stream.poll_token(&mut Context::from_waker(&waker)) {
                    let Some(item) = item else { break };
                    texts[key].push_str(&item.unwrap().text);
                }
                open -= usize::from(stream.finish_reason().is_some());
            }
            if open > 0 {
                assert!(notifier.wait());
                assert!(!notifier.drain().is_empty());
            }
        }
        assert_eq!(texts, ["abc", "ab"]);
    });
}

#[test]
fn a_stalled_stream_leaves_the_only_slot_and_queue_to_another_and_comes_back() {
    explore(|| {
        let engine = start_with(1, AdmissionLimits { active: 1, paused: 2 });
        let mut stalled = open(&engine, 3, 1);
        let opener = Arc::clone(&engine);
        let fresh = thread::spawn(move || {
            loop {
                // It is refused only until the other one is paused.
                match try_open(&opener, 2, 1) {
                    Ok(mut fresh) => return read(&mut fresh),
                    Err(error) => assert_eq!(error.code(), "OVERLOADED"),
                }
                thread::yield_now();
            }
        });
        assert_eq!(fresh.join().unwrap(), ("ab".into(), None));
        assert_eq!(read(&mut stalled), ("abc".into(), None));
        serves_the_next_and_forgets_the_others(&engine);
    });
}

#[test]
fn streams_that_pause_continue_and_end_at_once_are_counted_exactly() {
    explore(|| {
        let engine = start_with(1, AdmissionLimits { active: 3, paused: 3 });
        let mut streams = [open(&engine, 3, 1), open(&engine, 3, 1), open(&engine, 3, 1)];
        let [leaving, cancelled, read_on] = &mut streams;
        let (left, cancels) = (leaving.handle(), cancelled.handle());
        let leaves = thread::spawn(move || left.close());
        let stops = thread::spawn(move || cancels.cancel());
        assert_eq!(read(read_on), ("abc".into(), None));
        leaves.join().unwrap();
        stops.join().unwrap();
        drop(streams);
        serves_the_next_and_forgets_the_others(&engine);
    });
}

#[test]
fn a_stream_that_is_displaced_while_it_is_read_ends_once_and_is_counted_once() {
    explore(|| {
        let engine = start_with(1, AdmissionLimits { active: 1, paused: 1 });
        let mut paused = open(&engine, 3, 1);
        let opener = Arc::clone(&engine);
        let fresh = thread::spawn(move || {
            loop {
                // It is refused while the other one runs, and displaces it while it is paused.
                match opener.submit(vec![1].into(), config(2, 1), WhenFull::Displace) {
                    Ok(mut fresh) => return read(&mut fresh),
                    Err(error) => assert_eq!(error.code(), "OVERLOADED"),
                }
                thread::yield_now();
            }
        });
        let (text, error) = read(&mut paused);
        assert!("abc".starts_with(&text));
        assert_eq!(error, (text != "abc").then_some("OVERLOADED"));
        assert_eq!(fresh.join().unwrap(), ("ab".into(), None));
        serves_the_next_and_forgets_the_others(&engine);
    });
}

#[test]
fn an_engine_that_closes_in_any_phase_ends_every_stream_with_an_error() {
    explore(|| {
        let engine = start(1);
        let mut streams = [open(&engine, 9, 9), open(&engine, 9, 1), open(&engine, 9, 1)];
        let closing = Arc::clone(&engine);
        let closed = thread::spawn(move || closing.close());
        for stream in &mut streams[1..] {
            let (text, error) = read(stream);
            assert!("abcdefghi".starts_with(&text));
            assert!(if text == "abcdefghi" { error.is_none() } else { error == Some("CLOSED") });
        }
        closed.join().unwrap();
        assert!(streams[0].handle().finish_reason().is_none() || streams[0].buffered() == 0);
        read(&mut streams[0]);
        assert_eq!(engine.unfinished(), 0);
    });
}
