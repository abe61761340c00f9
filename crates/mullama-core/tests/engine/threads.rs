//! The engine on its own thread: readers on other threads wait, wake, leave and race with each other.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Barrier, Mutex};
use std::task::{Context, Poll, Wake};
use std::thread;
use std::time::Duration;

use futures_util::StreamExt;
use mullama::testing::{Logits, ScriptedContext, Size, always};
use mullama::{FinishReason, MullamaError, StreamFailure, StreamHandle, TokenStream, TryNext};

use crate::support::{PROMPT, alone, config, hashed, prompt};

/// Far longer than any operation here takes.
const LIMIT: Duration = Duration::from_secs(20);

fn context(size: Size) -> ScriptedContext {
    ScriptedContext::start(size, hashed()).expect("started")
}

/// Runs on a separate thread, and fails if that does not end in time.
fn within_limit<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = sync_channel(1);
    thread::spawn(move || done.send(work()));
    wait.recv_timeout(LIMIT).expect("it ends in time, and without a panic")
}

#[test]
fn of_thirty_two_callers_at_once_eight_slots_and_a_queue_of_sixteen_accept_twenty_four() {
    // The engine stays in its first step until all have called, so that no stream ends or is paused before.
    let (logits, _, gate) = gated();
    let size = Size { queue: 16, ..Size::default() };
    let context = Arc::new(ScriptedContext::start(size, logits).expect("started"));
    let all_called = Arc::new(Barrier::new(33));
    let callers: Vec<_> = (0..32)
        .map(|seed| {
            let (context, all_called) = (Arc::clone(&context), Arc::clone(&all_called));
            thread::spawn(move || {
                let call = context.stream(prompt(3, seed), config(50).buffer_size(1));
                all_called.wait();
                call.map(|stream| (seed, stream.into_completion().expect("it runs").text))
            })
        })
        .collect();
    let ends = within_limit(move || {
        all_called.wait();
        drop(gate);
        callers.into_iter().map(|caller| caller.join().unwrap()).collect::<Vec<_>>()
    });
    let (run, refused): (Vec<_>, Vec<_>) = ends.into_iter().partition(Result::is_ok);
    assert_eq!((run.len(), refused.len()), (24, 8));
    assert!(refused.iter().all(|end| matches!(end, Err(MullamaError::Overloaded { unfinished: 24, limit: 24 }))));
    for (seed, text) in run.into_iter().map(Result::unwrap) {
        assert_eq!(text, alone(&prompt(3, seed), 50));
    }
}

/// Logits that wait for the test at every decode: the engine is blocked in the middle of a step until the test releases
/// it.
fn gated() -> (Logits, Receiver<()>, SyncSender<()>) {
    let (entered, step_started) = sync_channel(1_000);
    let (go, gate) = sync_channel::<()>(1_000);
    let (gate, base_logits) = (Mutex::new(gate), hashed());
    let logits: Logits = Arc::new(move |tokens, logits| {
        entered.send(()).ok();
        // If the test has dropped its end, the gate is open.
        gate.lock().expect("whole").recv_timeout(LIMIT).ok();
        base_logits(tokens, logits);
    });
    (logits, step_started, go)
}

#[test]
fn a_reader_that_waits_is_woken_when_another_thread_cancels_or_closes() {
    for go in [StreamHandle::cancel, StreamHandle::close] {
        let (logits, step_started, gate) = gated();
        let context = ScriptedContext::start(Size { slots: 1, ..Size::default() }, logits).unwrap();
        let running = context.stream(PROMPT, config(1_000)).unwrap();
        step_started.recv_timeout(LIMIT).unwrap();
        let queued = context.stream(PROMPT, config(1_000)).unwrap();
        let handles = [queued.handle(), running.handle()];
        let [read_queued, read_running] =
            [queued, running].map(|mut stream| thread::spawn(move || while stream.next_blocking().is_some() {}));
        go(&handles[0]);
        within_limit(move || read_queued.join().unwrap());
        go(&handles[1]);
        drop(gate);
        within_limit(move || read_running.join().unwrap());
        assert_eq!(handles.map(|handle| handle.finish_reason()), [Some(FinishReason::Cancelled); 2]);
    }
}

