//! When cells or seq_ids run short, streams wait and are recomputed: no delivered token is lost, repeated or changed.

use mullama::TokenStream;
use mullama::testing::{Limits, Reuse, Size, Stage, Step};

use crate::support::{Got, alone, config, pool, prompt, read, read_all, rows, stage, steps, take};

/// Opens streams with prompts of this length.
fn open(stage: &Stage, count: usize, len: usize, max_tokens: u32, buffer: u32) -> Vec<TokenStream> {
    let config = || config(max_tokens).buffer_size(buffer);
    (0..count).map(|seed| stage.open(&prompt(len, seed), config()).expect("opened")).collect()
}

fn as_alone(got: &[Got], len: usize, max_tokens: u32) {
    for (seed, got) in got.iter().enumerate() {
        assert_eq!((got.code(), got.text()), (None, alone(&prompt(len, seed), max_tokens)), "stream {seed}");
        assert!(got.tokens.iter().enumerate().all(|(at, token)| token.index == at));
    }
}

#[test]
fn streams_that_need_more_cells_than_there_are_all_end_with_the_text_that_each_writes_alone() {
    for (slots, cells) in [(8, 128), (8, 100), (4, 90), (2, 90), (3, 81)] {
        let mut stage = stage(pool(slots, cells, 16));
        let mut streams = open(&stage, 12, 30, 50, 64);
        let got = read_all(&mut stage, &mut streams);
        as_alone(&got, 30, 50);
        let computed = stage.decodes().concat().len();
        assert!(computed > 12 * 79, "{slots} slots and {cells} cells: none was preempted, {computed} rows");
    }
}

#[test]
fn slow_readers_beside_fast_ones_in_a_small_pool_get_their_texts_whole() {
    let mut stage = stage(pool(4, 120, 8));
    let mut streams = open(&stage, 10, 25, 40, 3);
    let mut got: Vec<Got> = streams.iter().map(|_| Got::default()).collect();
    for step in 0..20_000 {
        stage.step();
        for (at, (got, stream)) in got.iter_mut().zip(&mut streams).enumerate() {
            if step % (1 + at * 3) == 0 {
                got.take(stream, 1 + at % 3);
            }
        }
        if got.iter().all(|got| got.over) {
            return as_alone(&got, 25, 40);
        }
    }
    panic!("the streams do not end: {got:?}");
}

#[test]
fn the_youngest_running_stream_is_preempted_and_those_before_it_never() {
    // Two of the three streams fit into the pool to their ends.
    let mut stage = stage(pool(3, 130, 8));
    let mut streams = open(&stage, 3, 20, 40, 64);
    as_alone(&read_all(&mut stage, &mut streams), 20, 40);
    let rows = stage.decodes().concat();
    for seed in 0..2 {
        let first = rows.iter().find(|row| row.position == 0 && row.token == prompt(20, seed)[0]).expect("it began");
        let positions: Vec<usize> =
            rows.iter().filter(|row| row.seq_id == first.seq_id).map(|row| row.position).collect();
        assert!(
            positions.starts_with(&(0..59).collect::<Vec<_>>()),
            "stream {seed} was computed in one go: {positions:?}"
        );
    }
}

#[test]
fn the_oldest_stream_is_computed_once_however_many_follow() {
    let mut stage = stage(pool(4, 100, 8));
    let mut first = stage.open(&prompt(30, 0), config(60)).unwrap();
    steps(&mut stage, 1);
    let seq_id = stage.decodes()[0][0].seq_id;
    let _others: Vec<TokenStream> = (1..6).map(|seed| stage.open(&prompt(30, seed), config(60)).unwrap()).collect();
    read(&mut stage, &mut first);
    let positions: Vec<usize> =
        stage.decodes().concat().iter().filter(|row| row.seq_id == seq_id).map(|row| row.position).collect();
    assert!(positions.starts_with(&(30..89).collect::<Vec<_>>()), "{positions:?}");
}

