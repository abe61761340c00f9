use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::http::StatusCode;
use futures_util::future::join_all;
use mullama::StreamConfig;
use tokio::time::Instant;

use super::{LoadOptions, Loaded, ModelSource, ModelSpec, Models, WAIT_FOR_ROOM};
use crate::error::ApiError;
use crate::stop::{Phase, Stop};

const LIMIT: Duration = Duration::from_mins(1);

fn demo() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/mullama/models/demo.gguf").into()
}

fn models_at(names: &[&str], path: &Path, options: LoadOptions) -> Models {
    let spec = |name: &&str| ModelSpec { name: (*name).to_owned(), source: ModelSource::File(path.to_owned()) };
    Models::new(names.iter().map(spec).collect(), options, None, Stop::new())
}

fn models(names: &[&str], options: LoadOptions) -> Models {
    models_at(names, &demo(), options)
}

async fn acquire(models: &Models, name: &str) -> Result<Arc<Loaded>, ApiError> {
    let defaults = StreamConfig::new();
    tokio::time::timeout(LIMIT, models.acquire(Some(name), &defaults)).await.expect("it ends")
}

fn in_memory(models: &Models) -> Vec<String> {
    models.resident().iter().map(|resident| resident.loaded.name().to_owned()).collect()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, wait).await.is_ok(), "{what}");
}

#[tokio::test]
async fn twenty_requests_at_once_load_a_model_once() {
    let models = models(&["a"], LoadOptions::default());
    let acquired: Vec<_> = join_all((0..20).map(|_| acquire(&models, "a:latest"))).await;
    let first = acquired[0].as_ref().expect("it loads").context().model();
    for loaded in &acquired {
        assert!(Arc::ptr_eq(loaded.as_ref().expect("it loads").context().model(), first));
    }
}

#[tokio::test]
async fn a_load_goes_on_when_the_client_that_started_it_leaves() {
    let models = models(&["a"], LoadOptions::default());
    let defaults = StreamConfig::new();
    let mut leaving = Box::pin(models.acquire(None, &defaults));
    let polled = poll_fn(|cx| Poll::Ready(leaving.as_mut().poll(cx))).await;
    assert!(polled.is_pending());
    drop(leaving);
    until("the model is in memory", || in_memory(&models) == ["a"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_load_that_failed_rests_and_is_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    let models = models_at(&["a"], &path, LoadOptions::default());
    let error = acquire(&models, "a").await.expect_err("there is no file");
    assert_eq!((error.status, error.code), (StatusCode::NOT_FOUND, "MODEL_NOT_FOUND"));
    std::fs::copy(demo(), &path).expect("a copy");
    let error = acquire(&models, "a").await.expect_err("it rests");
    assert!(error.retry_after.is_some());
    tokio::time::advance(Duration::from_secs(error.retry_after.unwrap_or_default())).await;
    acquire(&models, "a").await.expect("it is tried again");
}

#[tokio::test]
async fn what_the_file_lacks_is_not_the_clients_fault() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, "no model").expect("a file");
    let models = models_at(&["a"], &path, LoadOptions::default());
    let error = acquire(&models, "a").await.expect_err("the file is not a model");
    assert_eq!((error.status, error.code), (StatusCode::INTERNAL_SERVER_ERROR, "MODEL_LOAD"));
    assert!(!error.message.contains("gguf"), "{}", error.message);
}

