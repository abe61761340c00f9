//! A template that works for as long as its budget allows stops when nobody waits for it any more.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mullama::{Chat, Message, Model, MullamaError, StreamConfig, TemplateFailure, TryNext};

use crate::support::{context, fresh_demo, greedy, params, read};

/// Long enough for the rendering to have begun.
const HEAD_START: Duration = Duration::from_millis(100);

/// The tests share the threads whose work they measure, so they take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Works until its budget is used up. The budget grows with the messages: this one lasts for some seconds.
fn endless() -> Chat {
    let template = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
    Chat::new([Message::user("word ".repeat(4_000_000))]).chat_template(template)
}

/// A chat for the same thread as [`endless`], which has its own template too.
fn brief() -> Chat {
    Chat::new([Message::user("hello")]).chat_template("{{ messages[0].content }}")
}

/// How long the endless template takes if nobody stops it.
fn whole_work(model: &Model) -> Duration {
    let begun = Instant::now();
    let failed = model.apply_chat_template(&endless());
    assert!(matches!(failed, Err(MullamaError::ChatTemplate(TemplateFailure::Stopped { .. }))), "{failed:?}");
    let taken = begun.elapsed();
    assert!(taken > 5 * HEAD_START, "too short to measure: {taken:?}");
    taken
}

/// Opens a stream of the endless template, ends it with `leave`, and returns how long the thread stays busy after that.
fn busy_after(config: StreamConfig, leave: impl FnOnce(mullama::TokenStream)) -> (Duration, Duration) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let context = context(params());
    let whole = whole_work(context.model());
    let mut stream = context.stream(endless(), config).expect("opened");
    assert!(matches!(stream.next_within(HEAD_START), TryNext::Pending));
    leave(stream);
    let left = Instant::now();
    let mut next = context.stream(brief(), greedy(1)).expect("opened");
    assert_eq!(read(&mut next).1.map(|error| error.to_string()), None);
    (left.elapsed(), whole)
}

#[test]
fn a_stream_that_leaves_stops_its_template() {
    let (busy, whole) = busy_after(greedy(1), |stream| stream.cancel());
    assert!(busy < whole / 4, "cancelled: {busy:?} of {whole:?}");
    let (busy, whole) = busy_after(greedy(1), drop);
    assert!(busy < whole / 4, "dropped: {busy:?} of {whole:?}");
}

#[test]
fn a_deadline_stops_a_template_and_is_what_the_stream_reports() {
    let (busy, whole) = busy_after(greedy(1).timeout_ms(200), |mut stream| {
        let (_, failed) = read(&mut stream);
        assert!(matches!(failed, Some(MullamaError::StreamTimeout { .. })), "{failed:?}");
    });
    assert!(busy < whole / 4, "{busy:?} of {whole:?}");
}

#[test]
fn a_caller_who_loses_interest_stops_its_template() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let model = fresh_demo();
    let whole = whole_work(&model);
    let begun = Instant::now();
    assert_eq!(model.apply_chat_template_while(&endless(), || false).unwrap(), None);
    assert_eq!(model.apply_chat_template(&brief()).unwrap(), "hello");
    assert_eq!(model.tokenize_chat_while(&endless(), || false).unwrap(), None);
    assert!(!model.tokenize_chat(&brief()).unwrap().is_empty());
    assert!(begun.elapsed() < whole / 2, "{:?} of {whole:?}", begun.elapsed());
}
