//! Samplers choose the same tokens as llama.cpp's own chain, refuse invalid input, and keep their state.

mod support;

use mullama_ffi::{Error, Sampler, SamplerOptions, TokenId};
use support::demo;

fn sampler(options: &SamplerOptions) -> Sampler {
    Sampler::new(options, &demo()).expect("a sampler")
}

fn greedy() -> SamplerOptions {
    SamplerOptions { temperature: 0.0, ..SamplerOptions::default() }
}

/// Logits that differ from each other and between rounds.
fn logits(round: u32) -> Vec<f32> {
    let mut state = 0x9E37_79B9_u32.wrapping_add(round.wrapping_mul(0x85EB_CA6B));
    (0..demo().vocab().n_tokens())
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            f32::from(u16::try_from(state >> 16).expect("16 bits")) / 4096.0 - 8.0
        })
        .collect()
}

fn choices(options: &SamplerOptions, rounds: u32) -> Vec<TokenId> {
    let mut sampler = sampler(options);
    (0..rounds).map(|round| sampler.sample(&logits(round)).expect("a token")).collect()
}

fn index(token: TokenId) -> usize {
    usize::try_from(token).expect("not negative")
}

#[test]
fn greedy_takes_the_first_of_the_largest() {
    let n_vocab = demo().vocab().n_tokens();
    let mut sampler = sampler(&greedy());
    for at in [0, 1, 31, 32, 33, n_vocab / 2, n_vocab - 2] {
        let mut logits = vec![-1.0; n_vocab];
        logits[at] = 2.0;
        logits[n_vocab - 1] = 2.0;
        assert_eq!(index(sampler.sample(&logits).expect("a token")), at);
    }
}

#[test]
fn the_same_seed_gives_the_same_tokens_and_another_seed_does_not() {
    let options = |seed| SamplerOptions { seed, ..SamplerOptions::default() };
    assert_eq!(choices(&options(7), 50), choices(&options(7), 50));
    assert_ne!(choices(&options(7), 50), choices(&options(8), 50));
    assert_eq!(choices(&options(u32::MAX), 50), choices(&options(u32::MAX), 50));
}

#[test]
fn reset_restarts_the_random_choice_and_forgets_tokens() {
    let options = SamplerOptions { seed: 3, repeat_penalty: 1.5, frequency_penalty: 0.3, ..SamplerOptions::default() };
    let mut sampler = sampler(&options);
    let rounds = |sampler: &mut Sampler| -> Vec<_> {
        (0..40).map(|round| sampler.sample(&logits(round)).expect("a token")).collect()
    };
    let first = rounds(&mut sampler);
    sampler.reset().expect("reset");
    assert_eq!(rounds(&mut sampler), first);
}

#[test]
fn top_k_by_heap_chooses_what_top_k_by_llama_cpp_chooses() {
    // A top_n_sigma this large keeps all candidates, and makes top-k use llama.cpp's own path.
    for (top_k, seed) in [(1, 1), (2, 2), (40, 3), (40, 4), (128, 5)] {
        let heap = SamplerOptions { top_k, seed, ..SamplerOptions::default() };
        let chain = SamplerOptions { top_n_sigma: 1e6, ..heap.clone() };
        assert_eq!(choices(&heap, 200), choices(&chain, 200));
    }
}

#[test]
fn top_k_by_heap_breaks_ties_as_llama_cpp_does() {
    let n_vocab = demo().vocab().n_tokens();
    for seed in 0..50u32 {
        let heap = SamplerOptions { top_k: 10, seed, ..SamplerOptions::default() };
        let chain = SamplerOptions { top_n_sigma: 1e6, ..heap.clone() };
        // There are only five values, so that the tenth largest is one of many equal ones.
        let logits: Vec<f32> =
            (0..n_vocab).map(|token| f32::from(u8::try_from((token * 7919 + 13) % 97 % 5).expect("small"))).collect();
        assert_eq!(sampler(&heap).sample(&logits).expect("a token"), sampler(&chain).sample(&logits).expect("a token"));
    }
}

