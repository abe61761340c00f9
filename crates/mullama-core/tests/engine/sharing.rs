//! Shared prefixes are computed once.

use mullama::testing::{Limits, Reuse, Size, Stage};
use mullama::{FinishReason, TokenId, TokenStream};

use crate::support::{Got, alone, config, prompt, read, read_all, rows, stage, steps};

/// A stage with a pool of this many cells, whose backend can share KV in this way.
fn sharing(reuse: Reuse, cells: usize) -> Stage {
    let limits = Limits { rows: 512, cells, n_seq: 24, reuse };
    stage(Size { limits, context_len: cells.min(1024), prefix_cache_bytes: 1 << 20, ..Size::default() })
}

fn computed(stage: &Stage) -> usize {
    rows(stage).iter().sum()
}

#[test]
fn only_the_last_token_of_a_repeated_prompt_is_computed() {
    for len in [8, 40, 300] {
        let mut stage = sharing(Reuse::Parts, 1024);
        let mut first = stage.open(&prompt(len, 0), config(5)).unwrap();
        let text = read(&mut stage, &mut first).text();
        assert_eq!((first.usage().cached_tokens, computed(&stage)), (0, len + 4));
        let mut again = stage.open(&prompt(len, 0), config(5)).unwrap();
        assert_eq!(read(&mut stage, &mut again).text(), text);
        assert_eq!((again.usage().cached_tokens, computed(&stage)), (len - 1, 5));
        assert_eq!((stage.stats().prefix_hits, stage.stats().tokens_saved), (1, len as u64 - 1));
    }
}

#[test]
fn a_running_and_a_paused_stream_share_their_prefixes_too() {
    let mut stage = sharing(Reuse::Parts, 1024);
    let mut paused = stage.open(&prompt(60, 0), config(50).buffer_size(2)).unwrap();
    stage.settle();
    let mut running = stage.open(&prompt(60, 0), config(50)).unwrap();
    assert_eq!(read(&mut stage, &mut running).text(), alone(&prompt(60, 0), 50));
    assert_eq!(running.usage().cached_tokens, 59);
    assert_eq!(read(&mut stage, &mut paused).text(), alone(&prompt(60, 0), 50));
}

#[test]
fn the_longest_prefix_is_taken() {
    let mut stage = sharing(Reuse::Parts, 1024);
    let with_tail = |len: usize, tail: TokenId| [prompt(len, 0), vec![tail; 20]].concat();
    for (len, tail) in [(20, 1), (50, 2), (35, 3)] {
        let mut stream = stage.open(&with_tail(len, tail), config(2)).unwrap();
        read(&mut stage, &mut stream);
    }
    let mut stream = stage.open(&with_tail(50, 9), config(4)).unwrap();
    assert_eq!(read(&mut stage, &mut stream).text(), alone(&with_tail(50, 9), 4));
    assert_eq!(stream.usage().cached_tokens, 50);
}

#[test]
fn equal_prompts_that_arrive_together_are_computed_once() {
    let mut stage = sharing(Reuse::Parts, 1024);
    let mut streams: Vec<TokenStream> = (0..8).map(|_| stage.open(&prompt(200, 0), config(3)).unwrap()).collect();
    let texts: Vec<String> = read_all(&mut stage, &mut streams).iter().map(Got::text).collect();
    assert_eq!(texts, vec![alone(&prompt(200, 0), 3); 8]);
    // The prompt is computed once, its last token for each of the seven others, and two more tokens for each.
    assert_eq!(computed(&stage), 200 + 7 + 8 * 2);
    let cached: Vec<usize> = streams.iter().map(|stream| stream.usage().cached_tokens).collect();
    assert_eq!(cached, [0, 199, 199, 199, 199, 199, 199, 199]);
}

#[test]
fn a_stream_that_waits_for_a_prefix_starts_as_soon_as_it_is_computed() {
    let mut stage = sharing(Reuse::Parts, 1024);
    let streams: Vec<TokenStream> = (0..8).map(|_| stage.open(&prompt(200, 0), config(9)).unwrap()).collect();
    while streams[0].usage().completion_tokens == 0 {
        stage.step();
    }
    steps(&mut stage, 1);
    assert!(streams.iter().all(|stream| stream.usage().completion_tokens >= 1), "one step after the first");
}

#[test]
fn eight_equal_prompts_fit_a_pool_that_holds_two_of_them() {
    let mut stage = sharing(Reuse::Parts, 256);
    let mut streams: Vec<TokenStream> = (0..8).map(|_| stage.open(&prompt(120, 0), config(10)).unwrap()).collect();
    let texts: Vec<String> = read_all(&mut stage, &mut streams).iter().map(Got::text).collect();
    assert_eq!(texts, vec![alone(&prompt(120, 0), 10); 8]);
    assert_eq!(stage.stats().preemptions, 0);
}

