//! Concurrent streams: equal params share one engine, all streams share one batch, and no reader slows another down.

use std::sync::Arc;
#[cfg(target_os = "linux")]
use std::thread;

#[cfg(target_os = "linux")]
use mullama::testing::beside_busy_threads;
use mullama::{Completion, Context, ContextParams, FinishReason, MullamaError, Token, TokenId, TokenStream};

use crate::support::{context, eventually, fresh_demo, greedy, params, read};

/// Prompts with unambiguous greedy answers: the second most likely token is at least 20 times less likely, so that a
/// change in the last bits of the logits, which depend on the shape of the batch, changes no token.
fn counting(n: u32) -> String {
    format!("Count: {n}, {}, {}", n + 1, n + 2)
}

#[test]
fn eight_concurrent_streams_give_the_same_texts_as_alone() {
    let context = context(params());
    let alone: Vec<String> = (1..9).map(|n| context.generate(counting(n), greedy(50)).unwrap().text).collect();
    let mut streams: Vec<TokenStream> = (1..9).map(|n| context.stream(counting(n), greedy(50)).unwrap()).collect();
    let together: Vec<String> = streams.iter_mut().map(|stream| read(stream).0).collect();
    assert_eq!(together, alone);
}

/// How far the shape of the batch may move a log-probability: up to 0.02 was measured with this model in 16 bits.
const ROUNDING: f32 = 0.1;

/// Compares up to the first token where two were about equally likely; any other difference is an error.
fn same_but_for_ties(alone: &Completion, together: &Completion) {
    for (one, other) in alone.tokens.iter().zip(&together.tokens) {
        let doubt = |token: &Token| token.top_logprobs[0].1 - token.top_logprobs[1].1;
        if one.id != other.id {
            assert!(doubt(one) < ROUNDING && doubt(other) < ROUNDING, "{one:?} alone, {other:?} with others");
            return;
        }
        if let (Some(one), Some(other)) = (one.logprob, other.logprob) {
            assert!((one - other).abs() < ROUNDING, "{one} alone, {other} with others");
        }
    }
    assert_eq!(alone.text, together.text);
}

#[test]
fn concurrent_streams_change_only_the_last_bits_of_a_probability() {
    let context = context(params());
    let prompts =
        ["Write a poem:", "Once upon a time", "Tell me about Rust:", "Emoji:", "{\"name\":", "Привет", "The moon"];
    let config = || greedy(50).logprobs(2);
    let alone: Vec<Completion> = prompts.iter().map(|prompt| context.generate(*prompt, config()).unwrap()).collect();
    let streams: Vec<TokenStream> = prompts.iter().map(|prompt| context.stream(*prompt, config()).unwrap()).collect();
    for (alone, stream) in alone.iter().zip(streams) {
        same_but_for_ties(alone, &stream.into_completion().unwrap());
    }
}

#[test]
fn streams_that_compete_for_few_cells_give_the_same_texts_as_alone() {
    let large_pool = context(params());
    let tight = context(ContextParams { n_ctx: Some(64), kv_cells: Some(150), n_parallel: 4, ..params() });
    let open = |n| tight.stream(counting(n), greedy(40).buffer_size(8)).unwrap();
    let mut streams: Vec<TokenStream> = (1..9).map(open).collect();
    for (n, stream) in (1..9).zip(&mut streams) {
        let (text, error) = read(stream);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(text, large_pool.generate(counting(n), greedy(40)).unwrap().text);
    }
    assert_eq!(tight.unfinished().unwrap(), 0);
}

#[test]
fn contexts_of_equal_params_share_an_engine_and_others_do_not() {
    let model = fresh_demo();
    let one = Context::new(Arc::clone(&model), params()).unwrap();
    let same = Context::new(Arc::clone(&model), ContextParams { n_ctx: Some(1_024), ..params() }).unwrap();
    let other = Context::new(Arc::clone(&model), ContextParams { n_parallel: 2, ..params() }).unwrap();
    let stream = one.stream("Write a poem:", greedy(500).buffer_size(1)).unwrap();
    assert_eq!([&one, &same, &other].map(|context| context.unfinished().unwrap()), [1, 1, 0]);
    drop(stream);
    eventually("the engine is free", || same.unfinished().unwrap() == 0);
}

#[test]
fn a_new_context_finds_the_engine_that_was_used_last() {
    let model = fresh_demo();
    let first = Context::new(Arc::clone(&model), params()).unwrap();
    let stream = first.stream("Write a poem:", greedy(500).buffer_size(1)).unwrap();
    drop(first);
    let second = Context::new(Arc::clone(&model), params()).unwrap();
    assert_eq!(second.unfinished().unwrap(), 1, "the open stream of the first is counted");
    drop(stream);
}

#[test]
fn at_most_buffer_size_tokens_are_computed_ahead_of_a_sleeping_reader() {
    let context = context(params());
    for buffer in [1, 2, 16] {
        let sleeper = context.stream("Write a poem:", greedy(400).ignore_eos(true).buffer_size(buffer)).unwrap();
        eventually("the buffer is full", || sleeper.buffered() == buffer as usize);
        let beside = context.generate("Count: 1, 2, 3", greedy(60)).unwrap();
        assert_eq!(beside.usage.completion_tokens, 60);
        assert_eq!((sleeper.buffered(), sleeper.usage().completion_tokens), (buffer as usize, buffer as usize));
    }
}

