//! Lifetimes: closing, dropping and outliving, in any order, without a hang.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Barrier};
use std::thread;

use mullama::{Context, FinishReason, MullamaError, TokenStream};

use crate::support::{LIMIT, context, eventually, fresh_demo, greedy, params, read};

/// Runs on a separate thread, and fails if that does not end in time.
fn within_limit<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = sync_channel(1);
    thread::spawn(move || done.send(work()));
    wait.recv_timeout(LIMIT).expect("it ends in time, and without a panic")
}

fn endless(context: &Context) -> TokenStream {
    context.stream("Write a poem:", greedy(900).ignore_eos(true)).expect("opened")
}

#[test]
fn closing_the_model_ends_its_streams_with_closed_after_what_was_produced() {
    let context = context(params());
    let mut paused = context.stream("Count: 1, 2, 3", greedy(500).buffer_size(3)).unwrap();
    eventually("it is paused", || paused.buffered() == 3);
    let mut running = endless(&context);
    running.next_blocking().unwrap().unwrap();
    let model = Arc::clone(context.model());
    within_limit(move || model.close());
    let (text, error) = read(&mut paused);
    assert_eq!((text.as_str(), error.map(|error| error.code())), (", 4,", Some("CLOSED")));
    assert_eq!(paused.finish_reason(), Some(FinishReason::Error));
    assert!(matches!(read(&mut running).1, Some(MullamaError::Closed { what: "model" })));
    assert!(matches!(context.stream("a", greedy(1)), Err(MullamaError::Closed { what: "model" })));
    assert!(matches!(Context::new(Arc::clone(context.model()), params()), Err(MullamaError::Closed { what: "model" })));
    context.model().close();
}

#[test]
fn a_closed_context_refuses_calls_and_its_streams_continue() {
    let context = context(params());
    let mut stream = context.stream("Count: 1, 2, 3", greedy(10)).unwrap();
    context.close();
    context.close();
    assert!(matches!(context.stream("a", greedy(1)), Err(MullamaError::Closed { what: "context" })));
    assert!(matches!(context.unfinished(), Err(MullamaError::Closed { .. })));
    assert_eq!(read(&mut stream).0, ", 4, 5, 6, 7, 8");
}

#[test]
fn dropping_everything_in_the_middle_of_a_decode_returns_in_any_order() {
    for order in 0..6 {
        let model = fresh_demo();
        let context = Context::new(Arc::clone(&model), params()).unwrap();
        let long = context.stream("word ".repeat(900), greedy(50)).unwrap();
        let mut streams = vec![endless(&context), endless(&context), long];
        streams[0].next_blocking();
        within_limit(move || match order {
            0 => drop((streams, context, model)),
            1 => drop((model, context, streams)),
            2 => drop((context, model, streams)),
            3 => drop((context, streams, model)),
            4 => drop((model, streams, context)),
            _ => drop((streams, model, context)),
        });
    }
}

#[test]
fn a_stream_outlives_context_and_model() {
    let context = context(params());
    let mut stream = context.stream("Count: 1, 2, 3", greedy(10).buffer_size(1)).unwrap();
    stream.next_blocking().unwrap().unwrap();
    drop(context);
    assert_eq!(read(&mut stream).0, " 4, 5, 6, 7, 8");
}

#[test]
fn a_stream_opened_while_the_model_closes_is_refused_or_ends() {
    for _ in 0..25 {
        let context = Arc::new(context(params()));
        let begin = Arc::new(Barrier::new(3));
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let (context, begin) = (Arc::clone(&context), Arc::clone(&begin));
                thread::spawn(move || {
                    begin.wait();
                    let mut opened: Vec<_> =
                        (0..30).map_while(|_| context.stream(vec![1, 2], greedy(2)).ok()).collect();
                    for stream in &mut opened {
                        read(stream);
                    }
                })
            })
            .collect();
        begin.wait();
        context.model().close();
        within_limit(move || callers.into_iter().for_each(|caller| caller.join().unwrap()));
    }
}

#[test]
fn every_thread_may_read_cancel_or_drop_a_stream() {
    let context = context(params());
    let mut stream = endless(&context);
    let handle = stream.handle();
    let reader = thread::spawn(move || read(&mut stream).1.is_none());
    eventually("it is read", || handle.tokens_generated() > 3);
    handle.cancel();
    assert!(within_limit(move || reader.join().unwrap()));
    assert_eq!(handle.finish_reason(), Some(FinishReason::Cancelled));
    eventually("it is free", || context.unfinished().unwrap() == 0);
}
