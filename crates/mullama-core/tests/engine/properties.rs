//! For random requests in random order: limits are kept, texts are right, and every stream that is read ends.

use std::hash::{DefaultHasher, Hash, Hasher};

use mullama::testing::{ByteVocabulary, Limits, Logits, Reuse, Size, Stage, Step, always};
use mullama::{StreamConfig, TokenId, TokenStream};
use mullama_ffi::Error;
use proptest::prelude::*;

use crate::support::{Got, STEP, config, ms, now, prompt};

/// How a reader behaves.
#[derive(Debug, Clone, Copy)]
enum Reader {
    /// Takes everything that is available after every step.
    Fast,
    /// Takes this many items every so many steps.
    Slow { every: usize, takes: usize },
    /// Reads nothing before all other streams have ended.
    Late,
    /// Drops the stream after this many steps.
    Gone { after: usize },
    /// Cancels after this many steps, and continues to read.
    Cancels { after: usize },
}

#[derive(Debug, Clone)]
struct Request {
    arrives: usize,
    prompt_len: usize,
    /// Prompts with equal heads have a common prefix.
    head: usize,
    max_tokens: u32,
    buffer_size: u32,
    priority: i32,
    reader: Reader,
    stops: Vec<String>,
    timeout_ms: Option<u64>,
}

#[derive(Debug, Clone)]
struct Case {
    size: Size,
    requests: Vec<Request>,
    faults: Vec<(usize, usize)>,
}