#[test]
fn only_tokens_that_truncation_keeps_are_sampled() {
    let mut logits = vec![0.0f32; demo().vocab().n_tokens()];
    (logits[5], logits[9], logits[70]) = (20.0, 19.0, 18.0);
    let allowed = |options: SamplerOptions, tokens: &[TokenId]| {
        let mut sampler = sampler(&options);
        for _ in 0..200 {
            let token = sampler.sample(&logits).expect("a token");
            assert!(tokens.contains(&token), "{token} with {options:?}");
        }
    };
    let base = || SamplerOptions { seed: 5, ..SamplerOptions::default() };
    allowed(SamplerOptions { top_k: 1, ..base() }, &[5]);
    allowed(SamplerOptions { top_k: 2, ..base() }, &[5, 9]);
    allowed(SamplerOptions { top_p: 0.5, ..base() }, &[5]);
    allowed(SamplerOptions { top_p: 0.0, ..base() }, &[5]);
    allowed(SamplerOptions { min_p: 0.3, ..base() }, &[5, 9]);
    allowed(SamplerOptions { top_n_sigma: 0.5, ..base() }, &[5, 9, 70]);
    allowed(SamplerOptions { temperature: 1e-3, ..base() }, &[5]);
    allowed(SamplerOptions { temperature: 1e-30, ..base() }, &[5]);
    allowed(SamplerOptions { typical_p: 0.4, ..base() }, &[5, 9]);
    allowed(SamplerOptions { xtc_probability: 1.0, xtc_threshold: 0.05, top_k: 3, ..base() }, &[70]);
    allowed(SamplerOptions { dynatemp_range: 1.0, top_k: 2, ..base() }, &[5, 9]);
    allowed(SamplerOptions { mirostat: 1, mirostat_tau: 0.1, ..base() }, &[5, 9, 70]);
    allowed(SamplerOptions { mirostat: 2, mirostat_tau: 0.1, ..base() }, &[5, 9, 70]);
}

#[test]
fn a_bias_moves_a_token_and_minus_infinity_forbids_it() {
    let mut logits = vec![0.0f32; demo().vocab().n_tokens()];
    (logits[5], logits[9]) = (3.0, 2.0);
    let mut biased = sampler(&SamplerOptions { logit_bias: vec![(9, 1.5)], ..greedy() });
    assert_eq!(biased.sample(&logits).expect("a token"), 9);
    let forbidden = vec![(5, f32::NEG_INFINITY), (9, f32::NEG_INFINITY)];
    let mut sampler = sampler(&SamplerOptions { logit_bias: forbidden, top_k: 40, ..SamplerOptions::default() });
    for _ in 0..200 {
        assert!(![5, 9].contains(&sampler.sample(&logits).expect("a token")));
    }
}

/// The logits with the biases added, as in a modified copy of the row.
fn with_biases(logits: &[f32], biases: &[(TokenId, f32)]) -> Vec<f32> {
    let mut copy = logits.to_vec();
    for &(token, bias) in biases {
        copy[index(token)] += bias;
    }
    copy
}

#[test]
fn biases_and_penalties_beside_the_row_give_the_same_tokens_as_in_a_copy_of_it() {
    let last = TokenId::try_from(demo().vocab().n_tokens() - 1).expect("fits");
    let lists = [
        vec![(0, 9.0)],
        vec![(last, 9.0), (1, 8.5)],
        // The biases are out of order, next to each other, several for one token, and across the blocks that are
        // scanned at once.
        vec![(64, 7.0), (31, 1.0), (32, 7.5), (33, -1.0), (64, 1.5), (32, f32::NEG_INFINITY), (500, 6.0)],
        (0..last).step_by(3).map(|token| (token, if token % 2 == 0 { 1.25 } else { -2.0 })).collect(),
        (0..=last).map(|token| (token, 0.5)).collect(),
    ];
    let base = SamplerOptions { seed: 11, ..SamplerOptions::default() };
    let paths = [
        SamplerOptions { temperature: 0.0, ..base.clone() },
        SamplerOptions { top_k: 1, ..base.clone() },
        SamplerOptions { top_k: 40, top_p: 0.9, ..base.clone() },
        SamplerOptions { top_k: 128, repeat_penalty: 1.4, presence_penalty: 0.5, ..base.clone() },
        SamplerOptions { top_k: 0, frequency_penalty: 0.7, ..base.clone() },
        SamplerOptions { top_n_sigma: 2.0, top_k: 50, ..base.clone() },
        SamplerOptions { mirostat: 2, repeat_penalty: 1.2, ..base },
    ];
    for (list, path) in lists.iter().flat_map(|list| paths.iter().map(move |path| (list, path))) {
        let mut beside = sampler(&SamplerOptions { logit_bias: list.clone(), ..path.clone() });
        let mut copied = sampler(path);
        for round in 0..60 {
            let row = logits(round % 7);
            let before = row.clone();
            let token = beside.sample(&row).expect("a token");
            assert_eq!(
                token,
                copied.sample(&with_biases(&row, list)).expect("a token"),
                "{} biases, {path:?}",
                list.len()
            );
            assert_eq!(row, before, "the model's logits are not written to");
        }
    }
}

