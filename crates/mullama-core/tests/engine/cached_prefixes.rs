//! Cells of finished streams stay in the pool until they are needed, and are copied only where that pays.

use std::time::Duration;

use mullama::TokenId;
use mullama::testing::{Limits, Prices, Reuse, Size, Stage};

use crate::support::{STEP, alone, config, hashed, ms, now, prompt, read, read_all, rows, stage, steps};

/// A stage with a pool of this many cells and this much host memory. A decode takes 1 ms.
fn pool(reuse: Reuse, cells: usize, n_seq: usize, prefix_cache_bytes: usize) -> Stage {
    let limits = Limits { rows: 512, cells, n_seq, reuse };
    stage(Size { limits, context_len: cells.min(1024), prefix_cache_bytes, ..Size::default() })
}

/// Runs a stream with this prompt to the end; returns its text, and how many tokens of the prompt were cached.
fn run(stage: &mut Stage, prompt: &[TokenId], max_tokens: u32) -> (String, usize) {
    let mut stream = stage.open(prompt, config(max_tokens)).expect("opened");
    let text = read(stage, &mut stream).text();
    (text, stream.usage().cached_tokens)
}

fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

#[test]
fn eight_different_streams_that_finish_in_a_pool_with_room_cause_no_copies() {
    for reuse in [Reuse::Parts, Reuse::Whole] {
        let mut stage = pool(reuse, 2048, 72, 1 << 20);
        stage.set_prices(Prices { copied_token: micros(100), ..Prices::default() });
        for round in 0..2 {
            let open = |seed: usize| {
                stage.open(&prompt(60, seed + 8 * round), config(20 + 9 * u32::try_from(seed).unwrap())).unwrap()
            };
            let mut streams: Vec<_> = (0..8).map(open).collect();
            read_all(&mut stage, &mut streams);
        }
        stage.settle();
        let stats = stage.stats();
        assert_eq!((stats.offloads, stats.restores, stats.prefix_bytes), (0, 0, 0), "{stats:?}");
        assert!(stats.cells_cached > 16 * 79, "{stats:?}");
    }
}

#[test]
fn a_conversation_that_is_larger_than_host_memory_is_computed_once() {
    for prefix_cache_bytes in [0, 100, 2_000] {
        let mut stage = pool(Reuse::Parts, 1024, 72, prefix_cache_bytes);
        let mut conversation = prompt(800, 0);
        let (text, _) = run(&mut stage, &conversation, 20);
        assert_eq!(rows(&stage).iter().sum::<usize>(), 819);
        conversation.extend(text.bytes().map(TokenId::from).chain(prompt(30, 1)));
        let (text, cached) = run(&mut stage, &conversation, 20);
        assert_eq!((text, cached), (alone(&conversation, 20), 819));
        assert_eq!(rows(&stage).iter().sum::<usize>(), 850 - 819 + 19, "only the new tokens are computed");
    }
}

#[test]
fn prefixes_that_must_leave_the_pool_are_offloaded_and_restored() {
    let mut stage = pool(Reuse::Parts, 1024, 72, 1 << 20);
    for seed in 0..12 {
        run(&mut stage, &prompt(200, seed), 3);
    }
    for seed in 0..12 {
        let (text, cached) = run(&mut stage, &prompt(200, seed), 3);
        assert_eq!((text, cached), (alone(&prompt(200, seed), 3), 199), "seed {seed}");
    }
    let stats = stage.stats();
    assert!(stats.restores >= 7 && stats.prefix_bytes >= 7 * 200 * 4, "{stats:?}");
}

#[test]
fn a_prefix_offloaded_in_parts_is_restored_whole_or_as_far_as_it_is_usable() {
    let mut stage = pool(Reuse::Parts, 1024, 72, 1 << 20);
    stage.set_prices(Prices { copied_token: micros(300), ..Prices::default() });
    let long = prompt(600, 0);
    run(&mut stage, &long, 3);
    // The pool is nearly full after this, so the first prefix is copied in advance.
    run(&mut stage, &prompt(380, 1), 3);
    stage.settle();
    assert!(stage.stats().offloads >= 3, "{:?}", stage.stats());
    run(&mut stage, &prompt(500, 2), 3);
    let branch = [&long[..350], &prompt(40, 3)[..]].concat();
    assert_eq!(run(&mut stage, &branch, 5), (alone(&branch, 5), 350));
    assert_eq!(run(&mut stage, &long, 5), (alone(&long, 5), 599));
}

#[test]
fn copies_delay_a_running_stream_by_at_most_twenty_milliseconds() {
    let mut stage = pool(Reuse::Parts, 1100, 72, 1 << 20);
    stage.set_prices(Prices { copied_token: micros(200), ..Prices::default() });
    run(&mut stage, &prompt(700, 0), 3);
    let stream = stage.open(&prompt(200, 1), config(190).buffer_size(200)).unwrap();
    let mut longest = ms(0);
    while stream.usage().completion_tokens < 190 {
        let began = now(&stage);
        stage.step();
        // A step of the prompt is kept shorter than the limit, because this test is about copies.
        if stream.usage().completion_tokens > 1 {
            longest = longest.max(now(&stage).checked_sub(began).unwrap());
        }
    }
    assert!(stage.stats().offloads >= 5, "{:?}", stage.stats());
    assert!(longest > ms(5) && longest <= ms(20) + STEP, "{longest:?}");
    assert_eq!(run(&mut stage, &prompt(700, 0), 3).1, 699, "nothing was lost");
}

