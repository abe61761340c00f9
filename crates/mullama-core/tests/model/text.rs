//! Pieces, completions, token ids and a bare loop over llama.cpp all give the same text.

use std::path::Path;
use std::time::{Duration, Instant};

use mullama::{Context, ContextParams, FinishReason, StreamConfig, Token, TokenId};
use mullama_ffi::{Batch, ContextOptions};

use crate::support::{CERTAIN, context, demo_path, fresh_demo, greedy, params, read};

const PROMPTS: [&str; 6] =
    ["Write a poem:", "Once upon a time", "Count: 1, 2, 3", "List of fruits:", "Emoji: 🦊🐻", "天地玄黃"];

fn bytes_of(tokens: &[Token]) -> Vec<u8> {
    tokens.iter().flat_map(|token| token.bytes.clone()).collect()
}

/// Reads a stream whose pieces, text, ids and bytes must all agree, and returns the result.
fn consistent(context: &Context, prompt: &str, config: StreamConfig) -> (String, Option<FinishReason>) {
    let mut stream = context.stream(prompt, config).expect("opened");
    let tokens: Vec<Token> = stream.iter_mut().collect::<Result<_, _>>().expect("it writes");
    let joined: String = tokens.iter().map(|token| token.text.as_str()).collect();
    let ids: Vec<TokenId> = tokens.iter().filter_map(|token| token.id).collect();
    let decoded = context.model().detokenize(&ids).expect("known ids");
    assert_eq!((joined.as_str(), bytes_of(&tokens)), (stream.text().as_str(), decoded.clone()), "{prompt:?}");
    assert_eq!(joined, String::from_utf8_lossy(&decoded));
    (joined, stream.finish_reason())
}

#[test]
fn joined_pieces_equal_generate_equal_the_decoded_ids_whatever_the_buffer() {
    let context = context(params());
    for prompt in CERTAIN {
        let whole = context.generate(prompt, greedy(60)).unwrap();
        for buffer in [1, 2, 64] {
            let (joined, reason) = consistent(&context, prompt, greedy(60).buffer_size(buffer));
            assert_eq!(
                (joined, reason),
                (whole.text.clone(), Some(whole.finish_reason)),
                "{prompt:?}, buffer {buffer}"
            );
        }
    }
}

#[test]
fn joined_pieces_equal_the_decoded_ids_of_sampled_texts() {
    let context = context(params());
    for (seed, prompt) in (0..).zip(PROMPTS.into_iter().chain(CERTAIN)) {
        for temperature in [0.7, 1.5, 5.0] {
            let wild = greedy(60).temperature(temperature).top_k(0).top_p(1.0).seed(seed);
            consistent(&context, prompt, wild.buffer_size(1 + seed % 3));
        }
    }
}

#[test]
fn the_callback_gets_the_same_text_and_can_stop_the_generation() {
    let mut context = context(params());
    let whole = context.generate(CERTAIN[4], greedy(30)).unwrap();
    let mut pieces = String::new();
    let all = context.generate_streaming_with(CERTAIN[4], greedy(30), |text| {
        pieces.push_str(text);
        true
    });
    assert_eq!((pieces.as_str(), all.unwrap().text), (whole.text.as_str(), whole.text.clone()));
    let mut calls = 0;
    let some = context.generate_streaming_with(CERTAIN[4], greedy(30), |_| {
        calls += 1;
        calls < 5
    });
    let some = some.unwrap();
    assert_eq!((calls, some.finish_reason), (5, FinishReason::Cancelled));
    assert!(whole.text.starts_with(&some.text) && some.text.len() < whole.text.len());
}

