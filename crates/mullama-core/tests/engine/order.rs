//! The order of service: priority first, then the order of the calls; no stream waits forever, and excess calls are
//! refused.

use mullama::testing::{Limits, Reuse, Size, Stage};
use mullama::{MullamaError, TokenStream};

use crate::support::{STEP, alone, config, hashed, prompt, read, read_all, rows, slots, stage, steps, take};

/// The order in which streams of one token each are served on a single slot.
fn served(priorities: &[i32]) -> Vec<usize> {
    let mut stage = stage(slots(1));
    let open =
        |(seed, &priority): (usize, &i32)| stage.open(&prompt(2, seed), config(1).priority(priority)).expect("opened");
    let streams: Vec<TokenStream> = priorities.iter().enumerate().map(open).collect();
    let mut order = Vec::new();
    for _ in 0..streams.len() {
        stage.step();
        let done = |at: &usize| streams[*at].buffered() == 1 && !order.contains(at);
        let next = (0..streams.len()).find(done).expect("one stream a step");
        order.push(next);
    }
    order
}

#[test]
fn first_come_first_served() {
    assert_eq!(served(&[0; 6]), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn higher_priorities_go_first_and_equal_ones_in_the_order_of_their_calls() {
    assert_eq!(served(&[0, 5, -3, 5, i32::MAX, i32::MIN, 0]), [4, 1, 3, 0, 6, 2, 5]);
}

#[test]
fn a_higher_priority_takes_no_slot_from_a_running_stream() {
    let mut stage = stage(slots(1));
    let running = stage.open(&[1], config(10)).unwrap();
    steps(&mut stage, 2);
    let urgent = stage.open(&[2], config(10).priority(100)).unwrap();
    steps(&mut stage, 8);
    assert_eq!((running.buffered(), urgent.buffered()), (10, 0));
}

#[test]
fn of_thirty_two_calls_eight_slots_and_a_queue_of_sixteen_accept_twenty_four() {
    let mut stage = stage(Size { queue: 16, ..Size::default() });
    let calls: Vec<_> = (0..32).map(|seed| stage.open(&prompt(3, seed), config(20))).collect();
    let (run, refused): (Vec<_>, Vec<_>) = calls.into_iter().partition(Result::is_ok);
    assert_eq!((run.len(), refused.len()), (24, 8));
    for call in refused {
        assert!(matches!(call, Err(MullamaError::Overloaded { unfinished: 24, limit: 24 })), "{call:?}");
    }
    let mut streams: Vec<TokenStream> = run.into_iter().map(Result::unwrap).collect();
    for (seed, got) in read_all(&mut stage, &mut streams).iter().enumerate() {
        assert_eq!(got.text(), alone(&prompt(3, seed), 20));
    }
    stage.open(&[1], config(1)).expect("after they have ended, a call is accepted again");
}

#[test]
fn a_paused_stream_is_unfinished_and_leaves_the_queue_and_one_that_ended_unread_is_not_counted() {
    let mut stage = stage(Size { slots: 1, queue: 1, ..Size::default() });
    let paused = stage.open(&[1], config(100).buffer_size(1)).unwrap();
    let ended = stage.open(&[2], config(5)).unwrap();
    assert!(stage.open(&[3], config(1)).is_err());
    stage.settle();
    assert_eq!((stage.unfinished(), ended.buffered()), (1, 5));
    let others = [3, 4].map(|token| stage.open(&[token], config(1)).expect("the slot and the queue are free"));
    assert_eq!(stage.open(&[5], config(1)).unwrap_err().code(), "OVERLOADED");
    drop((paused, others));
}

#[test]
fn eight_streams_run_in_one_batch() {
    let mut stage = stage(slots(8));
    let mut streams: Vec<TokenStream> = (0..8).map(|seed| stage.open(&prompt(2, seed), config(10)).unwrap()).collect();
    read_all(&mut stage, &mut streams);
    assert_eq!(rows(&stage), [[16].as_slice(), &[8; 9]].concat());
}

#[test]
fn a_long_prompt_beside_running_streams_is_computed_in_small_chunks_and_delays_none() {
    let mut stage = Stage::new(slots(8), hashed(), |rows| STEP * u32::try_from(rows).expect("few rows"));
    let running = stage.open(&[1], config(100)).unwrap();
    steps(&mut stage, 1);
    let long = stage.open(&prompt(500, 1), config(5)).unwrap();
    let before = running.buffered();
    while long.usage().completion_tokens == 0 {
        let had = running.usage().completion_tokens;
        stage.step();
        assert_eq!(running.usage().completion_tokens, had + 1, "the running stream gets a token each step");
    }
    assert!(running.buffered() > before);
    let rows = rows(&stage);
    assert!(rows.iter().all(|&rows| rows <= 21), "a millisecond a row and twenty beside a stream: {rows:?}");
}

/// Runs one step; then the readers whose buffers were full before it take a token: each is paused for a step, then
/// resumes.
fn step_with_lagging_readers(stage: &mut Stage, streams: &mut [TokenStream]) {
    let full: Vec<bool> = streams.iter().map(|stream| stream.buffered() == 1).collect();
    stage.step();
    streams.iter_mut().zip(full).filter(|(_, full)| *full).for_each(|(stream, _)| drop(take(stream)));
}

/// Keeps `count` streams with slow readers busy, and counts the steps until a later stream has its first token.
fn steps_until_served(slots: usize, count: usize) -> usize {
    let mut stage = stage(crate::support::slots(slots));
    let open = |seed| stage.open(&prompt(2, seed), config(900).buffer_size(1)).expect("opened");
    let mut busy: Vec<TokenStream> = (0..count).map(open).collect();
    while busy.iter().any(|stream| stream.usage().completion_tokens == 0) {
        step_with_lagging_readers(&mut stage, &mut busy);
    }
    let late = stage.open(&[3], config(1)).expect("opened");
    for step in 0..800 {
        if late.buffered() == 1 {
            return step;
        }
        step_with_lagging_readers(&mut stage, &mut busy);
    }
    panic!("the late stream starves behind {count} busy ones on {slots} slots");
}

#[test]
fn the_queue_does_not_starve_behind_streams_that_resume_repeatedly() {
    for (slots, count) in [(1, 2), (2, 3), (4, 12), (8, 60)] {
        let steps = steps_until_served(slots, count);
        assert!(steps <= 40, "{steps} steps for a slot beside {count} on {slots} slots");
    }
}

#[test]
fn streams_that_resume_repeatedly_do_not_starve_behind_the_queue() {
    let mut stage = stage(slots(1));
    let mut woken = stage.open(&[1], config(50).buffer_size(1)).unwrap();
    steps(&mut stage, 1);
    let mut queue = Vec::new();
    for step in 0..2_000 {
        if queue.len() < 40 {
            queue.push(stage.open(&prompt(2, step), config(2)).unwrap());
        }
        stage.step();
        take(&mut woken);
        queue.retain_mut(|stream| !take(stream).over);
        if woken.finish_reason().is_some() {
            assert!(step < 500, "{step}");
            return;
        }
    }
    panic!("{} of 50 tokens in 2,000 steps", woken.tokens_generated());
}

#[test]
fn a_long_prompt_that_needs_the_pool_gets_it_although_short_ones_keep_coming() {
    let limits = Limits { rows: 512, cells: 256, n_seq: 16, reuse: Reuse::Nothing };
    let mut stage = stage(Size { slots: 4, queue: 64, context_len: 256, limits, ..Size::default() });
    let short = |stage: &Stage, seed| stage.open(&prompt(20, seed), config(30).buffer_size(2)).unwrap();
    let mut busy: Vec<TokenStream> = (0..6).map(|seed| short(&stage, seed)).collect();
    steps(&mut stage, 5);
    let mut long = stage.open(&prompt(240, 99), config(10)).unwrap();
    for step in 0..3_000 {
        busy.retain_mut(|stream| !take(stream).over);
        while busy.len() < 6 {
            busy.push(short(&stage, step));
        }
        stage.step();
        if long.usage().completion_tokens > 0 {
            assert_eq!(read(&mut stage, &mut long).text(), alone(&prompt(240, 99), 10));
            return;
        }
    }
    panic!("the long prompt starves");
}

#[test]
fn started_streams_take_turns_on_one_slot() {
    let mut stage = stage(slots(1));
    let open = |seed| stage.open(&prompt(2, seed), config(60).buffer_size(1)).unwrap();
    let mut streams: Vec<TokenStream> = (0..3).map(open).collect();
    for _ in 0..150 {
        step_with_lagging_readers(&mut stage, &mut streams);
    }
    let computed: Vec<usize> = streams.iter().map(|stream| stream.usage().completion_tokens).collect();
    assert!(computed.iter().all(|&tokens| tokens >= 20), "every stream progresses: {computed:?}");
}

#[test]
fn higher_priorities_that_keep_coming_do_not_starve_a_lower_one() {
    let mut stage = stage(slots(1));
    let mut humble = stage.open(&prompt(2, 0), config(3)).unwrap();
    let mut proud: Vec<TokenStream> = Vec::new();
    for seed in 1..60 {
        proud.push(stage.open(&prompt(2, seed), config(3).priority(5)).unwrap());
        steps(&mut stage, 3);
        for stream in &mut proud {
            take(stream);
        }
    }
    assert_eq!(take(&mut humble).tokens.len(), 3);
}

#[test]
fn streams_that_come_and_go_between_two_steps_leave_no_work() {
    let mut stage = stage(slots(2));
    for seed in 0..5_000 {
        drop(stage.open(&prompt(900, seed), config(3)).unwrap());
    }
    assert_eq!((stage.settle(), stage.unfinished()), (0, 0));
}
