//! The settings of a generation, as llama-server lists them.

use mullama::StreamConfig;
use serde_json::{Value, json};

use super::options::Options;

/// llama.cpp's default order, which is the only one.
const SAMPLERS: [&str; 9] =
    ["penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"];

/// A number of tokens; -1 is as many as fit.
fn limit(max_tokens: u32) -> i64 {
    if max_tokens == u32::MAX { -1 } else { max_tokens.into() }
}

/// A float as it was written, without the digits that a conversion would add.
fn number(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// How tokens are chosen.
fn sampling(config: &StreamConfig) -> Value {
    json!({
        "temperature": number(config.temperature),
        "dynatemp_range": number(config.dynatemp_range),
        "dynatemp_exponent": number(config.dynatemp_exponent),
        "top_k": config.top_k,
        "top_p": number(config.top_p),
        "min_p": number(config.min_p),
        "top_n_sigma": number(config.top_n_sigma),
        "xtc_probability": number(config.xtc_probability),
        "xtc_threshold": number(config.xtc_threshold),
        "typical_p": number(config.typical_p),
        "repeat_last_n": config.repeat_last_n,
        "repeat_penalty": number(config.repeat_penalty),
        "presence_penalty": number(config.presence_penalty),
        "frequency_penalty": number(config.frequency_penalty),
        "dry_multiplier": number(config.dry_multiplier),
        "dry_base": number(config.dry_base),
        "dry_allowed_length": config.dry_allowed_length,
        "dry_penalty_last_n": config.dry_penalty_last_n,
        "dry_sequence_breakers": config.dry_sequence_breakers,
        "mirostat": config.mirostat,
        "mirostat_tau": number(config.mirostat_tau),
        "mirostat_eta": number(config.mirostat_eta),
    })
}

/// All settings of a request.
pub(super) fn settings(config: &StreamConfig, options: &Options, seed: u32) -> Value {
    let biases: Vec<Value> =
        config.logit_bias.iter().map(|(token, bias)| json!({"token": token, "bias": number(*bias)})).collect();
    let mut all = sampling(config);
    let others = json!({
        "seed": seed,
        "stop": config.stop_sequences,
        "max_tokens": limit(config.max_tokens),
        "n_predict": limit(config.max_tokens),
        "n_keep": 0,
        "n_discard": 0,
        "ignore_eos": config.ignore_eos,
        "stream": options.is_streamed,
        "logit_bias": biases,
        "n_probs": options.n_probs,
        "min_keep": 0,
        "grammar": "",
        "samplers": SAMPLERS,
        "timings_per_token": options.timings_per_token,
        "post_sampling_probs": false,
        "lora": [],
    });
    if let (Value::Object(all), Value::Object(others)) = (&mut all, others) {
        all.extend(others);
    }
    all
}