#[test]
fn logits_that_are_not_numbers_after_biases_are_refused() {
    for top_k in [0, 40, 128] {
        let forbid = |token| SamplerOptions { logit_bias: vec![(token, f32::NEG_INFINITY)], top_k, ..greedy() };
        let mut row = logits(1);
        row[900] = f32::INFINITY;
        let error = sampler(&forbid(900)).sample(&row).expect_err("infinity less infinity");
        assert!(matches!(error, Error::NonFiniteLogits), "{error:?}");
        let all = (0..).zip(&row).map(|(token, _)| (token, f32::NEG_INFINITY)).collect();
        row[900] = 0.0;
        let error = sampler(&SamplerOptions { logit_bias: all, ..greedy() }).sample(&row).expect_err("none is left");
        assert!(matches!(error, Error::NonFiniteLogits), "{error:?}");
    }
}

#[test]
fn a_sampled_token_is_counted_once() {
    // Each occurrence costs 1, and the lead is 2.5: the token is taken three times, then the other once.
    let mut logits = vec![-50.0f32; demo().vocab().n_tokens()];
    (logits[5], logits[9]) = (2.5, 0.0);
    let mut sampler = sampler(&SamplerOptions { frequency_penalty: 1.0, ..greedy() });
    let tokens: Vec<_> = (0..5).map(|_| sampler.sample(&logits).expect("a token")).collect();
    assert_eq!(tokens, [5, 5, 5, 9, 5]);
}

#[test]
fn penalties_include_the_prompt_and_forget_old_tokens() {
    let mut logits = vec![-50.0f32; demo().vocab().n_tokens()];
    (logits[5], logits[9]) = (1.0, 0.5);
    let options = SamplerOptions { presence_penalty: 1.0, repeat_last_n: 2, ..greedy() };
    let mut sampler = sampler(&options);
    sampler.accept(5).expect("accepted");
    assert_eq!(sampler.sample(&logits).expect("a token"), 9);
    sampler.accept(3).expect("accepted");
    sampler.accept(3).expect("accepted");
    assert_eq!(sampler.sample(&logits).expect("a token"), 5);
}

#[test]
fn a_repeat_penalty_weakens_positive_and_negative_logits() {
    for (lead, other) in [(4.0, 3.0), (-3.0, -4.0)] {
        let mut logits = vec![-50.0f32; demo().vocab().n_tokens()];
        (logits[5], logits[9]) = (lead, other);
        let mut sampler = sampler(&SamplerOptions { repeat_penalty: 2.0, ..greedy() });
        assert_eq!(sampler.sample(&logits).expect("a token"), 5);
        assert_eq!(sampler.sample(&logits).expect("a token"), 9);
    }
}

#[test]
fn dry_breaks_a_repetition_unless_it_contains_a_breaker() {
    let model = demo();
    let tokens = model.vocab().tokenize("abcxab", false, false).expect("tokens");
    assert_eq!(tokens.len(), 6, "one token per letter");
    let mut logits = vec![-50.0f32; model.vocab().n_tokens()];
    (logits[index(tokens[2])], logits[9]) = (1.0, 0.0);
    let next = |breakers: &[&str]| {
        let options = SamplerOptions {
            dry_multiplier: 2.0,
            dry_sequence_breakers: breakers.iter().map(|&text| text.to_owned()).collect(),
            ..greedy()
        };
        let mut sampler = sampler(&options);
        for &token in &tokens {
            sampler.accept(token).expect("accepted");
        }
        sampler.sample(&logits).expect("a token")
    };
    assert_eq!(next(&[]), 9, "abc came before");
    assert_eq!(next(&["b", ""]), tokens[2], "b breaks it");
    assert_eq!(next(&["x"]), 9, "the two letters after it still repeat");
    assert_eq!(next(&["xa"]), tokens[2], "the one letter after it is too short a repetition");
    assert_eq!(next(&["xab"]), tokens[2], "nothing follows it");
    assert_eq!(next(&["xac", "cxb", "abcd"]), 9, "none of them is in the text");
    assert_eq!(next(&["xac", "xab", "xad", "x"]), tokens[2], "the longest that begins at a token counts");
}

#[test]
fn the_maximum_of_dry_breakers_costs_no_time_before_the_first_token() {
    let breakers: Vec<String> = (0..64).map(|n| format!("e{n:039}")).collect();
    let options = |breakers| SamplerOptions { dry_multiplier: 1.0, dry_sequence_breakers: breakers, ..greedy() };
    let began = std::time::Instant::now();
    for _ in 0..1_000 {
        sampler(&options(breakers.clone()));
    }
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?} for a thousand", began.elapsed());
    for too_many in [vec!["e".to_owned(); 65], vec!["e".repeat(41)]] {
        let error = Sampler::new(&options(too_many), &demo()).expect_err("too many, or too long");
        assert!(matches!(error, Error::SamplerField { field: "dry_sequence_breakers", .. }), "{error:?}");
    }
}