#[test]
fn calls_and_reads_never_wait_for_a_running_step() {
    let (logits, step_started, go) = gated();
    let context = ScriptedContext::start(Size { slots: 1, queue: 2, ..Size::default() }, logits).unwrap();
    let mut running = context.stream(PROMPT, config(5)).unwrap();
    step_started.recv_timeout(LIMIT).unwrap();
    // The engine is inside its step. All calls here return nevertheless.
    within_limit(move || {
        let mut queued = context.stream(PROMPT, config(5)).unwrap();
        assert!(matches!(running.next_within(Duration::ZERO), TryNext::Pending));
        queued.cancel();
        assert!(matches!(queued.next_within(Duration::ZERO), TryNext::Ended), "a queued stream ends at once");
        assert!(context.stream(PROMPT, config(5)).is_ok() && context.stream(PROMPT, config(5)).is_ok());
        running.close();
        assert!(matches!(running.next_within(LIMIT), TryNext::Ended));
        drop(go);
    });
}

#[test]
fn a_running_step_is_stopped_only_when_no_reader_is_left_for_its_rows() {
    let (logits, step_started, go) = gated();
    let context = ScriptedContext::start(Size { slots: 2, ..Size::default() }, logits).unwrap();
    let first = context.stream(PROMPT, config(100)).unwrap();
    step_started.recv_timeout(LIMIT).unwrap();
    let second = context.stream(PROMPT, config(100)).unwrap();
    go.send(()).unwrap();
    // In the second step both have a row, and a third stream waits.
    step_started.recv_timeout(LIMIT).unwrap();
    let queued = context.stream(PROMPT, config(3)).unwrap();
    first.cancel();
    assert!(!context.is_aborting(), "the second is still being read");
    drop(second);
    assert!(context.is_aborting(), "no reader is left for the rows of the step");
    drop(go);
    assert_eq!(queued.into_completion().unwrap().text, alone(PROMPT, 3));
    assert!(!context.is_aborting(), "the next steps run");
}

#[test]
fn a_queued_or_paused_stream_that_is_left_does_not_stop_a_running_step() {
    let (logits, step_started, go) = gated();
    let context = ScriptedContext::start(Size { slots: 1, ..Size::default() }, logits).unwrap();
    let paused = context.stream(PROMPT, config(100).buffer_size(1)).unwrap();
    step_started.recv_timeout(LIMIT).unwrap();
    let running = context.stream(PROMPT, config(3)).unwrap();
    go.send(()).unwrap();
    step_started.recv_timeout(LIMIT).unwrap();
    let queued = context.stream(PROMPT, config(100)).unwrap();
    drop((paused, queued));
    assert!(!context.is_aborting());
    drop(go);
    assert_eq!(running.into_completion().unwrap().text, alone(PROMPT, 3));
}

#[test]
fn a_wait_with_a_limit_ends_at_the_limit_and_loses_no_token() {
    let (logits, step_started, go) = gated();
    let context = ScriptedContext::start(Size::default(), logits).unwrap();
    let mut stream = context.stream(PROMPT, config(2)).unwrap();
    step_started.recv_timeout(LIMIT).unwrap();
    assert!(matches!(stream.next_within(Duration::from_millis(5)), TryNext::Pending));
    drop(go);
    assert_eq!(stream.into_completion().unwrap().text, alone(PROMPT, 2));
}

#[test]
fn a_panic_in_the_engine_ends_every_stream_with_an_error_and_later_calls_are_closed() {
    let (all_open, opened) = sync_channel::<()>(1);
    let opened = Mutex::new(opened);
    let logits = always(move |tokens| {
        if tokens.len() >= 4 {
            opened.lock().unwrap().recv_timeout(LIMIT).ok();
            panic!("a test's panic");
        }
        97
    });
    let context = ScriptedContext::start(Size { slots: 1, ..Size::default() }, logits).unwrap();
    let mut streams: Vec<TokenStream> = (0..4).map(|_| context.stream(PROMPT, config(10)).unwrap()).collect();
    drop(all_open);
    within_limit(move || {
        for stream in &mut streams {
            let error = loop {
                match stream.next_within(LIMIT) {
                    TryNext::Token(_) => {}
                    TryNext::Failed(error) => break error,
                    end => panic!("expected an error, got {end:?}"),
                }
            };
            assert!(matches!(error, MullamaError::StreamingError(StreamFailure::EngineEnded)), "{error}");
        }
        let call = context.stream(PROMPT, config(10));
        assert!(matches!(call, Err(MullamaError::Closed { .. })), "{call:?}");
    });
}

