//! Validation of requests: refused at the call or at the first read, with the facts, and before any compute.

use mullama::{Deadline, FinishReason, MullamaError, PromptFailure, StreamConfig};

use crate::support::{PROMPT, config, prompt, read, rows, slots, stage, take};

#[test]
fn a_prompt_longer_than_the_context_is_refused_with_both_numbers_before_any_compute() {
    for len in [1_024, 1_025, 5_000] {
        let mut stage = stage(slots(1));
        let mut stream = stage.open(&prompt(len, 0), config(10)).unwrap();
        let got = read(&mut stage, &mut stream);
        match got.error {
            Some(MullamaError::ContextOverflow { prompt_tokens, is_lower_bound, context_len }) => {
                assert_eq!((prompt_tokens, is_lower_bound, context_len), (len, false, 1_024));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!((stream.finish_reason(), stage.unfinished()), (Some(FinishReason::Error), 0));
        assert!(rows(&stage).is_empty());
    }
}

#[test]
fn a_prompt_that_leaves_space_for_one_token_gets_one() {
    let mut stage = stage(slots(1));
    let mut stream = stage.open(&prompt(1_023, 0), config(10)).unwrap();
    assert_eq!(read(&mut stage, &mut stream).tokens.len(), 1);
}

#[test]
fn an_empty_prompt_is_refused() {
    let mut stage = stage(slots(1));
    let mut stream = stage.open(&[], config(10)).unwrap();
    let got = read(&mut stage, &mut stream);
    assert!(matches!(got.error, Some(MullamaError::InvalidPrompt(PromptFailure::Empty))), "{got:?}");
    assert!(rows(&stage).is_empty());
}

#[test]
fn an_unknown_token_id_is_refused_with_its_position_and_the_range() {
    for (tokens, at, id) in [(vec![1, 2, 257], 2, 257), (vec![-1], 0, -1), (vec![5, i32::MAX, -7], 1, i32::MAX)] {
        let mut stage = stage(slots(1));
        let mut stream = stage.open(&tokens, config(10)).unwrap();
        let got = read(&mut stage, &mut stream);
        match got.error {
            Some(MullamaError::InvalidPrompt(PromptFailure::UnknownToken { token, position, n_vocab })) => {
                assert_eq!((token, position, n_vocab), (id, at, 257));
            }
            other => panic!("{other:?}"),
        }
        assert!(rows(&stage).is_empty());
    }
}

#[test]
fn a_refused_prompt_does_not_affect_other_streams() {
    let mut stage = stage(slots(8));
    let mut good = stage.open(PROMPT, config(20)).unwrap();
    let mut bad: Vec<_> =
        [vec![], vec![999], prompt(2_000, 0)].iter().map(|p| stage.open(p, config(20)).unwrap()).collect();
    assert_eq!(read(&mut stage, &mut good).tokens.len(), 20);
    let codes: Vec<_> = bad.iter_mut().map(|stream| take(stream).code().unwrap()).collect();
    assert_eq!(codes, ["INVALID_PROMPT", "INVALID_PROMPT", "CONTEXT_OVERFLOW"]);
}

/// A setter of a numeric field.
type Setter = fn(StreamConfig, f32) -> StreamConfig;

/// All values that a field refuses, by the field's name.
fn refused() -> Vec<(&'static str, StreamConfig)> {
    let new = StreamConfig::new;
    let mut all = vec![
        ("buffer_size", new().buffer_size(0)),
        ("buffer_size", new().buffer_size(65_537)),
        ("top_k", new().top_k(u32::MAX)),
        ("repeat_last_n", new().repeat_last_n(-2)),
        ("repeat_last_n", new().repeat_last_n(i32::MAX)),
        ("dry_penalty_last_n", new().dry_penalty_last_n(-2)),
        ("dry_penalty_last_n", new().dry_penalty_last_n(i32::MAX)),
        ("dry_allowed_length", new().dry_allowed_length(-1)),
        ("dry_allowed_length", new().dry_allowed_length(i32::MAX)),
        ("dry_sequence_breakers", new().dry_multiplier(1.0).dry_sequence_breakers(vec!["a\0b".into()])),
        ("mirostat", new().mirostat(3)),
        ("seed", new().seed(u32::MAX)),
        ("logprobs", new().logprobs(21)),
        ("stop_sequences", new().stop_sequences(vec![String::new()])),
        ("stop_tokens", new().stop_tokens(vec![257])),
        ("stop_tokens", new().stop_tokens(vec![-1])),
        ("logit_bias", new().logit_bias(vec![(257, 1.0)])),
        ("logit_bias", new().logit_bias(vec![(1, f32::NAN)])),
        ("logit_bias", new().logit_bias(vec![(1, f32::INFINITY)])),
        ("stream_delay_ms", new().stream_delay_ms(3_600_001)),
        ("repeat_penalty", new().repeat_penalty(0.0)),
        ("frequency_penalty", new().frequency_penalty(f32::NEG_INFINITY)),
        ("presence_penalty", new().presence_penalty(f32::INFINITY)),
    ];
    let floats: [(&str, Setter); 13] = [
        ("temperature", StreamConfig::temperature),
        ("top_p", StreamConfig::top_p),
        ("min_p", StreamConfig::min_p),
        ("typical_p", StreamConfig::typical_p),
        ("top_n_sigma", StreamConfig::top_n_sigma),
        ("xtc_probability", StreamConfig::xtc_probability),
        ("xtc_threshold", StreamConfig::xtc_threshold),
        ("repeat_penalty", StreamConfig::repeat_penalty),
        ("dry_multiplier", StreamConfig::dry_multiplier),
        ("dry_base", StreamConfig::dry_base),
        ("mirostat_tau", StreamConfig::mirostat_tau),
        ("dynatemp_range", StreamConfig::dynatemp_range),
        ("dynatemp_exponent", StreamConfig::dynatemp_exponent),
    ];
    for (field, set) in floats {
        all.extend([f32::NAN, f32::INFINITY, -1.0].map(|value| (field, set(new(), value))));
    }
    all
}

#[test]
fn a_value_out_of_range_is_refused_at_the_call_with_field_value_and_range() {
    let stage = stage(slots(1));
    for (name, config) in refused() {
        match stage.open(PROMPT, config.clone()) {
            Err(MullamaError::InvalidConfig { field, value, range }) => {
                assert_eq!(field, name);
                assert!(!value.is_empty() && !range.is_empty(), "{field}: {value:?} {range:?}");
            }
            other => panic!("{name}: {other:?} for {config:?}"),
        }
        assert_eq!(stage.unfinished(), 0, "a refused call is not counted");
    }
}

#[test]
fn the_sampler_accepts_every_value_that_the_config_accepts() {
    let new = || StreamConfig::new().max_tokens(2).seed(1);
    let edges = [
        new().temperature(f32::MAX),
        new().top_k(i32::MAX as u32),
        new().top_p(0.0),
        new().min_p(1.0),
        new().typical_p(0.0),
        new().top_n_sigma(f32::MAX),
        new().xtc_probability(1.0).xtc_threshold(0.0),
        new().repeat_penalty(1e-6),
        new().repeat_penalty(1e6),
        new().frequency_penalty(-2.0).presence_penalty(-2.0).repeat_last_n(-1),
        new().repeat_last_n(1_048_576).repeat_penalty(1.1),
        new().mirostat(1).mirostat_tau(0.0).mirostat_eta(0.0),
        new().mirostat(2).mirostat_tau(f32::MAX).mirostat_eta(f32::MAX),
        new().dynatemp_range(f32::MAX).dynatemp_exponent(0.0),
        new().logit_bias(vec![(97, f32::NEG_INFINITY), (97, 1e9), (98, -1e9)]),
        new().logprobs(20).buffer_size(65_536).stream_delay_ms(0).priority(i32::MIN),
        new().seed(u32::MAX - 1).top_k(0).top_p(1.0),
    ];
    for config in edges {
        let mut stage = stage(slots(1));
        let mut stream = stage.open(PROMPT, config.clone()).unwrap();
        let got = read(&mut stage, &mut stream);
        assert_eq!((got.code(), got.tokens.len()), (None, 2), "{:?} with {config:?}", got.error);
    }
}

#[test]
fn deadlines_have_the_names_of_their_fields() {
    for deadline in [Deadline::Total, Deadline::FirstToken, Deadline::Queue] {
        assert!(StreamConfig::FIELDS.contains(&deadline.to_string().as_str()));
    }
}
