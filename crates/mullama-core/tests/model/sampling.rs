//! Every sampler field has the documented effect, and no other.

use mullama::{Context, StreamConfig, Token, TokenId};

use crate::support::{LIMIT, context, eventually, greedy, params};

const PROMPT: &str = "Once upon a time";

/// A config with all samplers off and a fixed seed. It is deterministic because these tests compare the texts of one
/// seed: otherwise the number of threads and the places of the cells may change the last bits of the logits, and so a
/// token where two are about equally likely.
fn plain() -> StreamConfig {
    let off = StreamConfig::new().temperature(1.0).top_k(0).top_p(1.0).min_p(0.0).typical_p(1.0);
    off.seed(42).max_tokens(60).timeout_ms(u64::try_from(LIMIT.as_millis()).expect("a minute")).deterministic(true)
}

fn write(context: &Context, config: StreamConfig) -> Vec<Token> {
    context.generate(PROMPT, config).expect("it writes").tokens
}

fn ids(tokens: &[Token]) -> Vec<TokenId> {
    tokens.iter().filter_map(|token| token.id).collect()
}

/// A field that is turned on while the others are off.
type Turned = (&'static str, StreamConfig);

#[test]
fn each_sampler_that_is_turned_on_changes_the_text_of_a_seed() {
    let context = context(params());
    let base = ids(&write(&context, plain()));
    assert_eq!(ids(&write(&context, plain())), base, "nothing but the field makes a difference");
    let turned: [Turned; 18] = [
        ("temperature", plain().temperature(2.0)),
        ("top_k", plain().top_k(2)),
        ("top_p", plain().top_p(0.3)),
        ("min_p", plain().min_p(0.5)),
        ("typical_p", plain().typical_p(0.2)),
        ("top_n_sigma", plain().top_n_sigma(0.05)),
        ("xtc_probability", plain().xtc_probability(1.0).xtc_threshold(0.05)),
        ("repeat_penalty", plain().repeat_penalty(3.0)),
        ("frequency_penalty", plain().frequency_penalty(3.0)),
        ("presence_penalty", plain().presence_penalty(3.0)),
        ("dry_multiplier", plain().dry_multiplier(20.0).dry_allowed_length(0)),
        ("mirostat 1", plain().mirostat(1)),
        ("mirostat 2", plain().mirostat(2).mirostat_tau(1.0)),
        ("dynatemp_range", plain().dynatemp_range(0.9)),
        ("logit_bias", plain().logit_bias(vec![(base[0], f32::NEG_INFINITY)])),
        ("seed", plain().seed(43)),
        ("max_tokens", plain().max_tokens(10)),
        ("stop_tokens", plain().stop_tokens(vec![base[20]])),
    ];
    for (field, config) in turned {
        assert_ne!(ids(&write(&context, config)), base, "{field} changes nothing");
    }
}

#[test]
fn an_auxiliary_field_changes_nothing_while_its_main_field_is_off() {
    let context = context(params());
    let base = ids(&write(&context, plain()));
    let companions: [Turned; 13] = [
        ("xtc_threshold", plain().xtc_threshold(0.01)),
        ("repeat_last_n", plain().repeat_last_n(-1)),
        ("dry_base", plain().dry_base(9.0)),
        ("dry_allowed_length", plain().dry_allowed_length(0)),
        ("dry_penalty_last_n", plain().dry_penalty_last_n(3)),
        ("dry_sequence_breakers", plain().dry_sequence_breakers(vec![])),
        ("mirostat_tau", plain().mirostat_tau(0.1)),
        ("mirostat_eta", plain().mirostat_eta(0.9)),
        ("dynatemp_exponent", plain().dynatemp_exponent(3.0)),
        ("logprobs", plain().logprobs(20)),
        ("buffer_size", plain().buffer_size(1)),
        ("priority", plain().priority(9)),
        ("repeat_last_n 0", plain().repeat_penalty(3.0).presence_penalty(2.0).repeat_last_n(0)),
    ];
    for (field, config) in companions {
        assert_eq!(ids(&write(&context, config)), base, "{field} changes the text");
    }
}

/// All letters as breakers, so that no repetition continues across one of them.
fn breakers() -> Vec<String> {
    ('a'..='z').chain([' ', '.', ',']).map(String::from).collect()
}

#[test]
fn an_auxiliary_field_has_an_effect_once_its_main_field_is_on() {
    let context = context(params());
    let dry = || plain().dry_multiplier(20.0).dry_allowed_length(1);
    let gentle = || plain().dry_multiplier(0.5).dry_allowed_length(0);
    let even = || plain().mirostat(2).mirostat_tau(1.0);
    let pairs: [(&str, StreamConfig, StreamConfig); 9] = [
        (
            "xtc_threshold",
            plain().xtc_probability(1.0).xtc_threshold(0.02),
            plain().xtc_probability(1.0).xtc_threshold(0.4),
        ),
        (
            "repeat_last_n",
            plain().frequency_penalty(2.0).repeat_last_n(2),
            plain().frequency_penalty(2.0).repeat_last_n(-1),
        ),
        ("dry_allowed_length", dry(), dry().dry_allowed_length(50)),
        ("dry_penalty_last_n", dry(), dry().dry_penalty_last_n(0)),
        ("dry_base", gentle().dry_base(1.0), gentle().dry_base(9.0)),
        ("dry_sequence_breakers", dry().dry_sequence_breakers(vec![]), dry().dry_sequence_breakers(breakers())),
        ("mirostat_eta", even().mirostat_eta(0.01), even().mirostat_eta(1.0)),
        ("mirostat_tau", plain().mirostat(2).mirostat_tau(0.5), plain().mirostat(2).mirostat_tau(9.0)),
        (
            "dynatemp_exponent",
            plain().dynatemp_range(0.9).dynatemp_exponent(0.2),
            plain().dynatemp_range(0.9).dynatemp_exponent(5.0),
        ),
    ];
    for (field, one, other) in pairs {
        assert_ne!(ids(&write(&context, one)), ids(&write(&context, other)), "{field} changes nothing");
    }
}

#[test]
fn the_narrowest_truncation_is_greedy_whatever_the_seed() {
    let context = context(params());
    let write = |config| ids(&write(&context, config));
    let likeliest = write(greedy(60).deterministic(true));
    for seed in [1, 2, 3] {
        let narrow = [
            plain().seed(seed).top_k(1),
            plain().seed(seed).top_p(0.0),
            plain().seed(seed).min_p(1.0),
            plain().seed(seed).top_n_sigma(0.000_001),
            plain().seed(seed).temperature(0.0),
            plain().seed(seed).temperature(0.0).top_p(0.5).min_p(0.2).typical_p(0.5).dynatemp_range(0.5),
        ];
        for config in narrow {
            assert_eq!(write(config.clone()), likeliest, "{config:?}");
        }
    }
}

/// Checks every sampled token against the model's own probabilities, which the log-probabilities report.
fn each_token(config: &StreamConfig, holds: impl Fn(&Token, f32) -> bool) {
    let context = context(params());
    for seed in 0..4 {
        for token in write(&context, config.clone().seed(seed).logprobs(20)) {
            let Some(logprob) = token.logprob else { continue };
            assert!(holds(&token, logprob), "{token:?}");
        }
    }
}

/// The number of reported tokens that are more likely than this one.
fn rank(token: &Token, logprob: f32) -> usize {
    token.top_logprobs.iter().filter(|(_, other)| *other > logprob).count()
}

#[test]
fn top_k_takes_one_of_the_k_likeliest() {
    each_token(&plain().temperature(5.0).top_k(3), |token, logprob| rank(token, logprob) < 3);
}

#[test]
fn min_p_takes_none_below_its_share_of_the_likeliest() {
    each_token(&plain().temperature(5.0).min_p(0.3), |token, logprob| {
        logprob >= token.top_logprobs[0].1 + 0.3_f32.ln() - 1e-3
    });
}

#[test]
fn top_p_takes_one_of_the_fewest_that_have_the_probability_together() {
    each_token(&plain().temperature(5.0).top_p(0.6), |token, logprob| {
        let before: f32 = token.top_logprobs.iter().filter(|(_, other)| *other > logprob).map(|(_, p)| p.exp()).sum();
        before < 0.6 + 1e-3
    });
}

#[test]
fn xtc_removes_all_likely_tokens_but_the_least_likely_of_them() {
    each_token(&plain().xtc_probability(1.0).xtc_threshold(0.1), |token, logprob| {
        let likely = token.top_logprobs.iter().filter(|(_, p)| p.exp() >= 0.1 + 1e-4).count();
        likely < 2 || rank(token, logprob) + 1 >= likely
    });
}

#[test]
fn a_forbidden_token_never_comes_and_a_favoured_one_always() {
    let context = context(params());
    let usual = ids(&write(&context, plain()));
    let forbidden: Vec<(TokenId, f32)> = usual[..10].iter().map(|&token| (token, f32::NEG_INFINITY)).collect();
    let other = ids(&write(&context, plain().logit_bias(forbidden)));
    assert!(!other.iter().any(|token| usual[..10].contains(token)));
    let favoured = ids(&write(&context, plain().logit_bias(vec![(usual[3], 1_000.0)])));
    assert!(favoured.len() == 60 && favoured.iter().all(|token| *token == usual[3]));
}

#[test]
fn ignore_eos_continues_to_the_last_allowed_token() {
    let context = context(params());
    let prompt = "The capital of France is";
    let ends = context.generate(prompt, greedy(60)).unwrap();
    assert!(ends.usage.completion_tokens < 20, "{:?}", ends.text);
    let goes_on = context.generate(prompt, greedy(60).ignore_eos(true)).unwrap();
    assert_eq!(goes_on.usage.completion_tokens, 60);
    assert!(goes_on.text.starts_with(&ends.text));
    assert!(!ids(&goes_on.tokens).iter().any(|token| context.model().end_tokens().contains(token)));
}

#[test]
fn penalties_count_a_token_once_over_the_real_model() {
    // Two tokens are far above all others, 2.5 apart: at 1 per occurrence the first leads until it was taken three
    // times.
    let context = context(params());
    let (first, second) = (300, 301);
    let bias = vec![(first, 1_002.5), (second, 1_000.0)];
    let config = greedy(4).logit_bias(bias).frequency_penalty(100.0).repeat_last_n(-1);
    assert_eq!(ids(&write(&context, config)), [first, second, first, second]);
}

#[test]
fn equal_seeds_give_equal_texts_beside_paused_streams() {
    let context = context(params());
    let tuned = || plain().temperature(1.0).top_k(40).top_p(0.9).seed(7);
    let alone = ids(&write(&context, tuned()));
    assert_eq!(ids(&write(&context, tuned())), alone);
    let paused: Vec<_> =
        (0..5).map(|n| context.stream(format!("Count: {n}"), plain().seed(n).buffer_size(1)).unwrap()).collect();
    eventually("all are paused", || paused.iter().all(|stream| stream.buffered() == 1));
    assert_eq!(ids(&write(&context, tuned())), alone);
    assert_ne!(ids(&write(&context, tuned().seed(8))), alone);
}

#[test]
fn a_random_seed_is_reported_and_reproduces_the_text() {
    let context = context(params());
    let tuned = || StreamConfig::new().max_tokens(40).timeout_ms(60_000).deterministic(true);
    let first = context.generate(PROMPT, tuned()).unwrap();
    let second = context.generate(PROMPT, tuned()).unwrap();
    assert_ne!(first.seed, second.seed);
    assert_eq!(context.generate(PROMPT, tuned().seed(first.seed)).unwrap().text, first.text);
}
