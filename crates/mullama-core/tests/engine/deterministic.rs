//! Deterministic streams: their rows, their share of the steps, and what happens when they pause, leave or fail.

use mullama::testing::{Limits, Prices, Reuse, Size, Stage, Step};
use mullama::{StreamConfig, TokenId, TokenStream};
use mullama_ffi::Error;

use crate::support::{alone, config, hashed, ms, now, read, read_all, stage, steps, take};

/// Prompts of deterministic streams use tokens above this one; the hashed text consists of letters only.
const MARK: TokenId = 200;

fn marked(len: usize, seed: TokenId) -> Vec<TokenId> {
    (0..len).map(|at| MARK + (seed + TokenId::try_from(at).expect("short")) % 50).collect()
}

fn deterministic(max_tokens: u32) -> StreamConfig {
    config(max_tokens).deterministic(true)
}

/// The sizes of the decodes that contain tokens of marked prompts.
fn chunks(stage: &Stage) -> Vec<usize> {
    let decodes = stage.decodes();
    let of_prompt = decodes.iter().filter(|rows| rows.iter().any(|row| row.token >= MARK && row.token < 256));
    of_prompt.map(Vec::len).collect()
}

#[test]
fn a_deterministic_prompt_is_computed_in_the_same_chunks_alone_and_beside_others() {
    let mut quiet = stage(Size::default());
    let mut stream = quiet.open(&marked(35, 0), deterministic(20)).expect("opened");
    let text = read(&mut quiet, &mut stream).text();
    assert_eq!(text, alone(&marked(35, 0), 20));
    assert_eq!(chunks(&quiet), [8, 8, 8, 8, 3]);

    let mut busy = stage(Size::default());
    let mut others: Vec<TokenStream> =
        (1..6).map(|seed| busy.open(&[seed, 2, 3], config(100)).expect("opened")).collect();
    steps(&mut busy, 7);
    others.push(busy.open(&marked(35, 0), deterministic(20)).expect("opened"));
    let got = read_all(&mut busy, &mut others);
    assert_eq!(got[5].text(), text);
    assert_eq!(chunks(&busy), [8, 8, 8, 8, 3]);
}

#[test]
fn deterministic_streams_take_at_most_half_of_the_steps_while_others_run() {
    let mut stage = stage(Size::default());
    let running: Vec<TokenStream> =
        (1..5).map(|seed| stage.open(&[seed], config(300).buffer_size(300)).expect("opened")).collect();
    let exact: Vec<TokenStream> =
        (0..4).map(|seed| stage.open(&marked(30, seed), deterministic(20)).expect("opened")).collect();
    steps(&mut stage, 1);
    stage.decodes();
    let all = (0..400).any(|_| {
        stage.step();
        stage.unfinished() == running.len()
    });
    assert!(all, "{} streams have ended in time", exact.len());
    let decodes = stage.decodes();
    let batch: Vec<bool> = decodes.iter().map(|rows| rows.len() == 4 && rows.iter().all(|row| row.output)).collect();
    assert!(batch.windows(2).all(|pair| pair[0] || pair[1]), "the batch waits for one step at a time: {batch:?}");
    assert!(running.iter().all(|stream| stream.buffered() * 2 >= decodes.len()));
}

#[test]
fn a_deterministic_stream_that_runs_alone_gets_every_step() {
    let mut stage = stage(Size::default());
    let mut stream = stage.open(&marked(8, 0), deterministic(40)).expect("opened");
    steps(&mut stage, 41);
    assert_eq!(take(&mut stream).tokens.len(), 40);
}

