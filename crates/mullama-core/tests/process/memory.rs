//! Memory is bounded: contexts and streams leave nothing behind when they end.

use std::collections::VecDeque;
use std::sync::Arc;

use mullama::{Context, ContextParams, Prompt};

use crate::support::{alone, demo, eventually, greedy, resident_kib, tokenizer_threads};

/// How much memory may grow over many rounds of the same work: allocators keep some of what they freed.
const SLACK_KIB: u64 = 12 * 1024;

/// The threads on which a process tokenizes prompts: two for short ones, and one for each other lane.
const MOST_TOKENIZERS: usize = 4;

fn params() -> ContextParams {
    ContextParams { n_threads: Some(1), ..ContextParams::default() }
}

/// Runs the work `warm` times, then `rounds` times; returns by how many KiB the process grew during the latter.
fn growth(warm: usize, rounds: usize, mut work: impl FnMut(usize)) -> u64 {
    (0..warm).for_each(&mut work);
    let before = resident_kib();
    (0..rounds).for_each(&mut work);
    resident_kib().saturating_sub(before)
}

#[test]
fn a_context_for_every_request_costs_no_new_memory() {
    let _alone = alone();
    let model = demo();
    let kept = Context::new(Arc::clone(&model), params()).unwrap();
    kept.generate("Count: 1, 2, 3", greedy(20)).unwrap();
    let mut open = Vec::new();
    let grown = growth(10, 200, |_| {
        let context = Context::new(Arc::clone(&model), params()).unwrap();
        assert_eq!(context.generate("Count: 1, 2, 3", greedy(6)).unwrap().text, ", 4, 5, 6");
        open.push(context);
    });
    assert!(grown < SLACK_KIB, "200 open contexts grew the process by {grown} KiB");
}

#[test]
fn a_context_for_every_request_with_nothing_between_them_costs_no_new_memory() {
    let _alone = alone();
    let model = demo();
    let grown = growth(10, 200, |_| {
        Context::new(Arc::clone(&model), params()).unwrap().generate("Count: 1, 2, 3", greedy(3)).unwrap();
    });
    assert!(grown < SLACK_KIB, "200 contexts, one after the other, grew the process by {grown} KiB");
}

#[test]
fn engines_of_different_params_free_their_memory_when_they_end() {
    let _alone = alone();
    let model = demo();
    let grown = growth(6, 60, |n| {
        let n_parallel = 1 + u32::try_from(n % 3).expect("small");
        let context = Context::new(Arc::clone(&model), ContextParams { n_parallel, ..params() }).unwrap();
        context.generate("Count: 1, 2, 3", greedy(3)).unwrap();
    });
    assert!(grown < 2 * SLACK_KIB, "60 engines grew the process by {grown} KiB");
}

#[test]
fn models_free_their_memory_when_they_are_dropped() {
    let _alone = alone();
    let grown = growth(3, 30, |_| {
        Context::new(demo(), params()).unwrap().generate("Count: 1, 2, 3", greedy(3)).unwrap();
    });
    assert!(grown < 2 * SLACK_KIB, "30 models grew the process by {grown} KiB");
}

#[test]
fn ten_thousand_opened_and_abandoned_streams_leave_memory_flat() {
    let _alone = alone();
    let context = Context::new(demo(), params()).unwrap();
    let tokens = context.model().tokenize(&"Once upon a time there was a fox. ".repeat(8)).unwrap();
    let grown = growth(2_000, 10_000, |n| {
        // Every fiftieth prompt is text, which takes a thread to tokenize.
        let prompt: Prompt = if n % 50 == 0 { "Write a poem:".into() } else { tokens[..=n % tokens.len()].into() };
        let mut stream = context.stream(prompt, greedy(100).buffer_size(4)).unwrap();
        if n % 20 == 0 {
            stream.next_blocking().unwrap().unwrap();
        }
    });
    eventually("nothing is left", || context.unfinished().unwrap() == 0);
    assert!(grown < SLACK_KIB, "10,000 streams grew the process by {grown} KiB");
    assert_eq!(context.generate("Count: 1, 2, 3", greedy(6)).unwrap().text, ", 4, 5, 6");
}

#[test]
fn two_hundred_thousand_opened_and_abandoned_streams_leave_memory_flat() {
    let _alone = alone();
    let context = Context::new(demo(), params()).unwrap();
    let grown = growth(20_000, 200_000, |n| {
        let mut stream = context.stream(vec![1, 2, 3 + i32::try_from(n % 100).expect("small")], greedy(9)).unwrap();
        if n % 1_000 == 0 {
            stream.next_blocking().unwrap().unwrap();
        }
    });
    eventually("nothing is left", || context.unfinished().unwrap() == 0);
    assert!(grown < SLACK_KIB, "200,000 streams grew the process by {grown} KiB");
    assert_eq!(context.generate("Count: 1, 2, 3", greedy(6)).unwrap().text, ", 4, 5, 6");
}

#[test]
fn prompts_of_abandoned_streams_do_not_accumulate_threads() {
    let _alone = alone();
    let context = Context::new(demo(), params()).unwrap();
    let long = "Once upon a time there was a fox. ".repeat(6_000);
    let (mut most, mut refused, mut recent) = (0, 0, VecDeque::new());
    for _ in 0..300 {
        match context.stream(&long, greedy(1)) {
            Ok(stream) => recent.push_back(stream),
            Err(error) => {
                assert_eq!(error.code(), "OVERLOADED");
                refused += 1;
            }
        }
        if recent.len() > 60 {
            // Its tokenizer has started, but the result is not needed any more.
            drop(recent.pop_front());
        }
        most = most.max(tokenizer_threads());
    }
    drop(recent);
    assert!(refused < 300);
    assert!((1..=MOST_TOKENIZERS).contains(&most), "{most} threads tokenized at once");
    eventually("all prompts are through", || tokenizer_threads() == 0);
}
