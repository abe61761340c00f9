//! How prompts are tokenized: short ones are not delayed by long ones, abandoned ones are skipped, and every stream
//! gets an answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use mullama::testing::{ScriptedTokenizer, Size, Stage};
use mullama::{MullamaError, Prompt, StreamFailure, TokenId, TokenStream};

use crate::support::{Got, STEP, config, hashed, ms, take};

/// Far longer than any operation here takes, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
/// The length of a prompt for the lane of long ones.
const LONG: usize = 100_000;

/// A tokenizer that blocks on every text that starts with `!` until the gate opens, and records the texts.
#[derive(Default)]
struct Gate {
    state: Mutex<(Vec<String>, bool)>,
    opened: Condvar,
}

impl Gate {
    fn tokenize(&self, text: &str) -> Vec<TokenId> {
        let mut state = self.state.lock().expect("the test has not failed");
        state.0.push(text.chars().take(2).collect());
        if text.starts_with('!') {
            let waited =
                self.opened.wait_timeout_while(state, LIMIT, |(_, open)| !*open).expect("the test has not failed");
            assert!(!waited.1.timed_out(), "the gate was not opened in time");
        }
        vec![1]
    }

    fn open(&self) {
        self.state.lock().expect("the test has not failed").1 = true;
        self.opened.notify_all();
    }

    /// The first characters of the recorded texts.
    fn seen(&self) -> Vec<String> {
        self.state.lock().expect("the test has not failed").0.clone()
    }
}

fn gated() -> (Arc<Gate>, Stage) {
    let gate = Arc::new(Gate::default());
    let tokenizer = Arc::clone(&gate);
    (gate, staged(ScriptedTokenizer::new(move |text, _| tokenizer.tokenize(text))))
}

fn staged(vocabulary: ScriptedTokenizer) -> Stage {
    Stage::with_vocabulary(Size::default(), hashed(), |_| STEP, Arc::new(vocabulary))
}

/// A text of this many bytes with this start.
fn text(begins: &str, bytes: usize) -> String {
    format!("{begins}{}", "x".repeat(bytes - begins.len()))
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LIMIT, "not in time: {what}");
        thread::park_timeout(Duration::from_millis(1));
    }
}

/// Steps until the stream has ended.
fn read(stage: &mut Stage, stream: &mut TokenStream) -> Got {
    let mut got = Got::default();
    eventually("the stream ends", || {
        stage.step();
        got.take(stream, usize::MAX);
        got.over
    });
    got
}

#[test]
fn a_short_prompt_never_waits_behind_long_ones() {
    let (gate, mut stage) = gated();
    let long: Vec<_> = (0..10).map(|_| stage.submit(text("!", LONG), config(3)).unwrap()).collect();
    for _ in 0..5 {
        let mut short = stage.submit("short", config(3)).unwrap();
        assert_eq!(read(&mut stage, &mut short).tokens.len(), 3);
    }
    assert!(long.iter().all(|stream| stream.finish_reason().is_none()));
    gate.open();
    for mut stream in long {
        assert_eq!(read(&mut stage, &mut stream).tokens.len(), 3);
    }
}

#[test]
fn long_prompts_are_tokenized_one_at_a_time() {
    let (gate, mut stage) = gated();
    let mut streams: Vec<_> = (0..20).map(|_| stage.submit(text("!", LONG), config(1)).unwrap()).collect();
    eventually("the first is begun", || !gate.seen().is_empty());
    thread::park_timeout(ms(50));
    assert_eq!(gate.seen().len(), 1);
    gate.open();
    for stream in &mut streams {
        assert_eq!(read(&mut stage, stream).tokens.len(), 1);
    }
}

#[test]
fn a_prompt_is_never_tokenized_for_a_stream_that_has_left_or_expired() {
    let (gate, mut stage) = gated();
    let mut first = stage.submit(text("!1", LONG), config(1)).unwrap();
    eventually("the first is begun", || !gate.seen().is_empty());
    let cancelled = stage.submit(text("!2", LONG), config(1)).unwrap();
    let expired = stage.submit(text("!3", LONG), config(1).timeout_ms(100)).unwrap();
    let queued = stage.submit(text("!4", LONG), config(1).queue_timeout_ms(100)).unwrap();
    drop(stage.submit(text("!5", LONG), config(1)).unwrap());
    let mut last = stage.submit(text("!6", LONG), config(1)).unwrap();
    cancelled.cancel();
    stage.clock.advance(ms(100));
    gate.open();
    assert_eq!(read(&mut stage, &mut first).tokens.len(), 1);
    assert_eq!(read(&mut stage, &mut last).tokens.len(), 1);
    assert_eq!(gate.seen(), ["!1", "!6"]);
    for mut stream in [expired, queued] {
        assert_eq!(read(&mut stage, &mut stream).code(), Some("STREAM_TIMEOUT"));
    }
}