#[test]
fn a_paused_deterministic_stream_yields_and_later_continues_where_it_stopped() {
    for prefix_cache_bytes in [0, 1 << 20] {
        let mut stage = stage(Size { prefix_cache_bytes, ..Size::default() });
        let mut paused = stage.open(&marked(20, 0), deterministic(30).buffer_size(5)).expect("opened");
        steps(&mut stage, 20);
        assert_eq!(paused.buffered(), 5);
        let mut others: Vec<TokenStream> =
            (1..4).map(|seed| stage.open(&marked(20, seed), deterministic(10)).expect("opened")).collect();
        for (seed, got) in (1..).zip(read_all(&mut stage, &mut others)) {
            assert_eq!(got.text(), alone(&marked(20, seed), 10));
        }
        stage.decodes();
        assert_eq!(read(&mut stage, &mut paused).text(), alone(&marked(20, 0), 30));
        let sizes: Vec<usize> = stage.decodes().iter().map(Vec::len).collect();
        // Without a copy the prompt is recomputed in its chunks, and the completion one token at a time.
        let again: &[usize] = if prefix_cache_bytes == 0 { &[8, 8, 4] } else { &[] };
        assert_eq!(sizes[..again.len()], *again);
        assert!(sizes[again.len()..].iter().all(|&rows| rows == 1), "{sizes:?}");
    }
}

#[test]
fn only_whole_chunks_of_a_prompt_are_reused() {
    let limits = Limits { reuse: Reuse::Parts, ..Size::default().limits };
    let mut stage = stage(Size { limits, ..Size::default() });
    let mut first = stage.open(&marked(21, 0), deterministic(5)).expect("opened");
    read(&mut stage, &mut first);
    let mut longer = marked(21, 0);
    longer.extend([MARK; 10]);
    for (prompt, cached) in [(longer, 16), (marked(21, 0), 16), (marked(16, 0), 8), (marked(7, 0), 0)] {
        let mut stream = stage.open(&prompt, deterministic(5)).expect("opened");
        assert_eq!(read(&mut stage, &mut stream).text(), alone(&prompt, 5));
        assert_eq!(stream.usage().cached_tokens, cached);
    }
}

#[test]
fn prompts_of_deterministic_streams_share_nothing_with_the_pool() {
    let limits = Limits { reuse: Reuse::Parts, ..Size::default().limits };
    let mut stage = stage(Size { limits, ..Size::default() });
    let mut plain = stage.open(&marked(40, 0), config(5)).expect("opened");
    read(&mut stage, &mut plain);
    let mut exact = stage.open(&marked(40, 0), deterministic(5)).expect("opened");
    read(&mut stage, &mut exact);
    assert_eq!(exact.usage().cached_tokens, 0);
    let mut again = stage.open(&marked(40, 0), config(5)).expect("opened");
    read(&mut stage, &mut again);
    assert_eq!(again.usage().cached_tokens, 39, "and the pool keeps what it has");
}

#[test]
fn higher_priorities_go_first_but_not_for_ever() {
    let mut stage = stage(Size { queue: 100, ..Size::default() });
    let mut old = stage.open(&marked(3, 0), deterministic(2)).expect("opened");
    let urgent: Vec<TokenStream> =
        (1..10).map(|seed| stage.open(&marked(3, seed), deterministic(2).priority(1)).expect("opened")).collect();
    let before_the_old_one = (0..100).find(|_| {
        stage.step();
        take(&mut old).over
    });
    let mut urgent = urgent;
    let served = urgent.iter_mut().filter_map(|stream| take(stream).over.then_some(())).count();
    assert_eq!((before_the_old_one.map(|steps| steps + 1), served), (Some(10), 4));
    urgent.retain(|stream| stream.finish_reason().is_none());
    read_all(&mut stage, &mut urgent);
}

#[test]
fn the_next_deterministic_stream_starts_when_one_leaves_or_expires() {
    let mut stage = stage(Size::default());
    let left = stage.open(&marked(40, 0), deterministic(100)).expect("opened");
    let mut late = stage.open(&marked(40, 1), deterministic(100).timeout_ms(20)).expect("opened");
    let mut next = stage.open(&marked(40, 2), deterministic(10)).expect("opened");
    steps(&mut stage, 3);
    drop(left);
    stage.clock.advance(ms(30));
    assert_eq!(read(&mut stage, &mut next).text(), alone(&marked(40, 2), 10));
    assert_eq!(take(&mut late).code(), Some("STREAM_TIMEOUT"));
    assert_eq!(stage.unfinished(), 0);
}

