//! Same seed, same text: alone on any engine, and for deterministic streams in any company.

use std::sync::Arc;

use mullama::{Context, ContextParams, Model, StreamConfig, TokenStream};

use crate::support::{fresh_demo, read};

const WORDS: [&str; 12] =
    ["the", "fox", "ran", "over", "hill", "and", "snow", "while", "Elsa", "looked", "for", "boats"];

/// A prompt of this many words; those of one `family` start with the same ones.
fn prompt(words: usize, family: usize, own: usize) -> String {
    let word = |at: usize| {
        let seed = if at < words / 2 { family } else { family * 31 + own };
        WORDS[(seed * 7 + at * at * 5 + at * seed) % WORDS.len()]
    };
    (0..words).map(word).collect::<Vec<_>>().join(" ")
}

/// Two threads, because attention is split between them once many cells are in view.
fn params(prefix_cache_bytes: u64) -> ContextParams {
    ContextParams { n_threads: Some(2), prefix_cache_bytes, ..ContextParams::default() }
}

/// An engine that nobody has used: contexts of other params have others.
fn fresh_engine(model: &Arc<Model>, number: u64) -> Context {
    Context::new(Arc::clone(model), params(1 << 20 | number)).expect("a context")
}

/// Long prompts and short ones, greedy and sampled.
fn request(number: usize) -> (String, StreamConfig) {
    let words = [3, 20, 60, 150, 400][number % 5];
    let config = StreamConfig::new().max_tokens(40).ignore_eos(true).timeout_ms(None);
    let config = if number % 2 == 0 { config.temperature(0.0) } else { config.seed(u32::try_from(number).ok()) };
    (prompt(words, number % 7, number), config)
}

#[test]
fn two_hundred_deterministic_streams_write_in_company_what_each_writes_alone() {
    let model = fresh_demo();
    let requests: Vec<(String, StreamConfig)> = (0..200).map(request).collect();
    let exact = |number: usize| requests[number].1.clone().deterministic(true);
    let alone: Vec<String> = (0..200)
        .map(|number| {
            let context = fresh_engine(&model, number as u64);
            context.generate(requests[number].0.as_str(), exact(number)).expect("alone").text
        })
        .collect();
    let crowded = Context::new(Arc::clone(&model), params(64 << 20)).expect("a context");
    let mut different = Vec::new();
    for wave in (0..200).collect::<Vec<usize>>().chunks(20) {
        let open =
            |number: usize, config: StreamConfig| crowded.stream(requests[number].0.as_str(), config).expect("opened");
        // Plain streams with the same prompts fill the pool and leave cached prefixes; small buffers pause streams.
        let others: Vec<TokenStream> = wave.iter().map(|&number| open(number, requests[number].1.clone())).collect();
        let mut streams: Vec<(usize, TokenStream)> = wave
            .iter()
            .map(|&number| (number, open(number, exact(number).buffer_size(1 + (number % 50) as u32))))
            .collect();
        for (number, stream) in &mut streams {
            let (text, error) = read(stream);
            assert!(error.is_none(), "{error:?}");
            if text != alone[*number] {
                different.push(*number);
            }
        }
        drop(others);
    }
    assert!(different.is_empty(), "{} of 200 differ: {different:?}", different.len());
}

#[test]
fn a_plain_stream_alone_writes_the_same_text_on_every_engine() {
    let model = fresh_demo();
    for number in 0..20 {
        let (prompt, config) = request(5 * number + 2 + number % 3);
        let text = |engine: u64| {
            let context = fresh_engine(&model, 1000 + 100 * number as u64 + engine);
            context.generate(prompt.as_str(), config.clone()).expect("alone").text
        };
        let first = text(0);
        for engine in 1..4 {
            assert_eq!(text(engine), first, "request {number}");
        }
    }
}