#[test]
fn tokenizing_stops_when_the_stream_ends() {
    for leaves in [true, false] {
        let (begun, given_up) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (started, noted) = (Arc::clone(&begun), Arc::clone(&given_up));
        let stage = staged(ScriptedTokenizer::new(move |_, go_on| {
            started.store(true, Ordering::Release);
            let since = Instant::now();
            while go_on(0) {
                assert!(since.elapsed() < LIMIT, "the work is not stopped");
                thread::yield_now();
            }
            noted.store(true, Ordering::Release);
            Vec::new()
        }));
        let stream = stage.submit("text", config(1).timeout_ms(100)).unwrap();
        eventually("it is begun", || begun.load(Ordering::Acquire));
        if leaves {
            stream.cancel();
        } else {
            stage.clock.advance(ms(100));
        }
        eventually("it is given up", || given_up.load(Ordering::Acquire));
    }
}

#[test]
fn waiting_prompts_are_limited_in_bytes_and_abandoned_ones_do_not_count() {
    const LARGE: usize = 40 << 20;
    let (gate, mut stage) = gated();
    let mut first = stage.submit(text("!", LONG), config(1)).unwrap();
    eventually("the first is begun", || !gate.seen().is_empty());
    let second = stage.submit(text("a", LARGE), config(1)).unwrap();
    let before = stage.unfinished();
    let error = stage.submit(text("b", LARGE), config(1)).unwrap_err();
    let MullamaError::PromptsOverloaded { prompt_bytes, waiting_bytes, limit_bytes } = error else {
        panic!("{error:?}")
    };
    assert_eq!((prompt_bytes, limit_bytes), (LARGE, 64 << 20));
    assert!(waiting_bytes >= LARGE + LONG, "{waiting_bytes}");
    assert_eq!(stage.unfinished(), before, "a refused call leaves nothing behind");
    second.cancel();
    let mut third = stage.submit(text("c", LARGE), config(1)).unwrap();
    gate.open();
    assert_eq!(read(&mut stage, &mut first).tokens.len(), 1);
    assert_eq!(read(&mut stage, &mut third).tokens.len(), 1);
    assert_eq!(gate.seen().concat(), "!xcx");
    let mut fourth = stage.submit(text("d", LARGE), config(1)).expect("all bytes are free again");
    assert!(read(&mut stage, &mut fourth).error.is_none());
}

#[test]
fn a_text_that_cannot_fit_is_refused_before_it_is_tokenized() {
    let mut stage = staged(ScriptedTokenizer::new(|_, _| panic!("it is not to be tokenized")).longest_piece(20));
    let mut stream = stage.submit(text("a", 20 * 1_023 + 1), config(1)).unwrap();
    stage.step();
    let error = take(&mut stream).error;
    let Some(MullamaError::ContextOverflow { prompt_tokens, is_lower_bound, context_len }) = error else {
        panic!("{error:?}")
    };
    assert_eq!((prompt_tokens, is_lower_bound, context_len), (1_024, true, 1_024));
}

#[test]
fn a_text_is_tokenized_no_further_than_the_context_is_long() {
    let furthest = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&furthest);
    let mut stage = staged(ScriptedTokenizer::new(move |_, go_on| {
        let mut tokens = Vec::new();
        while go_on(tokens.len()) {
            tokens.extend([1; 100]);
        }
        *seen.lock().unwrap() = tokens.len();
        tokens
    }));
    let mut stream = stage.submit("text", config(1)).unwrap();
    let error = read(&mut stage, &mut stream).error;
    let Some(MullamaError::ContextOverflow { prompt_tokens: 1_100, is_lower_bound: true, .. }) = error else {
        panic!("{error:?}")
    };
    assert_eq!(*furthest.lock().unwrap(), 1_100);
}

#[test]
fn a_tokenizer_that_panics_fails_its_stream_at_once_and_no_other() {
    let mut stage = staged(ScriptedTokenizer::new(|text, _| {
        assert!(!text.starts_with('!'), "a deliberate panic");
        vec![1]
    }));
    for bytes in [5, LONG] {
        let bad: Vec<_> = (0..4).map(|_| stage.submit(text("!", bytes), config(3)).unwrap()).collect();
        let mut good = stage.submit(text("a", bytes), config(3)).unwrap();
        for mut stream in bad {
            let error = read(&mut stage, &mut stream).error;
            assert!(matches!(error, Some(MullamaError::StreamingError(StreamFailure::TokenizerPanicked))), "{error:?}");
        }
        assert_eq!(read(&mut stage, &mut good).tokens.len(), 3);
    }
    assert_eq!(stage.unfinished(), 0);
}

#[test]
fn the_number_of_token_ids_is_checked_before_their_values() {
    let mut stage = staged(ScriptedTokenizer::new(|_, _| Vec::new()));
    let mut stream = stage.submit(Prompt::Tokens(vec![-1; 2_000]), config(1)).unwrap();
    let error = read(&mut stage, &mut stream).error;
    assert!(
        matches!(error, Some(MullamaError::ContextOverflow { prompt_tokens: 2_000, is_lower_bound: false, .. })),
        "{error:?}"
    );
}

#[test]
fn random_seeds_differ() {
    let stage = staged(ScriptedTokenizer::new(|_, _| Vec::new()));
    let mut seeds: Vec<_> = (0..50).map(|_| stage.submit(Prompt::Tokens(vec![1]), config(0)).unwrap().seed()).collect();
    seeds.sort_unstable();
    seeds.dedup();
    assert!(seeds.len() > 45, "{seeds:?}");
}
