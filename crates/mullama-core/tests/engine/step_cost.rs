//! The cost of a step is learnt from finished work, so that prompts never delay the streams beside them too long.

use std::time::Duration;

use mullama::TokenStream;
use mullama::testing::{Limits, Reuse, Size, Stage};

use crate::support::{config, hashed, ms, now, prompt, steps, take};

/// The duration of a step with this many rows: 10 ms, plus 2 ms for each row after the first.
fn cost(rows: usize) -> Duration {
    ms(10) + 2 * ms(rows.saturating_sub(1) as u64)
}

/// The time that prompts may add to a step: the larger of 20 ms and three normal steps of 10 ms.
const ADDED: Duration = Duration::from_millis(30);

fn stage(asynchronous: bool) -> Stage {
    let limits = Limits { rows: 512, cells: 4096, n_seq: 72, reuse: Reuse::Nothing };
    Stage::new(Size { context_len: 4096, limits, asynchronous, ..Size::default() }, hashed(), cost)
}

/// Steps until the prompt beside a running stream is computed; returns how long each step lasted on the clock.
fn steps_beside_a_prompt(stage: &mut Stage) -> Vec<Duration> {
    let running = stage.open(&[1], config(4000).buffer_size(4000)).expect("opened");
    steps(stage, 20);
    let mut long: TokenStream = stage.open(&prompt(1000, 3), config(1)).expect("opened");
    let mut lasted = Vec::new();
    while take(&mut long).tokens.is_empty() {
        let before = now(stage);
        stage.step();
        lasted.push(now(stage).saturating_sub(before));
        assert!(lasted.len() < 1000, "the prompt is computed at last");
    }
    assert!(running.buffered() > lasted.len(), "the other stream gets a token in each step");
    lasted
}

#[test]
fn a_prompt_beside_running_streams_stays_within_its_bound_when_decodes_return_before_the_work_is_done() {
    let mut stage = stage(true);
    let lasted = steps_beside_a_prompt(&mut stage);
    let worst = lasted.iter().max().copied().unwrap_or_default();
    assert!(worst <= ms(10) + ADDED, "a step of {worst:?} beside normal ones of 10 ms");
    assert!(lasted.len() < 120, "the limit is used: {} steps for 1000 tokens", lasted.len());
}

#[test]
fn the_statistics_count_the_time_until_the_work_is_done() {
    for asynchronous in [false, true] {
        let mut stage = stage(asynchronous);
        let lasted = steps_beside_a_prompt(&mut stage);
        let stats = stage.stats();
        assert_eq!(stats.decode_steps.total + stats.prefill_steps.total, now(&stage), "asynchronous: {asynchronous}");
        assert_eq!(stats.prefill_steps.longest, lasted.into_iter().max().unwrap_or_default());
    }
}

#[test]
fn a_step_that_wants_no_logits_is_timed_as_well() {
    let mut stage = stage(true);
    let _long = stage.open(&prompt(1000, 5), config(1)).expect("opened");
    steps(&mut stage, 3);
    assert_eq!(stage.stats().prefill_steps.total, now(&stage));
    assert!(now(&stage) > Duration::ZERO);
}
