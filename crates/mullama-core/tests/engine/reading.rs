//! Reading from different contexts: from alternating threads, in async tasks, and with wakers that misbehave.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use mullama::TokenStream;
use mullama::testing::{ScriptedContext, Size};
use tokio::runtime::{Builder, Runtime};

use crate::support::{PROMPT, alone, config, hashed, read, slots, stage, steps};

const LIMIT: Duration = Duration::from_mins(1);

/// More than the 128 polls that tokio allows a task before it must yield.
const TOKENS: u32 = 600;

fn within_limit<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = sync_channel(1);
    thread::spawn(move || done.send(work()));
    wait.recv_timeout(LIMIT).expect("it ends in time, and without a panic")
}

fn context() -> ScriptedContext {
    ScriptedContext::start(Size::default(), hashed()).expect("started")
}

fn text_of(stream: &mut TokenStream) -> String {
    stream.iter_mut().map(|token| token.expect("no error").text).collect()
}

fn runtimes() -> [Runtime; 2] {
    [Builder::new_current_thread().build(), Builder::new_multi_thread().worker_threads(2).build()]
        .map(|runtime| runtime.expect("a runtime"))
}

#[test]
fn a_blocking_read_inside_a_tokio_task_continues_after_the_poll_budget() {
    for runtime in runtimes() {
        let streams = [1, 64, 1000].map(|buffer| context().stream(PROMPT, config(TOKENS).buffer_size(buffer)).unwrap());
        let texts = within_limit(move || {
            streams.map(|mut stream| runtime.block_on(runtime.spawn(async move { text_of(&mut stream) })).unwrap())
        });
        assert_eq!(texts, [(); 3].map(|()| alone(PROMPT, TOKENS)));
    }
}

#[test]
fn a_stream_read_alternately_from_two_threads_loses_no_token() {
    let stream = context().stream(PROMPT, config(TOKENS).buffer_size(2)).unwrap();
    let shared = Arc::new(Mutex::new((stream, String::new())));
    let readers = [0, 1].map(|_| {
        let shared = Arc::clone(&shared);
        move || loop {
            let mut turn = shared.lock().unwrap();
            let Some(token) = turn.0.next_blocking() else { return };
            turn.1.push_str(&token.unwrap().text);
        }
    });
    within_limit(move || readers.map(thread::spawn).into_iter().for_each(|reader| reader.join().unwrap()));
    let turns = shared.lock().unwrap();
    assert_eq!((&turns.1, turns.0.tokens_generated()), (&alone(PROMPT, TOKENS), TOKENS as usize));
}

/// Panics when it is woken.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker of this test");
    }
}

#[test]
fn a_waker_that_panics_affects_only_its_own_stream() {
    let mut stage = stage(slots(2));
    let mut bad = stage.open(PROMPT, config(20)).unwrap();
    let mut good = stage.open(&[2], config(20)).unwrap();
    let waker = Waker::from(Arc::new(Panics));
    assert!(matches!(bad.poll_token(&mut Context::from_waker(&waker)), Poll::Pending));
    steps(&mut stage, 3);
    assert_eq!(read(&mut stage, &mut good).text(), alone(&[2], 20));
    let got = read(&mut stage, &mut bad);
    assert!(alone(PROMPT, 20).starts_with(&got.text()) && got.over && got.error.is_none());
    assert_eq!((stage.unfinished(), stage.settle()), (0, 0));
}

/// Reads a stream when its thread ends, after the thread's own values were destroyed.
struct ReadsAtTheEnd(TokenStream, std::sync::mpsc::SyncSender<String>);

impl Drop for ReadsAtTheEnd {
    fn drop(&mut self) {
        let _ = self.1.send(text_of(&mut self.0));
    }
}

#[test]
fn a_destructor_that_runs_while_its_thread_ends_reads_a_stream() {
    thread_local! {
        static LAST: std::cell::RefCell<Option<ReadsAtTheEnd>> = const { std::cell::RefCell::new(None) };
    }
    let (results, received) = sync_channel(1);
    let mut stream = context().stream(PROMPT, config(50).buffer_size(1)).unwrap();
    thread::spawn(move || {
        LAST.set(None);
        stream.next_blocking().unwrap().unwrap();
        LAST.set(Some(ReadsAtTheEnd(stream, results)));
    });
    assert_eq!(received.recv_timeout(LIMIT).expect("read"), alone(PROMPT, 50)[1..]);
}