#[test]
fn the_longest_paused_stream_is_preempted_first_and_the_others_keep_their_cells() {
    let mut stage = stage(pool(4, 100, 8));
    let mut paused = open(&stage, 3, 20, 30, 2);
    // The second is read again later, so it has been paused for the shortest time.
    stage.settle();
    for at in [0, 2, 1] {
        take(&mut paused[at]);
        stage.settle();
    }
    let mut late = stage.open(&prompt(30, 9), config(10)).unwrap();
    assert_eq!(read(&mut stage, &mut late).text(), alone(&prompt(30, 9), 10));
    let recomputed: Vec<usize> = [1, 2, 0]
        .map(|at| {
            stage.decodes();
            paused[at].next_blocking().unwrap().unwrap();
            stage.settle();
            rows(&stage).iter().sum()
        })
        .to_vec();
    assert_eq!(recomputed, [1, 1, 24], "the first was paused longest: it alone is computed again");
    let got: Vec<String> = read_all(&mut stage, &mut paused).iter().map(Got::text).collect();
    for (seed, (got, stream)) in got.iter().zip(&paused).enumerate() {
        assert_eq!(stream.text(), alone(&prompt(20, seed), 30));
        assert!(stream.text().ends_with(got));
    }
}

#[test]
fn a_running_stream_keeps_its_cells_as_long_as_a_paused_one_has_some() {
    let mut stage = stage(pool(2, 100, 8));
    let mut paused = stage.open(&prompt(50, 0), config(30).buffer_size(1)).unwrap();
    stage.settle();
    let mut running = open(&stage, 1, 20, 60, 64).remove(0);
    stage.decodes();
    assert_eq!(read(&mut stage, &mut running).text(), alone(&prompt(20, 0), 60));
    assert_eq!(stage.decodes().concat().len(), 20 + 59, "the running one was computed once");
    assert_eq!(paused.text() + &read(&mut stage, &mut paused).text(), alone(&prompt(50, 0), 30));
}

#[test]
fn a_paused_stream_is_preempted_when_the_queue_waits_for_its_cells() {
    let mut stage = stage(pool(8, 100, 16));
    let _sleepers = open(&stage, 4, 22, 50, 2);
    stage.settle();
    let mut streams: Vec<TokenStream> = (0..3).map(|seed| stage.open(&prompt(40, seed), config(20)).unwrap()).collect();
    as_alone(&read_all(&mut stage, &mut streams), 40, 20);
}

/// There are more streams than seq_ids: each gets one in turn, and a plan that gave one to two streams would panic.
#[test]
fn streams_take_turns_where_seq_ids_are_fewer_than_streams() {
    for (slots, n_seq) in [(2, 2), (2, 3), (4, 4), (1, 1), (8, 9)] {
        let limits = Limits { rows: 512, cells: 1024, n_seq, reuse: Reuse::Nothing };
        let mut stage = stage(Size { slots, queue: 64, context_len: 256, limits, ..Size::default() });
        let mut streams = open(&stage, 12, 10, 20, 2);
        let mut got: Vec<Got> = streams.iter().map(|_| Got::default()).collect();
        for step in 0..5_000 {
            stage.step();
            for (at, (got, stream)) in got.iter_mut().zip(&mut streams).enumerate() {
                if (step + at) % 3 == 0 {
                    got.take(stream, 2);
                }
            }
        }
        as_alone(&got, 10, 20);
    }
}

#[test]
fn a_seq_id_is_never_given_to_two_streams_that_resume_at_once() {
    let limits = Limits { rows: 512, cells: 1024, n_seq: 2, reuse: Reuse::Nothing };
    let mut stage = stage(Size { slots: 2, queue: 8, context_len: 256, limits, ..Size::default() });
    let mut streams = open(&stage, 3, 4, 50, 1);
    stage.settle();
    // Two of the three have a seq_id, and all are paused. All are resumed at once, in every order.
    for round in 0..30 {
        for at in 0..3 {
            take(&mut streams[(at + round) % 3]);
        }
        assert_eq!(stage.step(), Step::Worked);
        stage.settle();
        assert!(streams.iter().all(|stream| stream.buffered() == 1), "each has had a turn");
    }
    for (seed, stream) in streams.iter().enumerate() {
        let text = stream.text();
        assert!(text.len() >= 30 && alone(&prompt(4, seed), 50).starts_with(&text));
    }
}

#[test]
fn a_context_that_fills_the_pool_alone_ends_with_length() {
    let mut stage = stage(pool(4, 64, 8));
    let mut streams = open(&stage, 3, 40, 1_000, 64);
    as_alone(&read_all(&mut stage, &mut streams), 40, 24);
    assert_eq!(stage.unfinished(), 0);
}