#[test]
fn idle_cells_that_cost_more_than_a_copy_are_freed() {
    let mut stage = pool(Reuse::Parts, 4096, 72, 1 << 20);
    stage.set_prices(Prices { idle_cell: Duration::from_nanos(100), copied_token: micros(1) });
    for seed in 0..8 {
        run(&mut stage, &prompt(375, seed), 2);
    }
    let mut streams: Vec<_> = (0..8).map(|seed| stage.open(&prompt(20, 90 + seed), config(60)).unwrap()).collect();
    read_all(&mut stage, &mut streams);
    let stats = stage.stats();
    assert!(stats.cells_cached < 1_500 && stats.offloads >= 7, "{stats:?}");
    for seed in 0..8 {
        assert_eq!(run(&mut stage, &prompt(375, seed), 2).1, 374, "nothing was lost");
    }
}

#[test]
fn costly_idle_cells_stay_in_the_pool_if_host_memory_cannot_take_them() {
    for prefix_cache_bytes in [0, 600] {
        let mut stage = pool(Reuse::Parts, 2048, 72, prefix_cache_bytes);
        stage.set_prices(Prices { idle_cell: Duration::from_nanos(100), copied_token: micros(1) });
        for round in 0..3 {
            for seed in 0..4 {
                let cached = run(&mut stage, &prompt(375, seed), 20).1;
                assert_eq!(cached, if round == 0 { 0 } else { 374 }, "{prefix_cache_bytes} bytes, round {round}");
            }
        }
    }
}

#[test]
fn idle_cells_that_cost_nothing_stay_however_long_others_run() {
    let mut stage = Stage::new(
        Size {
            limits: Limits { rows: 512, cells: 4096, n_seq: 72, reuse: Reuse::Parts },
            prefix_cache_bytes: 1 << 20,
            ..Size::default()
        },
        hashed(),
        |rows| Duration::from_micros(500 + 20 * rows as u64),
    );
    stage.set_prices(Prices { copied_token: micros(5), ..Prices::default() });
    for seed in 0..6 {
        run(&mut stage, &prompt(300, seed), 40);
    }
    let mut streams: Vec<_> = (0..4).map(|seed| stage.open(&prompt(30, 50 + seed), config(400)).unwrap()).collect();
    read_all(&mut stage, &mut streams);
    assert_eq!(stage.stats().offloads, 0);
}

#[test]
fn finished_prefixes_give_their_seq_ids_to_new_streams() {
    for (reuse, n_seq) in [(Reuse::Parts, 4), (Reuse::Whole, 4), (Reuse::Whole, 9), (Reuse::Parts, 1)] {
        let mut stage = pool(reuse, 4096, n_seq, 1 << 20);
        for seed in 0..12 {
            let mut streams: Vec<_> =
                (0..4).map(|n| stage.open(&prompt(40, seed * 4 + n), config(10)).unwrap()).collect();
            for (n, got) in read_all(&mut stage, &mut streams).iter().enumerate() {
                assert_eq!(got.text(), alone(&prompt(40, seed * 4 + n), 10));
            }
        }
        assert_eq!(stage.stats().preemptions, 0, "cached prefixes go first");
    }
}

#[test]
fn a_stream_starts_at_once_in_a_pool_that_is_full_of_cached_prefixes() {
    let mut stage = pool(Reuse::Parts, 1024, 72, 1 << 20);
    for seed in 0..8 {
        run(&mut stage, &prompt(200, seed), 3);
    }
    let mut stream = stage.open(&prompt(1_000, 9), config(5)).unwrap();
    steps(&mut stage, 1);
    assert_eq!((stage.stats().queued, stage.stats().running), (0, 1));
    assert_eq!(read(&mut stage, &mut stream).text(), alone(&prompt(1_000, 9), 5));
}

#[test]
fn a_handle_tells_after_each_step_how_far_the_prompt_is_computed() {
    for deterministic in [false, true] {
        let mut stage = pool(Reuse::Parts, 1024, 4, 1 << 20);
        for (cached, config) in
            [(0, config(3)), (799, config(3))].map(|(n, config)| (n, config.deterministic(deterministic)))
        {
            let stream = stage.open(&prompt(800, 0), config).expect("opened");
            let mut told = vec![stream.handle().prefilled()];
            while stream.usage().completion_tokens == 0 {
                stage.step();
                told.push(stream.handle().prefilled());
            }
            assert!(told.is_sorted() && told.first() == Some(&0) && told.last() == Some(&800), "{told:?}");
            let usage = stream.usage();
            assert!(told.iter().all(|told| *told == 0 || *told >= usage.cached_tokens), "{told:?}");
            assert_eq!(usage.cached_tokens == 0, cached == 0);
            assert!(told.iter().any(|told| (1..800).contains(told)) || cached > 0, "{told:?}");
        }
    }
}
