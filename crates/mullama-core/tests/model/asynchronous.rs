//! Async readers on any executor: they get the same streams, and dropping one in any way frees its compute.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use mullama::{AsyncModel, Context, FinishReason, MullamaError, StreamConfig};

use crate::support::{CERTAIN, LIMIT, demo_path, eventually, greedy, params};

/// Runs the same test on a single-threaded and on a multi-threaded runtime.
fn on_both_runtimes<F: Future<Output = ()>>(test: impl Fn() -> F) {
    let one = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    one.block_on(async { tokio::time::timeout(LIMIT, test()).await.expect("in time") });
    let many = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    many.block_on(async { tokio::time::timeout(LIMIT, test()).await.expect("in time") });
}

async fn load() -> AsyncModel {
    AsyncModel::load_with(demo_path(), params()).await.expect("loaded")
}

/// Counts the streams of the model's engine.
fn watch(model: &AsyncModel) -> Context {
    Context::new(Arc::clone(model.model()), params()).expect("a context")
}

fn endless() -> StreamConfig {
    greedy(900).ignore_eos(true)
}

#[test]
fn an_async_stream_gives_the_text_of_generate() {
    on_both_runtimes(|| async {
        let model = load().await;
        let whole = model.generate(CERTAIN[4], greedy(40)).await.unwrap();
        let mut stream = model.generate_stream(CERTAIN[4], greedy(40).buffer_size(1)).await.unwrap();
        let mut text = String::new();
        while let Some(token) = stream.next().await {
            text.push_str(&token.unwrap().text);
        }
        assert_eq!((&text, stream.finish_reason()), (&whole.text, Some(FinishReason::Length)));
        assert!(stream.next().await.is_none() && stream.next().await.is_none());
        assert_eq!((stream.tokens_generated(), whole.tokens.len()), (40, 40));
    });
}

#[test]
fn eight_tasks_stream_concurrently() {
    on_both_runtimes(|| async {
        let model = Arc::new(load().await);
        let alone = model.generate("Count: 1, 2, 3", greedy(40)).await.unwrap().text;
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let model = Arc::clone(&model);
                tokio::spawn(
                    async move { model.generate("Count: 1, 2, 3", greedy(40).buffer_size(2)).await.unwrap().text },
                )
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), alone);
        }
    });
}

#[test]
fn a_timeout_around_a_read_frees_the_stream_when_it_is_dropped() {
    on_both_runtimes(|| async {
        let model = load().await;
        let engine = watch(&model);
        let mut stream = model.generate_stream("Write a poem:", endless().stream_delay_ms(3_600_000)).await.unwrap();
        stream.next().await.unwrap().unwrap();
        let next = tokio::time::timeout(Duration::from_millis(20), async move {
            // The task has the stream; the second token would take an hour.
            stream.next().await
        });
        assert!(next.await.is_err());
        eventually("the stream is free", || engine.unfinished().unwrap() == 0);
    });
}

#[test]
fn a_read_dropped_by_select_loses_no_token() {
    on_both_runtimes(|| async {
        let model = load().await;
        let whole = model.generate(CERTAIN[2], greedy(60)).await.unwrap().text;
        let mut stream = model.generate_stream(CERTAIN[2], greedy(60).buffer_size(1)).await.unwrap();
        let mut text = String::new();
        loop {
            tokio::select! {
                biased;
                () = tokio::task::yield_now() => {}
                token = stream.next() => match token {
                    Some(token) => text.push_str(&token.unwrap().text),
                    None => break,
                },
            }
        }
        assert_eq!(text, whole);
    });
}

#[test]
fn a_task_that_is_aborted_frees_its_stream() {
    on_both_runtimes(|| async {
        let model = load().await;
        let engine = watch(&model);
        let mut stream = model.generate_stream("Write a poem:", endless()).await.unwrap();
        stream.next().await.unwrap().unwrap();
        let task = tokio::spawn(async move { while stream.next().await.is_some() {} });
        task.abort();
        task.await.ok();
        eventually("the stream is free", || engine.unfinished().unwrap() == 0);
    });
}

#[test]
fn a_stream_that_waits_is_woken_by_a_cancel_from_another_thread() {
    on_both_runtimes(|| async {
        let model = load().await;
        let delayed = endless().stream_delay_ms(3_600_000);
        let mut stream = model.generate_stream("Write a poem:", delayed).await.unwrap();
        stream.next_blocking().unwrap().unwrap();
        let handle = stream.handle();
        let reader = tokio::task::spawn_blocking(move || stream.next_blocking().is_none());
        handle.cancel();
        assert!(reader.await.unwrap());
        assert_eq!(handle.finish_reason(), Some(FinishReason::Cancelled));
    });
}

#[test]
fn errors_come_from_the_call_or_the_first_read_as_in_the_blocking_api() {
    on_both_runtimes(|| async {
        let missing = AsyncModel::load("/no/such/model.gguf").await;
        assert!(matches!(missing, Err(MullamaError::ModelNotFound { .. })));
        let model = load().await;
        let call = model.generate_stream("a", StreamConfig::new().temperature(-1.0)).await;
        assert!(matches!(call, Err(MullamaError::InvalidConfig { field: "temperature", .. })));
        let mut stream = model.generate_stream(vec![], greedy(3)).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap_err().code(), "INVALID_PROMPT");
        assert!(stream.next().await.is_none());
        model.close();
        assert_eq!(model.generate("a", greedy(1)).await.unwrap_err().code(), "CLOSED");
    });
}

#[test]
fn dropping_the_future_of_a_whole_answer_frees_the_engine() {
    on_both_runtimes(|| async {
        let model = load().await;
        let engine = watch(&model);
        let answer = model.generate("Write a poem:", endless().stream_delay_ms(3_600_000));
        assert!(tokio::time::timeout(Duration::from_millis(20), answer).await.is_err());
        eventually("the stream is free", || engine.unfinished().unwrap() == 0);
    });
}