/// The tokens of a bare loop: decode and argmax over llama.cpp, without the engine.
fn bare_loop(path: &Path, prompt: &str, max_tokens: usize) -> Vec<TokenId> {
    let model = mullama_ffi::Model::load(path, &mullama_ffi::ModelOptions::default(), None).expect("loaded");
    let options = ContextOptions { n_ctx: 1_024, n_threads: 1, n_threads_batch: 1, ..ContextOptions::default() };
    let mut context = mullama_ffi::Context::new(&model, &options).expect("a context");
    let mut pending = model.vocab().tokenize(prompt, true, true).expect("tokenized");
    let (mut position, mut written) = (0, Vec::new());
    while written.len() < max_tokens {
        let mut batch = Batch::new(512);
        for (at, &token) in pending.iter().enumerate() {
            batch.push(token, position, 0, at + 1 == pending.len()).expect("room");
            position += 1;
        }
        context.decode(&batch).expect("decoded");
        let logits = context.logits(batch.len() - 1).expect("logits");
        let best = (0..).zip(logits).reduce(|best, other| if other.1 > best.1 { other } else { best });
        let token = best.expect("a vocabulary has tokens").0;
        if model.vocab().is_eog(token) {
            break;
        }
        written.push(token);
        pending = vec![token];
    }
    written
}

#[test]
fn greedy_equals_a_bare_decode_loop() {
    let context = context(params());
    for prompt in CERTAIN.into_iter().chain(["List of fruits:", "天地玄黃"]) {
        let tokens = context.generate(prompt, greedy(80)).unwrap().tokens;
        let ids: Vec<TokenId> = tokens.iter().filter_map(|token| token.id).collect();
        assert_eq!(ids, bare_loop(&demo_path(), prompt, 80), "{prompt:?}");
    }
}

#[test]
fn a_prompt_of_ids_is_the_prompt_of_its_text() {
    let context = context(params());
    for prompt in CERTAIN {
        let ids = context.model().tokenize(prompt).unwrap();
        let from_text = context.generate(prompt, greedy(20)).unwrap();
        let from_ids = context.generate(ids.clone(), greedy(20)).unwrap();
        assert_eq!(from_ids.text, from_text.text);
        assert_eq!(from_text.usage.prompt_tokens, ids.len());
    }
}

#[test]
fn emoji_split_over_tokens_arrive_whole_with_the_last_token() {
    let context = context(params());
    for prompt in ["Emoji:", "🦊", "Привет"] {
        let written = context.generate(prompt, greedy(60)).unwrap();
        let split: Vec<&[Token]> = written.tokens.windows(2).filter(|pair| pair[1].text == "🌈").collect();
        assert!(split.len() > 5, "{:?}", written.text);
        for pair in split {
            assert_eq!(pair[0].text, "", "nothing of a split character comes before its last token");
            assert_eq!([pair[0].bytes.as_slice(), &pair[1].bytes].concat(), "🌈".as_bytes());
        }
        assert_eq!(written.text, String::from_utf8(bytes_of(&written.tokens)).unwrap());
    }
}

#[test]
fn a_text_cut_inside_an_emoji_ends_with_a_replacement_character() {
    let context = context(params());
    let cut = context.generate("Emoji:", greedy(2)).unwrap();
    let last = cut.tokens.last().unwrap();
    assert!(last.id.is_some() && String::from_utf8(bytes_of(&cut.tokens)).is_err(), "{cut:?}");
    assert_eq!((last.text.as_str(), cut.finish_reason), ("\u{FFFD}", FinishReason::Length));
}

#[test]
fn a_stop_string_inside_a_token_cuts_the_token() {
    let context = context(params());
    let whole = context.generate(CERTAIN[4], greedy(40)).unwrap();
    let long = |token: &&Token| token.text.len() >= 4 && token.text.is_ascii();
    let token = whole.tokens.iter().rfind(long).expect("a token of several letters");
    let inside = &token.text[1..token.text.len() - 1];
    let at = whole.text.find(inside).unwrap();
    let mut stream = context.stream(CERTAIN[4], greedy(40).stop_sequences(vec![inside.into()])).unwrap();
    assert_eq!(read(&mut stream).0, whole.text[..at]);
    assert_eq!((stream.finish_reason(), stream.stop_sequence().as_deref()), (Some(FinishReason::Stop), Some(inside)));
}