#[tokio::test]
async fn the_model_that_was_used_least_recently_makes_room() {
    let models = models(&["a", "b", "c"], LoadOptions { max_loaded: 2, ..LoadOptions::default() });
    for name in ["a", "b", "a", "c"] {
        drop(acquire(&models, name).await.expect("there is room"));
    }
    assert_eq!(in_memory(&models), ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_model_in_use_stays_until_its_last_request_has_ended() {
    let models = models(&["a", "b"], LoadOptions { max_loaded: 1, ..LoadOptions::default() });
    let used = acquire(&models, "a").await.expect("there is room");
    let defaults = StreamConfig::new();
    let mut waiting = std::pin::pin!(models.acquire(Some("b"), &defaults));
    let early = tokio::time::timeout(WAIT_FOR_ROOM / 2, waiting.as_mut()).await;
    assert!(early.is_err(), "it waits for room");
    assert_eq!(in_memory(&models), ["a"]);
    drop(used);
    let acquired = tokio::time::timeout(LIMIT, waiting).await.expect("there is room").expect("it loads");
    assert_eq!((acquired.name(), in_memory(&models)), ("b", vec!["b".to_owned()]));
}

/// Requests for `a` follow each other so closely that it is never idle.
#[tokio::test]
async fn requests_for_a_busy_model_do_not_keep_the_others_waiting_for_ever() {
    let models = models(&["a", "b"], LoadOptions { max_loaded: 1, ..LoadOptions::default() });
    let first = acquire(&models, "a").await.expect("there is room");
    let second = acquire(&models, "a").await.expect("it is in memory");
    let defaults = StreamConfig::new();
    let mut other = Box::pin(models.acquire(Some("b"), &defaults));
    let mut third = Box::pin(models.acquire(Some("a"), &defaults));
    let mut polls = async || {
        poll_fn(|cx| Poll::Ready((other.as_mut().poll(cx).is_pending(), third.as_mut().poll(cx).is_pending()))).await
    };
    assert_eq!(polls().await, (true, true), "the other model is first in line");
    drop(first);
    assert_eq!(polls().await, (true, true), "a is still in use");
    drop(second);
    let other = tokio::time::timeout(LIMIT, other).await.expect("it has its turn").expect("it loads");
    assert_eq!((other.name(), in_memory(&models)), ("b", vec!["b".to_owned()]));
    let early = poll_fn(|cx| Poll::Ready(third.as_mut().poll(cx).is_pending())).await;
    assert!(early, "b is in use");
    drop(other);
    let third = tokio::time::timeout(LIMIT, third).await.expect("it has its turn").expect("it loads");
    assert_eq!(third.name(), "a");
}

#[tokio::test]
async fn a_request_that_leaves_the_line_keeps_nobody_waiting() {
    let models = models(&["a", "b"], LoadOptions { max_loaded: 1, ..LoadOptions::default() });
    let _used = acquire(&models, "a").await.expect("there is room");
    let defaults = StreamConfig::new();
    let mut leaving = Box::pin(models.acquire(Some("b"), &defaults));
    let mut next = Box::pin(models.acquire(Some("a"), &defaults));
    let polled =
        poll_fn(|cx| Poll::Ready((leaving.as_mut().poll(cx).is_pending(), next.as_mut().poll(cx).is_pending())));
    assert_eq!(polled.await, (true, true));
    drop(leaving);
    tokio::time::timeout(LIMIT, next).await.expect("nobody is before it").expect("it is in memory");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_finds_no_room_holds_back_those_for_a_model_in_memory_for_a_moment_only() {
    let models = models(&["a", "b"], LoadOptions { max_loaded: 1, ..LoadOptions::default() });
    let _stalled = acquire(&models, "a").await.expect("there is room");
    let defaults = StreamConfig::new();
    let mut other = std::pin::pin!(models.acquire(Some("b"), &defaults));
    assert!(poll_fn(|cx| Poll::Ready(other.as_mut().poll(cx).is_pending())).await);
    let started = Instant::now();
    let acquired = tokio::time::timeout(LIMIT, models.acquire(Some("a"), &defaults)).await;
    acquired.expect("it is not held back for long").expect("it is in memory");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert!(other.await.is_err(), "there is no room");
}

#[tokio::test]
async fn few_models_are_loaded_at_once_so_that_threads_are_left_for_requests() {
    let models = models(&["a"], LoadOptions::default());
    let others = models.registry.loads.clone().acquire_many_owned(4).await.expect("all permits");
    let defaults = StreamConfig::new();
    let mut waiting = std::pin::pin!(models.acquire(Some("a"), &defaults));
    assert!(tokio::time::timeout(Duration::from_millis(300), waiting.as_mut()).await.is_err());
    drop(others);
    tokio::time::timeout(LIMIT, waiting).await.expect("it ends").expect("it loads");
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_room_for_a_limited_time() {
    let models = models(&["a", "b"], LoadOptions { max_loaded: 1, ..LoadOptions::default() });
    let _used = models.acquire(Some("a"), &StreamConfig::new()).await.expect("there is room");
    let error = models.acquire(Some("b"), &StreamConfig::new()).await.expect_err("there is no room");
    assert_eq!((error.status, error.retry_after.is_some()), (StatusCode::SERVICE_UNAVAILABLE, true));
}

#[tokio::test]
async fn an_idle_model_leaves_after_its_time_and_a_used_one_stays() {
    let idle_unload = Some(Duration::from_millis(50));
    let models = models(&["a", "b", "c"], LoadOptions { idle_unload, ..LoadOptions::default() });
    let used = acquire(&models, "a").await.expect("it loads");
    drop(acquire(&models, "b").await.expect("it loads"));
    let kept = acquire(&models, "c").await.expect("it loads");
    models.keep_alive(Some("c"), None).expect("a model");
    drop(kept);
    until("b has left", || in_memory(&models) == ["a", "c"]).await;
    drop(used);
    until("a has left", || in_memory(&models) == ["c"]).await;
    models.keep_alive(Some("c"), Some(Duration::ZERO)).expect("a model");
    until("c has left", || in_memory(&models).is_empty()).await;
    acquire(&models, "c").await.expect("it is loaded again");
}

#[tokio::test]
async fn a_model_is_unloaded_on_request_once_nobody_uses_it() {
    let models = models(&["a"], LoadOptions::default());
    let used = acquire(&models, "a").await.expect("it loads");
    assert_eq!(models.unload("a").await, Ok(false));
    assert_eq!(in_memory(&models), ["a"]);
    drop(used);
    until("it has left", || in_memory(&models).is_empty()).await;
    drop(acquire(&models, "a").await.expect("it loads"));
    assert_eq!(models.unload("a:latest").await, Ok(true));
    assert!(in_memory(&models).is_empty());
}

#[tokio::test]
async fn an_unknown_model_is_not_found_and_the_nearest_names_are_told() {
    let models = models(&["zebra", "llama3.2:1b", "ape"], LoadOptions::default());
    let error = acquire(&models, "lama3.2").await.expect_err("no such model");
    assert_eq!((error.status, error.code), (StatusCode::NOT_FOUND, "MODEL_NOT_FOUND"));
    assert!(error.message.contains("it has llama3.2:1b, "), "{}", error.message);
    let long = acquire(&models, &"x".repeat(100_000)).await.expect_err("no such model");
    assert!(long.message.len() < 300);
}

#[tokio::test]
async fn a_model_is_added_once_and_removed_by_any_form_of_its_name() {
    let models = models(&["demo"], LoadOptions::default());
    models.add("llama3.2").expect("there is room");
    models.add("llama3.2:latest").expect("it is there already");
    assert_eq!(models.registry.lock().names(), ["demo", "llama3.2"]);
    models.remove("https://ollama.com/library/llama3.2");
    assert_eq!(models.registry.lock().names(), ["demo"]);
    let added: Vec<bool> = (0..2000).map(|index| models.add(&format!("m{index}")).is_ok()).collect();
    assert_eq!(added.iter().filter(|&&is_added| is_added).count(), 999);
}

#[tokio::test]
async fn a_request_that_waits_for_a_model_is_told_when_the_server_ends() {
    let stop = Stop::new();
    let spec = |name: &str| ModelSpec { name: name.to_owned(), source: ModelSource::File(demo()) };
    let options = LoadOptions { max_loaded: 1, ..LoadOptions::default() };
    let models = Models::new(vec![spec("a"), spec("b")], options, None, stop.clone());
    let _used = acquire(&models, "a").await.expect("it loads");
    let (waited, ()) = tokio::join!(acquire(&models, "b"), async { stop.set(Phase::Ending) });
    assert_eq!(waited.expect_err("the server ends").status, StatusCode::SERVICE_UNAVAILABLE);
}