fn reader() -> impl Strategy<Value = Reader> {
    prop_oneof![
        3 => Just(Reader::Fast),
        3 => (1_usize..9, 1_usize..5).prop_map(|(every, takes)| Reader::Slow { every, takes }),
        1 => Just(Reader::Late),
        1 => (0_usize..60).prop_map(|after| Reader::Gone { after }),
        1 => (0_usize..60).prop_map(|after| Reader::Cancels { after }),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let numbers = (0_usize..60, 1_usize..70, 0_usize..4, 0_u32..60, 1_u32..9, -1_i32..2);
    let stops = prop_oneof![4 => Just(vec![]), 1 => prop::collection::vec("[abc]{1,3}", 1..3)];
    let timeout = prop_oneof![6 => Just(None), 1 => (1_u64..200).prop_map(Some)];
    (numbers, reader(), stops, timeout).prop_map(|(numbers, reader, stops, timeout_ms)| {
        let (arrives, prompt_len, head, max_tokens, buffer_size, priority) = numbers;
        Request { arrives, prompt_len, head, max_tokens, buffer_size, priority, reader, stops, timeout_ms }
    })
}

fn case() -> impl Strategy<Value = Case> {
    let reuse = prop_oneof![Just(Reuse::Parts), Just(Reuse::Whole), Just(Reuse::Nothing)];
    let memory = prop_oneof![Just(0_usize), Just(400), Just(1 << 20)];
    let size = (1_usize..6, 80_usize..200, 0_usize..8, 6_usize..40, reuse, memory);
    let size = size.prop_map(|(slots, cells, more_seats, rows, reuse, prefix_cache_bytes)| {
        let limits = Limits { rows, cells, n_seq: slots + more_seats, reuse };
        Size { slots, queue: 100, context_len: 80, limits, prefix_cache_bytes, ..Size::default() }
    });
    let faults = prop_oneof![2 => Just(vec![]), 1 => prop::collection::vec((0_usize..150, 0_usize..5), 1..6)];
    (size, prop::collection::vec(request(), 1..12), faults).prop_map(|(size, requests, faults)| Case {
        size,
        requests,
        faults,
    })
}

fn fault(kind: usize) -> Error {
    match kind {
        0 => Error::Exception { call: "llama_decode", text: "a test".into() },
        1 => Error::InvalidBatch { said: vec![] },
        2 => Error::Aborted,
        _ => Error::NoKvSlot,
    }
}

/// The token that follows these: mostly `a`, `b` or `c`, sometimes a part of an emoji, a stray byte or the end.
fn next(tokens: &[TokenId]) -> TokenId {
    let mut hasher = DefaultHasher::new();
    tokens.hash(&mut hasher);
    let emoji = "🦊".as_bytes();
    match hasher.finish() % 100 {
        n @ 0..4 => emoji[usize::try_from(n).expect("small")].into(),
        4 => 0xFF,
        5 => ByteVocabulary::END,
        n => 97 + TokenId::try_from(n % 3).expect("small"),
    }
}

fn logits() -> Logits {
    always(next)
}

/// The text of a request: all of it, and the part before the earliest stop.
fn expected(request: &Request, seed: usize, context_len: usize) -> (String, String) {
    let mut tokens = prompt(request.prompt_len, seed);
    let budget = (request.max_tokens as usize).min(context_len - tokens.len());
    let mut bytes = Vec::new();
    for _ in 0..budget {
        let token = next(&tokens);
        let Ok(byte) = u8::try_from(token) else { break };
        bytes.push(byte);
        tokens.push(token);
    }
    let whole = String::from_utf8_lossy(&bytes).into_owned();
    let found = request.stops.iter().filter_map(|stop| whole.find(stop)).min();
    let cut = found.map_or(whole.clone(), |at| whole[..at].into());
    (whole, cut)
}

/// One request while the case runs.
struct Running {
    request: Request,
    seed: usize,
    stream: Option<TokenStream>,
    got: Got,
    steps: usize,
    cancelled: bool,
    overfull: bool,
}

impl Running {
    fn open(stage: &Stage, request: &Request, seed: usize) -> Self {
        let tuned = config(request.max_tokens)
            .buffer_size(request.buffer_size)
            .priority(request.priority)
            .stop_sequences(request.stops.clone());
        let tuned: StreamConfig = tuned.timeout_ms(request.timeout_ms);
        let stream = stage.open(&prompt(request.prompt_len, seed), tuned).expect("the queue is long");
        let (request, got) = (request.clone(), Got::default());
        Self { request, seed, stream: Some(stream), got, steps: 0, cancelled: false, overfull: false }
    }

    /// The reader's actions after a step.
    fn behave(&mut self, late_too: bool) {
        self.steps += 1;
        let Some(stream) = &mut self.stream else { return };
        self.overfull |= stream.buffered() > self.request.buffer_size as usize;
        assert!(stream.buffered() <= self.request.buffer_size as usize + 1);
        match self.request.reader {
            Reader::Slow { every, takes } if self.steps.is_multiple_of(every) => self.got.take(stream, takes),
            Reader::Slow { .. } => {}
            Reader::Late if !late_too => {}
            Reader::Gone { after } if self.steps >= after => self.stream = None,
            Reader::Cancels { after } if self.steps >= after && !self.cancelled => {
                self.cancelled = true;
                stream.cancel();
            }
            _ => self.got.take(stream, usize::MAX),
        }
    }

    fn is_through(&self) -> bool {
        self.stream.is_none() || self.got.over
    }

    /// Whether the engine may compute a token for it: it has not ended, and its buffer is not full.
    fn has_capacity(&self) -> bool {
        let open = |stream: &TokenStream| stream.finish_reason().is_none() && stream.buffered() == 0;
        !self.is_through() && !self.cancelled && self.stream.as_ref().is_some_and(open)
    }

    fn check(&self, context_len: usize) {
        let (whole, cut) = expected(&self.request, self.seed, context_len);
        let text = self.got.text();
        assert!(self.got.tokens.iter().enumerate().all(|(at, token)| token.index == at), "items in order");
        let without_id = self.got.tokens.iter().filter(|token| token.id.is_none()).count();
        assert!(without_id <= 1 && (!self.overfull || without_id == 1), "only a remainder may exceed the buffer");
        if self.stream.is_none() || self.cancelled || self.got.error.is_some() {
            // The held text may be a prefix of a stop, or an incomplete character.
            assert!(whole.starts_with(text.trim_end_matches('\u{FFFD}')), "{text:?} is not a prefix of {whole:?}");
            assert!(!self.request.stops.iter().any(|stop| text.contains(stop)), "no whole stop in {text:?}");
        } else {
            assert_eq!(text, cut, "of {whole:?}");
        }
        match self.got.code() {
            Some("STREAM_TIMEOUT") => assert!(self.request.timeout_ms.is_some()),
            None | Some("GENERATION_ERROR") => {}
            code => panic!("{code:?}"),
        }
    }
}

/// The rows of each decode stay within all limits, and no more sequences are in it than there are slots.
fn check_decodes(stage: &Stage, size: Size) {
    for rows in stage.decodes() {
        let mut n_seq: Vec<usize> = rows.iter().map(|row| row.seq_id).collect();
        n_seq.sort_unstable();
        n_seq.dedup();
        assert!(n_seq.len() <= size.slots, "{} sequences on {} slots", n_seq.len(), size.slots);
        assert!(rows.iter().filter(|row| row.output).count() <= n_seq.len(), "one output per sequence");
    }
}

fn run(case: &Case) {
    let mut stage = Stage::new(case.size, logits(), |_| STEP);
    let mut running: Vec<Running> = Vec::new();
    let mut failed = false;
    for step in 0.. {
        assert!(step < 30_000, "the engine does not get to an end");
        let arrivals = case.requests.iter().enumerate().filter(|(_, request)| request.arrives == step);
        running.extend(arrivals.map(|(_, request)| Running::open(&stage, request, request.head)));
        for &(_, kind) in case.faults.iter().filter(|(at, _)| *at == step) {
            stage.fail_next_decode(fault(kind));
            failed = true;
        }
        let worked = stage.step();
        check_decodes(&stage, case.size);
        let all_come = running.len() == case.requests.len();
        if let Step::Idle { until } = worked {
            assert!(!running.iter().any(Running::has_capacity), "the engine sleeps while a stream has capacity");
            let wait = until.map_or(ms(0), |until| until.saturating_sub(now(&stage)));
            stage.clock.advance(wait.min(ms(5)));
        }
        let late = |running: &Running| matches!(running.request.reader, Reader::Late);
        let only_late = all_come && running.iter().all(|r| r.is_through() || late(r));
        for running in &mut running {
            running.behave(only_late);
        }
        if all_come && running.iter().all(Running::is_through) {
            break;
        }
    }
    for running in &running {
        running.check(case.size.context_len);
    }
    if !failed {
        assert!(running.iter().all(|running| running.got.code() != Some("GENERATION_ERROR")));
    }
    everything_is_free(&mut stage, case.size);
}

/// Nothing is held any more: a prompt as long as the context is computed at once, and only once.
fn everything_is_free(stage: &mut Stage, size: Size) {
    stage.settle();
    assert_eq!(stage.unfinished(), 0);
    // A fault that found no decode to fail is used up here.
    drop(stage.open(&[1], config(1)).map(|stream| (stage.settle(), stream)));
    stage.decodes();
    let streams: Vec<TokenStream> =
        (0..size.slots).map(|seed| stage.open(&prompt(2, seed), config(1)).expect("opened")).collect();
    stage.settle();
    assert!(streams.iter().all(|stream| stream.usage().completion_tokens == 1));
    let long = stage.open(&prompt(size.context_len - 1, 7), config(5)).expect("opened");
    stage.settle();
    assert_eq!((long.usage().completion_tokens, stage.unfinished()), (1, 0));
    let (computed, all) = (stage.decodes().concat().len(), 2 * size.slots + size.context_len - 1);
    let saved = usize::try_from(stage.stats().tokens_saved).expect("few");
    assert!(computed <= all && computed + saved >= all, "{computed} of {all}: no leftover cells were in the way");
}

/// Runs for about a second; longer if the environment asks for it.
fn cases() -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let cases = if asked { ProptestConfig::default().cases } else { 4_000 };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn for_any_requests_limits_are_kept_texts_are_right_and_streams_that_are_read_end(case in case()) {
        run(&case);
    }
}