#[test]
fn a_stream_runs_beside_twenty_stalled_readers_on_eight_slots() {
    let context = context(params());
    let stall = |n| context.stream(counting(n), greedy(60).buffer_size(3)).unwrap();
    let mut stalled: Vec<TokenStream> = (0..20).map(stall).collect();
    let done = context.generate("Count: 1, 2, 3", greedy(100)).unwrap();
    assert_eq!(done.finish_reason, FinishReason::Length);
    eventually("all of the twenty had their turn", || stalled.iter().all(|stream| stream.buffered() == 3));
    assert_eq!(context.unfinished().unwrap(), 20);
    let woken = read(&mut stalled[13]).0;
    assert_eq!(woken, context.generate(counting(13), greedy(60)).unwrap().text);
}

#[test]
fn as_many_stalled_readers_as_may_run_or_wait_keep_no_fresh_stream_out() {
    let context = context(ContextParams { n_parallel: 2, max_queue: 2, max_paused: 12, ..params() });
    let mut stalled: Vec<TokenStream> = Vec::new();
    for n in 0..12 {
        stalled.push(context.stream(counting(n), greedy(60).buffer_size(3)).expect("accepted"));
        eventually("it is paused", || context.stats().unwrap().paused == stalled.len());
        if n < 11 {
            let fresh = context.generate(counting(n), greedy(100)).expect("the stalled ones keep nobody out");
            assert_eq!(fresh.finish_reason, FinishReason::Length);
        }
    }
    let refused = context.stream("A", greedy(1)).expect_err("twelve are paused");
    assert!(matches!(refused, MullamaError::PausedOverloaded { paused: 12, active: 0, limit: 12 }), "{refused}");
    let woken: Vec<String> = stalled.iter_mut().map(|stream| read(stream).0).collect();
    for (n, text) in (0..12).zip(woken) {
        assert_eq!(text, context.generate(counting(n), greedy(60)).unwrap().text);
    }
}

#[test]
fn of_thirty_two_calls_eight_slots_and_a_queue_of_sixteen_accept_twenty_four() {
    let context = context(ContextParams { max_queue: 16, ..params() });
    let calls: Vec<_> =
        (0..32).map(|n| context.stream(format!("Count: {n}"), greedy(300).ignore_eos(true).buffer_size(300))).collect();
    let (run, refused): (Vec<_>, Vec<_>) = calls.into_iter().partition(Result::is_ok);
    assert_eq!((run.len(), refused.len()), (24, 8));
    assert!(refused.iter().all(|call| matches!(call, Err(MullamaError::Overloaded { unfinished: 24, limit: 24 }))));
    for mut stream in run.into_iter().map(Result::unwrap) {
        assert_eq!((read(&mut stream).1.is_none(), stream.usage().completion_tokens), (true, 300));
    }
}

#[test]
fn leaving_in_any_phase_frees_the_slot() {
    let context = context(ContextParams { n_parallel: 1, ..params() });
    let long = "word ".repeat(700);
    let run = |prompt: &str| context.stream(prompt, greedy(300).ignore_eos(true).buffer_size(2)).unwrap();
    for way in [TokenStream::cancel as fn(&TokenStream), |stream| stream.handle().close(), |_| ()] {
        let paused = run("Write a poem:");
        eventually("it is paused", || paused.buffered() == 2);
        let prefill = run(&long);
        let queued = run("Once upon a time");
        for stream in [queued, prefill, paused] {
            way(&stream);
            drop(stream);
        }
        let next = context.generate("Count: 1, 2, 3", greedy(10)).unwrap();
        assert_eq!(next.text, ", 4, 5, 6, 7, 8");
        eventually("nothing is left", || context.unfinished().unwrap() == 0);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn with_busy_cores_streams_use_fewer_threads_and_lose_no_token() {
    let expected = context(params()).generate(counting(1), greedy(50)).unwrap().text;
    let context = context(ContextParams { n_threads: None, ..params() });
    let threads = u32::try_from(mullama::usable_cores()).unwrap();
    beside_busy_threads(2 * thread::available_parallelism().unwrap().get(), || {
        eventually("a thread is left out", || {
            assert_eq!(context.generate(counting(1), greedy(50)).unwrap().text, expected);
            threads == 1 || context.stats().unwrap().threads < threads
        });
    });
}

#[test]
fn there_are_never_more_threads_than_usable_cores() {
    let params = ContextParams { n_threads: Some(512), n_threads_batch: Some(300), ..params() };
    let context = context(params);
    context.generate(counting(1), greedy(50)).unwrap();
    let threads = context.stats().unwrap().threads as usize;
    assert!((1..=mullama::usable_cores()).contains(&threads), "{threads}");
}

/// Tokens of a long conversation; those of two seeds have nothing in common.
fn conversation(tokens: i32, seed: i32) -> Vec<TokenId> {
    (0..tokens).map(|at| 100 + (at * 7 + seed * 31) % 190).collect()
}

#[test]
fn a_conversation_offloaded_in_parts_is_restored_and_continues_unchanged() {
    let context = context(ContextParams { n_ctx: Some(512), ..params() });
    let config = || greedy(30).logprobs(2);
    let cold = context.generate(conversation(300, 0), config()).unwrap();
    context.generate(conversation(450, 1), config()).unwrap();
    let stats = context.stats().unwrap();
    assert!(stats.offloads >= 2 && stats.prefix_bytes > 0, "{stats:?}");
    let warm = context.generate(conversation(300, 0), config()).unwrap();
    assert_eq!((warm.usage.cached_tokens, context.stats().unwrap().restores), (299, 1));
    same_but_for_ties(&cold, &warm);
}