#[test]
fn a_failed_decode_of_a_deterministic_stream_fails_that_stream_alone() {
    for lost in [true, false] {
        let mut stage = stage(Size::default());
        let plain = stage.open(&[1], config(50)).expect("opened");
        let waits = stage.open(&[2], config(50).buffer_size(1)).expect("opened");
        steps(&mut stage, 3);
        let (error, said) = (|| Error::DecodeFailed { status: -3, said: vec!["lost".into()] }, "lost");
        let mut hit = stage.open(&marked(10, 0), deterministic(50)).expect("opened");
        let next = stage.open(&marked(10, 1), deterministic(5)).expect("opened");
        // After a step of the batch, the deterministic stream's step comes first.
        stage.fail_next_decode(if lost { error() } else { Error::InvalidBatch { said: vec![said.into()] } });
        steps(&mut stage, 1);
        let failed = take(&mut hit);
        assert_eq!(failed.code(), Some("GENERATION_ERROR"), "{said}: {:?}", failed.error);
        let got = read_all(&mut stage, &mut [plain, waits, next]);
        assert_eq!(got[0].text(), alone(&[1], 50));
        assert_eq!(got[1].text(), alone(&[2], 50));
        assert_eq!(got[2].text(), alone(&marked(10, 1), 5));
    }
}

#[test]
fn the_steps_of_deterministic_streams_are_in_the_statistics() {
    let mut stage = Stage::new(Size { asynchronous: true, ..Size::default() }, hashed(), |_| ms(1));
    let mut stream = stage.open(&marked(16, 0), deterministic(10)).expect("opened");
    steps(&mut stage, 3);
    assert_eq!((stage.stats().running, stage.stats().queued), (1, 0));
    read(&mut stage, &mut stream);
    let stats = stage.stats();
    assert_eq!((stats.prefill_steps.count, stats.decode_steps.count, stats.tokens_generated), (2, 9, 10));
    assert_eq!(stats.prefill_steps.total + stats.decode_steps.total, now(&stage));
}

/// Two streams of 200 tokens whose buffers hold one; in turn, one of them is read every 10 ms. Returns their texts.
fn read_slowly(stage: &mut Stage) -> Vec<String> {
    let open = |seed| stage.open(&marked(20, seed), deterministic(200).buffer_size(1)).expect("opened");
    let mut streams: Vec<TokenStream> = (0..2).map(open).collect();
    let mut texts = vec![String::new(); 2];
    for turn in 0..10_000 {
        stage.settle();
        stage.clock.advance(ms(10));
        let at = turn % 2;
        texts[at] += &take(&mut streams[at]).text();
        if streams.iter().all(|stream| stream.finish_reason().is_some()) && stage.unfinished() == 0 {
            texts[1 - at] += &take(&mut streams[1 - at]).text();
            return texts;
        }
    }
    panic!("the streams do not end: {texts:?}");
}

#[test]
fn streams_with_slow_readers_are_not_copied_for_every_token() {
    for (copied_token, most) in [(ms(0), 20), (ms(1), 8)] {
        let mut stage = stage(Size { prefix_cache_bytes: 1 << 20, ..Size::default() });
        stage.set_prices(Prices { copied_token, ..Prices::default() });
        let texts = read_slowly(&mut stage);
        assert_eq!(texts, [alone(&marked(20, 0), 200), alone(&marked(20, 1), 200)]);
        let stats = stage.stats();
        assert!((1..=most).contains(&stats.offloads), "{} copies, {} expected at most", stats.offloads, most);
        assert!(stats.restores <= stats.offloads && stats.prefix_bytes == 0, "{stats:?}");
    }
}

#[test]
fn a_stream_whose_reader_never_reads_gives_way_after_a_short_time() {
    let mut stage = stage(Size { prefix_cache_bytes: 1 << 20, ..Size::default() });
    let _unread = stage.open(&marked(20, 0), deterministic(30).buffer_size(5)).expect("opened");
    stage.settle();
    let mut next = stage.open(&marked(20, 1), deterministic(10)).expect("opened");
    let began = now(&stage);
    assert_eq!(read(&mut stage, &mut next).text(), alone(&marked(20, 1), 10));
    let waited = now(&stage).saturating_sub(began);
    assert!(waited < ms(50), "it waited for {waited:?}");
    assert_eq!((stage.stats().offloads, stage.stats().prefix_bytes), (1, 4 * 24), "the copy is in the statistics");
}

