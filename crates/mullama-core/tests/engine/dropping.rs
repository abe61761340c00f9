//! When a stream's sender is dropped, by any owner and at any time, the reader gets an error at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use mullama::testing::{ScriptedTokenizer, Stage, always};
use mullama::{FinishReason, TokenStream};

use crate::support::{Got, PROMPT, STEP, alone, config, hashed, pool, prompt, slots, stage, steps, take};

const LIMIT: Duration = Duration::from_mins(1);

/// A stream in one phase of its life.
struct Phase {
    name: &'static str,
    stage: Stage,
    stream: TokenStream,
    prompt_len: usize,
    /// The action that is run while the stream is queued.
    ahead: Option<TokenStream>,
}

impl Phase {
    /// A stream after this many steps, behind another one if it is to be queued.
    fn new(name: &'static str, queued: bool, prompt_len: usize, count: usize) -> Self {
        let mut stage = stage(slots(1));
        let open =
            |stage: &Stage, len, seed| stage.open(&prompt(len, seed), config(500).buffer_size(4)).expect("opened");
        let ahead = queued.then(|| open(&stage, 5, 1));
        steps(&mut stage, usize::from(queued));
        let stream = open(&stage, prompt_len, 0);
        steps(&mut stage, count);
        Self { name, stage, stream, prompt_len, ahead }
    }
}

/// What a waiting reader gets after `end` has run.
fn waiting_reader_gets(mut stream: TokenStream, end: impl FnOnce()) -> (Got, TokenStream) {
    let (results, received) = sync_channel(1);
    let mut got = take(&mut stream);
    thread::spawn(move || {
        while !got.over {
            match stream.next_blocking() {
                Some(Ok(token)) => got.tokens.push(token),
                Some(Err(error)) => (got.error, got.over) = (Some(error), true),
                None => got.over = true,
            }
        }
        // The receiver is gone if the test has failed.
        let _ = results.send((got, stream));
    });
    end();
    received.recv_timeout(LIMIT).expect("the reader is woken")
}

fn failed_after_its_text(phase: &str, got: &Got, stream: &TokenStream, len: usize) {
    assert_eq!((phase, got.code()), (phase, Some("GENERATION_ERROR")));
    assert!(alone(&prompt(len, 0), 20).starts_with(&got.text()), "{phase}: {:?}", got.text());
    assert_eq!((stream.finish_reason(), stream.buffered()), (Some(FinishReason::Error), 0), "{phase}");
}

#[test]
fn dropping_an_engine_in_every_phase_ends_every_stream_with_an_error() {
    let phases = [
        Phase::new("in the inbox", true, 5, 0),
        Phase::new("queued", true, 5, 2),
        Phase::new("in prefill", false, 900, 1),
        Phase::new("in decode", false, 5, 3),
        Phase::new("paused", false, 5, 9),
    ];
    for Phase { name, stage, stream, prompt_len, ahead } in phases {
        let (got, stream) = waiting_reader_gets(stream, || drop(stage));
        failed_after_its_text(name, &got, &stream, prompt_len);
        if let Some(mut ahead) = ahead {
            assert_eq!(take(&mut ahead).code(), Some("GENERATION_ERROR"), "beside one that is {name}");
        }
    }
}

#[test]
fn dropping_an_engine_ends_a_preempted_stream_with_an_error() {
    let mut stage = stage(pool(2, 64, 8));
    let stream = stage.open(&prompt(20, 0), config(30).buffer_size(1)).unwrap();
    stage.settle();
    let _needs_its_cells = stage.open(&prompt(60, 1), config(2)).unwrap();
    steps(&mut stage, 4);
    assert_eq!(stage.stats().preemptions, 1);
    let (got, stream) = waiting_reader_gets(stream, || drop(stage));
    failed_after_its_text("preempted", &got, &stream, 20);
}

#[test]
fn dropping_an_engine_ends_a_stream_whose_prompt_is_being_tokenized_with_an_error() {
    let (entered, left) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (enters, leaves) = (Arc::clone(&entered), Arc::clone(&left));
    let tokenizer = ScriptedTokenizer::new(move |_, _| {
        enters.wait();
        leaves.wait();
        vec![1]
    });
    let stage = Stage::with_vocabulary(slots(1), hashed(), |_| STEP, Arc::new(tokenizer));
    let stream = stage.submit("a text", config(9)).unwrap();
    entered.wait();
    let (got, stream) = waiting_reader_gets(stream, || drop(stage));
    assert_eq!((got.text().as_str(), got.code()), ("", Some("GENERATION_ERROR")));
    assert_eq!(stream.finish_reason(), Some(FinishReason::Error));
    left.wait();
}

#[test]
fn an_engine_that_is_dropped_after_a_panic_ends_its_streams_with_an_error() {
    let logits = always(|tokens| if tokens.len() < 4 { 97 } else { panic!("a panic of this test") });
    let mut stage = Stage::new(slots(1), logits, |_| STEP);
    let stream = stage.open(PROMPT, config(9)).unwrap();
    let queued = stage.open(PROMPT, config(9)).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| steps(&mut stage, 9))).is_err());
    let (got, _) = waiting_reader_gets(stream, || drop(stage));
    assert_eq!((got.text().as_str(), got.code()), ("aaa", Some("GENERATION_ERROR")));
    let (got, _) = waiting_reader_gets(queued, || {});
    assert_eq!((got.text().as_str(), got.code()), ("", Some("GENERATION_ERROR")));
}
