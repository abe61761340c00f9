//! A forked child has no engine thread, and locks that other threads of the parent held stay locked in it forever:
//! nevertheless, every call returns at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as TaskContext, Poll, Waker};
use std::thread;
use std::time::Duration;

use mullama::testing::in_forked_child;
use mullama::{
    Chat, Context, ContextParams, LoopNotifier, Message, Model, MullamaError, StreamConfig, StreamHandle, TokenStream,
    TryNext,
};

use crate::support::{alone, demo, greedy};

const FORKS: usize = 300;

/// A child that waits for a lock waits forever, so this only has to be longer than a busy machine takes.
const LIMIT: Duration = Duration::from_secs(20);

fn params() -> ContextParams {
    ContextParams { n_threads: Some(1), ..ContextParams::default() }
}

/// Handles that other threads use while the process forks.
struct Shared {
    model: Arc<Model>,
    context: Context,
    handle: StreamHandle,
    notifier: Arc<LoopNotifier>,
}

#[expect(clippy::needless_pass_by_value, reason = "each caller hands over the result of a call")]
fn is_closed<T>(result: Result<T, MullamaError>) -> bool {
    matches!(result, Err(MullamaError::Closed { .. }))
}

/// Calls every public method of the model; returns whether those that need a lock or a thread are refused.
fn walk_model(model: &Arc<Model>) -> bool {
    let chat = Chat::new(vec![Message::new("user", "Hello")]);
    model.path();
    model.metadata();
    model.description();
    let _ = (model.n_ctx_train(), model.n_embd(), model.n_layer(), model.n_params(), model.size(), model.n_vocab());
    let _ = (model.bos(), model.eos(), model.end_tokens());
    let detokenizes = model.detokenize(&[65]).is_ok();
    let refuses = is_closed(model.tokenize("a"))
        && is_closed(model.tokenize_with("a", true, true))
        && is_closed(model.apply_chat_template(&chat))
        && is_closed(model.tokenize_chat(&chat))
        && is_closed(Context::new(Arc::clone(model), params()));
    model.close();
    detokenizes && refuses && !format!("{model:?}").is_empty()
}

/// Calls every public method of the context; those that consume or close it use another context.
fn walk_context(context: &Context, own: &mut Context) -> bool {
    context.model();
    context.params();
    let refuses = is_closed(context.context_len())
        && is_closed(context.unfinished())
        && is_closed(context.stats())
        && is_closed(context.stream("a", StreamConfig::new()))
        && is_closed(context.generate("a", StreamConfig::new()))
        && is_closed(own.generate_streaming("a", 1, |_| true))
        && is_closed(own.generate_streaming_with("a", StreamConfig::new(), |_| true));
    context.close();
    refuses && !format!("{context:?}").is_empty()
}

/// Calls every public method of the handle, which reports the values of an empty stream.
fn walk_handle(handle: &StreamHandle) -> bool {
    let empty = handle.text().is_empty()
        && (handle.tokens_generated(), handle.buffered(), handle.usage().prompt_tokens) == (0, 0, 0)
        && (handle.finish_reason(), handle.stop_sequence()) == (None, None);
    let _ = (handle.tokens_per_second(), handle.timings(), handle.seed());
    let empty = empty && is_closed(handle.check_process()) && !format!("{handle:?}").is_empty();
    handle.cancel();
    handle.close();
    empty
}

/// Calls every public method of the stream.
fn walk_stream(mut stream: TokenStream) -> bool {
    let refused = matches!(stream.next_within(Duration::ZERO), TryNext::Failed(MullamaError::Closed { .. }));
    let polled = stream.poll_token(&mut TaskContext::from_waker(Waker::noop()));
    let over = matches!(stream.next_within(LIMIT), TryNext::Ended)
        && stream.next_blocking().is_none()
        && stream.iter_mut().next().is_none()
        && matches!(polled, Poll::Ready(None));
    let _ = (stream.tokens_generated(), stream.tokens_per_second(), stream.finish_reason(), stream.stop_sequence());
    let _ = (stream.usage(), stream.timings(), stream.seed(), stream.text(), stream.buffered());
    let walked = walk_handle(&stream.handle()) && !format!("{stream:?}").is_empty();
    stream.cancel();
    stream.close();
    refused && over && walked && stream.into_completion().is_ok()
}

fn walk_notifier(notifier: &Arc<LoopNotifier>) -> bool {
    notifier.handle(1).notify();
    notifier.handle(1).into_waker().wake();
    let silent = notifier.drain().is_empty() && !notifier.wait();
    // The descriptor belongs to the loop of the parent.
    let has_none = notifier.descriptor() == -1;
    notifier.close();
    silent && has_none
}

/// Calls everything; the stream and the second context belong to the caller.
fn walk(shared: &Shared, stream: TokenStream, own: &mut Context) -> bool {
    let walked = walk_notifier(&shared.notifier)
        && walk_handle(&shared.handle)
        && walk_stream(stream)
        && walk_context(&shared.context, own)
        && walk_model(&shared.model);
    mullama::shutdown();
    walked
}

/// Holds the locks of all handles as much of the time as possible.
fn hold_locks(shared: &Shared, stop: &AtomicBool) {
    let work: [Box<dyn Fn() + Send + '_>; 4] = [
        Box::new(move || drop((shared.handle.text(), shared.handle.usage(), shared.handle.tokens_generated()))),
        Box::new(move || drop((shared.context.stats(), Context::new(Arc::clone(&shared.model), params())))),
        Box::new(move || drop(shared.context.stream(vec![1, 2, 3], greedy(4)))),
        Box::new(move || {
            shared.notifier.handle(1).notify();
            shared.notifier.drain();
        }),
    ];
    thread::scope(|scope| {
        for work in work {
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    work();
                }
            });
        }
    });
}

#[test]
fn every_call_in_a_forked_child_returns_at_once_whatever_locks_other_threads_held() {
    let _alone = alone();
    let model = demo();
    let context = Context::new(Arc::clone(&model), params()).unwrap();
    let mut stream = context.stream("Write a poem:", greedy(900)).unwrap();
    for _ in 0..400 {
        stream.next_blocking().unwrap().unwrap();
    }
    let notifier = Arc::new(LoopNotifier::new().unwrap());
    let mut own = Context::new(Arc::clone(&model), params()).unwrap();
    let shared = Shared { model, context, handle: stream.handle(), notifier };
    let stop = AtomicBool::new(false);
    let failed = thread::scope(|scope| {
        scope.spawn(|| hold_locks(&shared, &stop));
        let failed = (0..FORKS).find(|_| {
            let stream = shared.context.stream(vec![1, 2, 3], greedy(900)).expect("fewer than the limit");
            !in_forked_child(LIMIT, || walk(&shared, stream, &mut own))
        });
        stop.store(true, Ordering::Relaxed);
        failed
    });
    assert_eq!(failed, None, "the child of this fork hangs, or a call in it is not refused");
}
