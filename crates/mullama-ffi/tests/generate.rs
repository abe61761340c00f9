//! The whole path with the real model: load, tokenize, decode, sample, text.

mod support;

use mullama_ffi::{Sampler, SamplerOptions};
use support::{argmax, context, demo, feed, write};

#[test]
fn a_bare_greedy_loop_generates_text() {
    let text = write(&mut context(), 0, "Write a poem:", 60).expect("it writes");
    assert!(text.split_whitespace().count() > 5, "{text:?}");
    assert!(text.chars().any(char::is_alphabetic), "{text:?}");
}

#[test]
fn the_greedy_sampler_takes_the_largest_logits() {
    let model = demo();
    let greedy = SamplerOptions { temperature: 0.0, ..SamplerOptions::default() };
    let mut sampler = Sampler::new(&greedy, &model).expect("a sampler");
    let mut context = context();
    let mut row = feed(&mut context, 0, &model.vocab().tokenize("Count:", true, true).expect("tokens")).expect("fed");
    for _ in 0..40 {
        let logits = context.logits(row).expect("logits");
        let token = sampler.sample(logits).expect("a token");
        assert_eq!(token, argmax(logits));
        row = feed(&mut context, 0, &[token]).expect("fed");
    }
}

#[test]
fn two_sequences_in_one_batch_give_the_same_text_as_alone() {
    let alone = write(&mut context(), 0, "Count: 1, 2, 3,", 20).expect("it writes");
    let mut together = context();
    write(&mut together, 1, "Write a poem:", 20).expect("it writes");
    assert_eq!(write(&mut together, 0, "Count: 1, 2, 3,", 20).expect("it writes"), alone);
}
