//! An idle process uses no CPU time: with all readers paused, neither the engine's thread nor llama.cpp's threads run.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use mullama::{Context, ContextParams, TokenStream};

use crate::support::{alone, demo, eventually, greedy, threads_named, ticks_of_others, tokenizer_threads};

/// The length of the observation. Spinning threads would use 70 ticks each.
const WINDOW: Duration = Duration::from_millis(700);

/// CPU time that all other threads use while this one sleeps, in ticks of 10 ms.
fn used_in_window() -> (u64, Vec<(String, u64)>) {
    let sum = |ticks: &[(String, u64)]| ticks.iter().map(|(_, ticks)| ticks).sum::<u64>();
    let before = ticks_of_others();
    thread::sleep(WINDOW);
    let after = ticks_of_others();
    (sum(&after).saturating_sub(sum(&before)), after)
}

/// Number of threads of engines, and of those that compute for them, which inherit their name.
fn engine_threads() -> usize {
    threads_named("mullama-engine")
}

fn two_threads() -> ContextParams {
    ContextParams { n_threads: Some(2), ..ContextParams::default() }
}

#[test]
fn with_all_readers_paused_no_thread_uses_cpu_and_one_read_wakes_the_engine() {
    let _alone = alone();
    let context = Context::new(demo(), two_threads()).unwrap();
    let open = |n| context.stream(format!("Count: {n}"), greedy(500).buffer_size(3)).unwrap();
    let mut streams: Vec<TokenStream> = (0..12).map(open).collect();
    for _ in 0..3 {
        eventually("all are paused", || streams.iter().all(|stream| stream.buffered() == 3));
        let (used, threads) = used_in_window();
        assert!(used <= 3, "{used} ticks were used by {threads:?}");
        streams[7].next_blocking().unwrap().unwrap();
    }
}

#[test]
fn an_engine_without_streams_uses_no_cpu() {
    let _alone = alone();
    let model = demo();
    let context = Context::new(Arc::clone(&model), two_threads()).unwrap();
    context.generate("Write a poem:", greedy(30)).unwrap();
    let (used, threads) = used_in_window();
    assert!(used <= 3, "{used} ticks were used by {threads:?}");
    assert!(!context.generate("Write a poem:", greedy(30)).unwrap().text.is_empty(), "and it wakes");
}

#[test]
fn a_stream_between_two_delayed_tokens_uses_no_cpu() {
    let _alone = alone();
    let context = Context::new(demo(), two_threads()).unwrap();
    let mut stream = context.stream("Write a poem:", greedy(30).stream_delay_ms(3_600_000)).unwrap();
    stream.next_blocking().unwrap().unwrap();
    let (used, threads) = used_in_window();
    assert!(used <= 3, "{used} ticks were used by {threads:?}");
}

#[test]
fn the_threads_of_an_engine_end_with_its_last_user() {
    let _alone = alone();
    eventually("those of other tests are gone", || engine_threads() == 0);
    let model = demo();
    let context = Context::new(Arc::clone(&model), two_threads()).unwrap();
    let mut stream = context.stream("Write a poem:", greedy(500)).unwrap();
    stream.next_blocking().unwrap().unwrap();
    assert!((1..=4).contains(&tokenizer_threads()), "a lane tokenized the prompt");
    assert!(engine_threads() > 0);
    drop((context, model));
    // The number is not checked, because the engine uses fewer threads on busy cores.
    assert!(engine_threads() > 0, "the stream keeps its engine");
    drop(stream);
    eventually("all threads are gone", || engine_threads() == 0);
}

#[test]
fn a_model_keeps_the_engine_that_was_used_last_and_no_other() {
    let _alone = alone();
    eventually("those of other tests are gone", || engine_threads() == 0);
    let model = demo();
    let params = |n_parallel| ContextParams { n_parallel, n_threads: Some(1), ..ContextParams::default() };
    drop(Context::new(Arc::clone(&model), params(1)).unwrap());
    assert_eq!(engine_threads(), 1, "the engine stays loaded for the next request");
    drop(Context::new(Arc::clone(&model), params(2)).unwrap());
    eventually("the first engine has ended", || engine_threads() == 1);
    drop(model);
    eventually("all are gone", || engine_threads() == 0);
}