#[test]
fn a_copy_that_fails_costs_neither_stream_its_text() {
    let mut stage = stage(Size { prefix_cache_bytes: 1 << 20, ..Size::default() });
    let mut paused = stage.open(&marked(20, 0), deterministic(30).buffer_size(5)).expect("opened");
    stage.settle();
    stage.fail_next_copy(Error::InvalidBatch { said: vec!["no copy".into()] });
    let mut next = stage.open(&marked(20, 1), deterministic(10)).expect("opened");
    assert_eq!(read(&mut stage, &mut next).text(), alone(&marked(20, 1), 10));
    assert_eq!(stage.stats().offloads, 0);
    assert_eq!(read(&mut stage, &mut paused).text(), alone(&marked(20, 0), 30));
}

#[test]
fn a_context_that_was_refused_is_not_requested_for_each_stream_of_the_next_second() {
    let mut stage = stage(Size::default());
    stage.fail_next_isolated(Error::InvalidBatch { said: vec!["no memory".into()] });
    for _ in 0..3 {
        let mut refused = stage.open(&marked(20, 0), deterministic(5)).expect("opened");
        assert_eq!(read(&mut stage, &mut refused).code(), Some("GENERATION_ERROR"));
    }
    stage.clock.advance(ms(1_000));
    let mut later = stage.open(&marked(20, 0), deterministic(5)).expect("opened");
    assert_eq!(read(&mut stage, &mut later).text(), alone(&marked(20, 0), 5));
}

#[test]
fn other_streams_go_on_while_the_context_of_a_deterministic_stream_is_created() {
    let mut stage = stage(Size::default());
    let mut running = stage.open(&[1], config(30)).expect("opened");
    steps(&mut stage, 3);
    stage.hold_work();
    let mut exact = stage.open(&marked(20, 0), deterministic(10)).expect("opened");
    steps(&mut stage, 27);
    assert_eq!(take(&mut running).tokens.len(), 30, "every step was its own");
    assert_eq!(exact.buffered(), 0);
    assert!(matches!(stage.step(), Step::Idle { .. }), "the engine sleeps until the context is there");
    assert_eq!(stage.do_held_work(), 1);
    assert_eq!(read(&mut stage, &mut exact).text(), alone(&marked(20, 0), 10));
}

#[test]
fn a_deterministic_stream_that_leaves_before_its_context_exists_leaves_the_context_to_the_next() {
    let mut stage = stage(Size::default());
    stage.hold_work();
    let left = stage.open(&marked(20, 0), deterministic(10)).expect("opened");
    stage.settle();
    drop(left);
    stage.settle();
    assert_eq!(stage.unfinished(), 0);
    let mut next = stage.open(&marked(20, 1), deterministic(10)).expect("opened");
    stage.settle();
    assert_eq!(stage.do_held_work(), 1, "one context is created for both");
    assert_eq!(read(&mut stage, &mut next).text(), alone(&marked(20, 1), 10));
}

#[test]
fn a_deterministic_stream_whose_time_is_over_before_its_context_exists_says_so() {
    let mut stage = stage(Size::default());
    stage.hold_work();
    let mut late = stage.open(&marked(20, 0), deterministic(10).timeout_ms(50)).expect("opened");
    stage.settle();
    stage.clock.advance(ms(51));
    assert_eq!(read(&mut stage, &mut late).code(), Some("STREAM_TIMEOUT"));
}

#[test]
fn an_engine_whose_waiting_deterministic_streams_have_all_left_sleeps_without_a_limit() {
    let mut stage = stage(Size::default());
    let holder = stage.open(&marked(20, 0), deterministic(30).buffer_size(1).timeout_ms(None)).expect("opened");
    stage.settle();
    let waits = stage.open(&marked(20, 1), deterministic(10).timeout_ms(None)).expect("opened");
    let idle = stage.step();
    assert!(matches!(idle, Step::Idle { until: Some(_) }), "it waits for the holder's reader: {idle:?}");
    drop((holder, waits));
    assert_eq!(stage.step(), Step::Idle { until: None });
    stage.clock.advance(ms(1_000));
    assert_eq!(stage.step(), Step::Idle { until: None });
}