#[test]
fn a_stop_anywhere_in_the_text_cuts_exactly_there() {
    let context = context(params());
    let whole = context.generate(CERTAIN[4], greedy(40)).unwrap().text;
    let starts: Vec<usize> = whole.char_indices().map(|(at, _)| at).collect();
    for (n, &at) in starts.iter().enumerate().step_by(5) {
        let end = starts.get(n + 1 + n % 9).copied().unwrap_or(whole.len());
        let stop = &whole[at..end];
        let config = greedy(40).stop_sequences(vec![stop.into(), "never written 🦄".into()]);
        let cut = context.generate(CERTAIN[4], config).unwrap();
        assert_eq!(cut.text, whole[..whole.find(stop).unwrap()], "{stop:?}");
        assert_eq!((cut.finish_reason, cut.stop_sequence.as_deref()), (FinishReason::Stop, Some(stop)));
    }
}

#[test]
fn a_prompt_and_max_tokens_beyond_the_context_end_with_length_when_it_is_full() {
    let context = context(ContextParams { n_ctx: Some(64), ..params() });
    let mut stream = context.stream("Once upon a time", greedy(10_000).ignore_eos(true)).unwrap();
    assert_eq!(read(&mut stream).1.map(|error| error.to_string()), None);
    let usage = stream.usage();
    assert_eq!(usage.prompt_tokens + usage.completion_tokens, 64);
    assert_eq!(stream.finish_reason(), Some(FinishReason::Length));
}

#[test]
fn logprobs_are_probabilities_and_greedy_takes_the_first() {
    let context = context(params());
    let done = context.generate("Count: 1, 2, 3", greedy(20).logprobs(5)).unwrap();
    for token in done.tokens.iter().filter(|token| token.id.is_some()) {
        assert_eq!(token.top_logprobs.len(), 5);
        assert_eq!((token.id, token.logprob), (Some(token.top_logprobs[0].0), Some(token.top_logprobs[0].1)));
        assert!(token.top_logprobs.windows(2).all(|pair| pair[0].1 >= pair[1].1));
        assert!(token.top_logprobs.iter().map(|(_, logprob)| logprob.exp()).sum::<f32>() <= 1.0001);
    }
}

#[test]
fn an_empty_text_is_refused_though_the_model_would_add_a_token() {
    let context = context(params());
    assert!(!context.model().tokenize("").unwrap().is_empty(), "the demo adds its BOS");
    let (_, error) = read(&mut context.stream("", StreamConfig::new().max_tokens(3)).unwrap());
    assert_eq!(error.map(|error| error.code()), Some("INVALID_PROMPT"));
}

#[test]
fn a_long_text_gives_the_same_tokens_in_slices_and_at_once() {
    let model = fresh_demo();
    let options = mullama_ffi::ModelOptions { vocab_only: true, ..mullama_ffi::ModelOptions::default() };
    let weights = mullama_ffi::Model::load(&demo_path(), &options, None).expect("loaded");
    let words = [
        "The cat",
        " sat.\n",
        "A dog's",
        "\n\nNew",
        " 12",
        "é漢字",
        "\n",
        "  ",
        "<|im_end|>",
        " and then",
        "\r\nso",
        "🎉 ",
    ];
    let mut state = 1_u32;
    let text: String = (0..60_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            words[(state >> 16) as usize % words.len()]
        })
        .collect();
    for (add, parse) in [(true, true), (false, true), (false, false)] {
        let whole = weights.vocab().tokenize(&text, add, parse).expect("tokenized");
        assert_eq!(model.tokenize_with(&text, add, parse).unwrap(), whole);
    }
}

#[test]
fn a_cancelled_tokenization_returns_no_tokens() {
    let model = fresh_demo();
    let text = "word\nof".repeat(9_000_000);
    let begun = Instant::now();
    let mut asked = 0;
    let lost = || {
        asked += 1;
        asked < 3
    };
    assert!(model.tokenize_while(&text, true, true, lost).unwrap().is_none());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // The thread is free again, long before it could have finished the work.
    let tokens = model.tokenize_while(&"word\nof".repeat(5_000), true, true, || true).unwrap();
    assert!(tokens.is_some_and(|tokens| tokens.len() > 5_000));
}