#[test]
fn an_open_stream_outlives_its_context() {
    let context = context(Size::default());
    let mut stream = context.stream(PROMPT, config(200).buffer_size(1)).unwrap();
    stream.next_blocking().unwrap().unwrap();
    drop(context);
    let rest = within_limit(move || stream.into_completion().unwrap());
    assert_eq!(rest.text, alone(PROMPT, 200));
}

#[test]
fn dropping_everything_during_generation_returns() {
    for n in 0..200_usize {
        let context = context(Size::default());
        let mut streams: Vec<TokenStream> =
            (0..n % 4).map(|seed| context.stream(prompt(50, seed), config(900)).unwrap()).collect();
        if let Some(stream) = streams.first_mut() {
            (0..n % 7).for_each(|_| drop(stream.next_blocking()));
        }
        within_limit(move || if n % 2 == 0 { drop((context, streams)) } else { drop((streams, context)) });
    }
}

#[test]
fn many_short_lived_readers_leave_nothing_behind_and_do_not_affect_others() {
    let context = Arc::new(context(Size { slots: 4, queue: 1_000, ..Size::default() }));
    let workers: Vec<_> = (0..8_usize)
        .map(|worker| {
            let context = Arc::clone(&context);
            thread::spawn(move || {
                for round in 0..150_u32 {
                    let seed = worker * 1_000 + round as usize;
                    let mut stream =
                        context.stream(prompt(1 + seed % 40, seed), config(30).buffer_size(1 + round % 5)).unwrap();
                    match round % 4 {
                        0 => {
                            assert_eq!(stream.into_completion().unwrap().text, alone(&prompt(1 + seed % 40, seed), 30));
                        }
                        1 => (0..round % 9).for_each(|_| drop(stream.next_blocking())),
                        2 => stream.cancel(),
                        _ => drop(stream),
                    }
                }
            })
        })
        .collect();
    within_limit(move || workers.into_iter().for_each(|worker| worker.join().unwrap()));
    assert_eq!(context.stream(PROMPT, config(30)).unwrap().into_completion().unwrap().text, alone(PROMPT, 30));
}

/// A minimal executor: a task is owned by its wakers, and by the queue while it is ready.
struct Task {
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    ready: SyncSender<Arc<Task>>,
    /// Reports whether the future could be dropped without a panic.
    drop_report: SyncSender<bool>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let ready = self.ready.clone();
        // If the executor no longer exists, this was the last owner, and the future is dropped here.
        let _ = ready.send(self);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // The future is dropped where the task is dropped: on the engine's thread, if a waker was its last owner.
        let future = self.future.get_mut().expect("whole").take();
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(future)));
        self.drop_report.send(dropped.is_ok()).ok();
    }
}

#[test]
fn a_waker_that_owns_the_last_stream_may_drop_it_on_the_engine_s_own_thread() {
    let (logits, step_started, go) = gated();
    let context = ScriptedContext::start(Size::default(), logits).unwrap();
    let mut stream = context.stream(PROMPT, config(50)).unwrap();
    step_started.recv_timeout(LIMIT).unwrap();
    let future = async move { while stream.next().await.is_some() {} };
    let ((ready, queue), (drop_report, dropped_cleanly)) = (sync_channel(10), sync_channel(1));
    let task = Arc::new(Task { future: Mutex::new(Some(Box::pin(future))), ready, drop_report });
    let waker = Arc::clone(&task).into();
    let poll = task.future.lock().unwrap().as_mut().unwrap().as_mut().poll(&mut Context::from_waker(&waker));
    assert_eq!(poll, Poll::Pending);
    drop((waker, task, queue, context));
    // Now only the stream's waker owns the task, and the task owns the stream and the engine.
    drop(go);
    assert!(
        dropped_cleanly.recv_timeout(LIMIT).expect("the task is dropped"),
        "the engine is dropped on its own thread without a panic"
    );
}