#[test]
fn a_follower_whose_leader_leaves_computes_the_rest_itself() {
    let mut stage = sharing(Reuse::Parts, 1024);
    let prefix_source = stage.open(&prompt(300, 0), config(5)).unwrap();
    let mut follower = stage.open(&prompt(300, 0), config(5)).unwrap();
    steps(&mut stage, 2);
    drop(prefix_source);
    assert_eq!(read(&mut stage, &mut follower).text(), alone(&prompt(300, 0), 5));
    assert!(
        follower.usage().cached_tokens >= 32,
        "what the prefix_source had computed is not lost: {:?}",
        follower.usage()
    );
}

#[test]
fn a_state_that_is_only_usable_whole_is_shared_whole_or_not_at_all() {
    let mut stage = sharing(Reuse::Whole, 1024);
    let mut first = stage.open(&prompt(40, 0), config(4)).unwrap();
    let text = read(&mut stage, &mut first).text();
    let mut same = stage.open(&prompt(40, 0), config(4)).unwrap();
    assert_eq!((read(&mut stage, &mut same).text(), same.usage().cached_tokens), (text.clone(), 0));
    // The whole state: the prompt, and all tokens except the last.
    let longer = [prompt(40, 0), text.bytes().map(TokenId::from).collect()].concat();
    let mut grown = stage.open(&longer, config(4)).unwrap();
    assert_eq!(read(&mut stage, &mut grown).text(), alone(&longer, 4));
    assert_eq!(grown.usage().cached_tokens, 43);
}

#[test]
fn without_shareable_kv_everything_is_computed() {
    let mut stage = sharing(Reuse::Nothing, 1024);
    for _ in 0..3 {
        let mut stream = stage.open(&prompt(40, 0), config(4)).unwrap();
        assert_eq!(read(&mut stage, &mut stream).text(), alone(&prompt(40, 0), 4));
        assert_eq!(stream.usage().cached_tokens, 0);
    }
}

#[test]
fn a_preempted_stream_is_restored_from_host_memory_without_recomputing() {
    let mut stage = sharing(Reuse::Parts, 256);
    let mut paused = stage.open(&prompt(150, 0), config(60).buffer_size(4)).unwrap();
    stage.settle();
    let mut other = stage.open(&prompt(150, 1), config(60)).unwrap();
    let text = read(&mut stage, &mut other).text();
    assert_eq!((text, stage.stats().preemptions), (alone(&prompt(150, 1), 60), 1));
    rows(&stage);
    assert_eq!(read(&mut stage, &mut paused).text(), alone(&prompt(150, 0), 60));
    assert_eq!(paused.finish_reason(), Some(FinishReason::Length));
    assert_eq!(computed(&stage), 56, "only the tokens after the fourth were computed");
}

#[test]
fn cached_prefixes_are_evicted_before_paused_streams_are_preempted() {
    let mut stage = sharing(Reuse::Parts, 256);
    let mut finished = stage.open(&prompt(14, 0), config(1)).unwrap();
    read(&mut stage, &mut finished);
    let paused = stage.open(&prompt(100, 1), config(60).buffer_size(1)).unwrap();
    stage.settle();
    assert!(stage.stats().cells_cached > 0);
    let mut last = stage.open(&prompt(100, 2), config(50)).unwrap();
    assert_eq!(read(&mut stage, &mut last).text(), alone(&prompt(100, 2), 50));
    assert_eq!(stage.stats().preemptions, 0, "the paused stream kept its cells");
    drop(paused);
}

#[test]
fn prefixes_of_a_lost_context_are_never_shared() {
    let mut stage = sharing(Reuse::Parts, 1024);
    let mut first = stage.open(&prompt(20, 0), config(3)).unwrap();
    read(&mut stage, &mut first);
    let mut failing = stage.open(&prompt(20, 1), config(3)).unwrap();
    stage.fail_next_decode(mullama_ffi::Error::Exception { call: "llama_decode", text: "a test".into() });
    assert_eq!(read(&mut stage, &mut failing).code(), Some("GENERATION_ERROR"));
    let mut again = stage.open(&prompt(20, 0), config(3)).unwrap();
    assert_eq!(read(&mut stage, &mut again).text(), alone(&prompt(20, 0), 3));
    assert_eq!(again.usage().cached_tokens, 0);
}