#[test]
fn logits_that_are_not_numbers_are_refused_and_nothing_is_accepted() {
    let n_vocab = demo().vocab().n_tokens();
    let top_k = SamplerOptions { top_k: 40, ..SamplerOptions::default() };
    let penalised = SamplerOptions { frequency_penalty: 0.5, ..greedy() };
    for options in [greedy(), top_k, SamplerOptions::default(), penalised] {
        let mut sampler = sampler(&options);
        for at in [0, 45, n_vocab - 1] {
            for bad in [f32::NAN, f32::INFINITY] {
                let mut logits = logits(0);
                logits[at] = bad;
                assert!(matches!(sampler.sample(&logits), Err(Error::NonFiniteLogits)), "{bad} at {at}");
            }
        }
        let none = vec![f32::NEG_INFINITY; n_vocab];
        assert!(matches!(sampler.sample(&none), Err(Error::NonFiniteLogits)));
        sampler.sample(&logits(1)).expect("it goes on");
    }
}

#[test]
fn logits_of_another_length_are_refused() {
    let mut sampler = sampler(&greedy());
    for length in [0, 1, demo().vocab().n_tokens() + 1] {
        assert!(matches!(sampler.sample(&vec![0.0; length]), Err(Error::LogitsLength { .. })));
    }
}

#[test]
fn every_option_out_of_range_is_refused_by_name() {
    let set = |change: fn(&mut SamplerOptions)| {
        let mut options = SamplerOptions::default();
        change(&mut options);
        options
    };
    let bad: [(&str, SamplerOptions); 24] = [
        ("temperature", set(|o| o.temperature = -0.1)),
        ("temperature", set(|o| o.temperature = f32::NAN)),
        ("dynatemp_range", set(|o| o.dynatemp_range = -1.0)),
        ("dynatemp_exponent", set(|o| o.dynatemp_exponent = f32::INFINITY)),
        ("top_k", set(|o| o.top_k = -1)),
        ("top_p", set(|o| o.top_p = 1.1)),
        ("min_p", set(|o| o.min_p = -0.1)),
        ("typical_p", set(|o| o.typical_p = 2.0)),
        ("top_n_sigma", set(|o| o.top_n_sigma = -1.0)),
        ("xtc_probability", set(|o| o.xtc_probability = 1.5)),
        ("xtc_threshold", set(|o| o.xtc_threshold = -0.5)),
        ("repeat_penalty", set(|o| o.repeat_penalty = 0.0)),
        ("frequency_penalty", set(|o| o.frequency_penalty = f32::NAN)),
        ("presence_penalty", set(|o| o.presence_penalty = f32::INFINITY)),
        ("repeat_last_n", set(|o| o.repeat_last_n = -1)),
        ("dry_multiplier", set(|o| o.dry_multiplier = -1.0)),
        ("dry_base", set(|o| o.dry_base = 0.5)),
        ("dry_allowed_length", set(|o| o.dry_allowed_length = -1)),
        ("dry_penalty_last_n", set(|o| o.dry_penalty_last_n = i32::MAX)),
        ("mirostat", set(|o| o.mirostat = 3)),
        ("mirostat_tau", set(|o| o.mirostat_tau = f32::NAN)),
        ("mirostat_eta", set(|o| o.mirostat_eta = -1.0)),
        ("logit_bias", set(|o| o.logit_bias = vec![(1, f32::NAN)])),
        ("logit_bias", set(|o| o.logit_bias = vec![(1, f32::INFINITY)])),
    ];
    for (name, options) in bad {
        let error = Sampler::new(&options, &demo()).expect_err("out of range");
        assert!(matches!(error, Error::SamplerField { field, .. } if field == name), "{error:?}");
    }
}

#[test]
fn tokens_outside_the_vocabulary_and_nul_bytes_are_refused() {
    for token in [-1, i32::MAX] {
        let options = SamplerOptions { logit_bias: vec![(token, 1.0)], ..greedy() };
        assert!(matches!(Sampler::new(&options, &demo()), Err(Error::TokenOutOfRange { .. })));
        assert!(matches!(sampler(&greedy()).accept(token), Err(Error::TokenOutOfRange { .. })));
    }
    let breakers = vec!["a\0b".to_owned()];
    let options = SamplerOptions { dry_multiplier: 1.0, dry_sequence_breakers: breakers, ..greedy() };
    assert!(matches!(Sampler::new(&options, &demo()), Err(Error::NulByte { .. })));
}
