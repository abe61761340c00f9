//! Same seed, same text: alone on any engine, and beside any other streams for deterministic streams.

use std::sync::Arc;

use mullama::{Context, ContextParams, Model, StreamConfig, TokenStream};

use crate::support::{fresh_demo, read};

const WORDS: [&str; 12] =
    ["the", "fox", "ran", "over", "hill", "and", "snow", "while", "Elsa", "looked", "for", "boats"];

/// A prompt of this many words; prompts of one `family` start with the same words.
fn prompt(words: usize, family: usize, own: usize) -> String {
    let word = |at: usize| {
        let seed = if at < words / 2 { family } else { family * 31 + own };
        WORDS[(seed * 7 + at * at * 5 + at * seed) % WORDS.len()]
    };
    (0..words).map(word).collect::<Vec<_>>().join(" ")
}

fn params(threads: u32, prefix_cache_bytes: u64) -> ContextParams {
    ContextParams { n_threads: Some(threads), prefix_cache_bytes, ..ContextParams::default() }
}

/// An unused engine: contexts with different params have different engines.
fn fresh_engine(model: &Arc<Model>, threads: u32, number: usize) -> Context {
    Context::new(Arc::clone(model), params(threads, (1 << 20) + number as u64)).expect("a context")
}

/// Long and short prompts, greedy and sampled.
fn request(number: usize) -> (String, StreamConfig) {
    let words = [3, 20, 60, 150, 360][number % 5];
    let config = StreamConfig::new().max_tokens(24).ignore_eos(true).timeout_ms(None);
    let config =
        if number.is_multiple_of(2) { config.temperature(0.0) } else { config.seed(u32::try_from(number).ok()) };
    (prompt(words, number % 7, number), config)
}

/// Requests whose deterministic text beside others differs from the text that they give alone on an unused engine.
fn differ_in_company(requests: &[(String, StreamConfig)], threads: u32) -> Vec<usize> {
    let model = fresh_demo();
    let exact = |number: usize| requests[number].1.clone().deterministic(true);
    let alone = |number: usize| {
        let context = fresh_engine(&model, threads, number);
        context.generate(requests[number].0.as_str(), exact(number)).expect("alone").text
    };
    let alone: Vec<String> = (0..requests.len()).map(alone).collect();
    let shared = Context::new(Arc::clone(&model), params(threads, 64 << 20)).expect("a context");
    let open = |number: usize, config| shared.stream(requests[number].0.as_str(), config).expect("opened");
    let mut different = Vec::new();
    for wave in (0..requests.len()).collect::<Vec<usize>>().chunks(20) {
        // Plain streams with the same prompts fill the pool and leave cached prefixes; small buffers pause streams.
        let others: Vec<TokenStream> = wave.iter().map(|&number| open(number, requests[number].1.clone())).collect();
        let buffer = |number: usize| u32::try_from(1 + number % 50).expect("small");
        let streams = wave.iter().map(|&number| open(number, exact(number).buffer_size(buffer(number))));
        for (&number, mut stream) in wave.iter().zip(streams.collect::<Vec<TokenStream>>()) {
            let (text, error) = read(&mut stream);
            assert!(error.is_none(), "{error:?}");
            different.extend((text != alone[number]).then_some(number));
        }
        drop(others);
    }
    different
}

#[test]
fn two_hundred_concurrent_deterministic_streams_give_the_same_texts_as_alone() {
    let requests: Vec<(String, StreamConfig)> = (0..200).map(request).collect();
    assert_eq!(differ_in_company(&requests, 1), Vec::<usize>::new());
}

#[test]
fn deterministic_streams_give_the_same_text_when_threads_divide_the_attention() {
    // Attention over more than 512 cells is divided between the threads.
    let requests: Vec<(String, StreamConfig)> = (0..5).map(|number| request(5 * number + 4)).collect();
    assert_eq!(differ_in_company(&requests, 2), Vec::<usize>::new());
}

#[test]
fn a_plain_stream_alone_gives_the_same_text_on_every_engine() {
    let model = fresh_demo();
    for number in 0..20 {
        let (prompt, config) = request(5 * number + 2 + number % 3);
        let text = |engine: usize| {
            let context = fresh_engine(&model, 1, 1000 + 100 * number + engine);
            if engine % 2 == 1 {
                // The duration of earlier steps must not matter, nor the location of a cached prefix in the pool.
                context.generate("warm up the engine ".repeat(5), StreamConfig::new().max_tokens(3)).expect("warm");
            }
            context.generate(prompt.as_str(), config.clone()).expect("alone").text
        };
        let first = text(0);
        for engine in 1..4 {
            assert_eq!(text(engine), first, "request {number}");
        }
    }
}
