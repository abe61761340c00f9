//! The settings of a generation, as llama-server lists them.

use mullama::StreamConfig;
use serde_json::{Value, json};

use super::options::Options;
use crate::dialect::openai::Short;
use crate::dialect::samplers;

/// A number of tokens; -1 is as many as fit.
fn limit(max_tokens: u32) -> i64 {
    if max_tokens == u32::MAX { -1 } else { max_tokens.into() }
}

/// How tokens are chosen.
fn sampling(config: &StreamConfig) -> Value {
    json!({
        "temperature": Short(config.temperature),
        "dynatemp_range": Short(config.dynatemp_range),
        "dynatemp_exponent": Short(config.dynatemp_exponent),
        "top_k": config.top_k,
        "top_p": Short(config.top_p),
        "min_p": Short(config.min_p),
        "top_n_sigma": Short(config.top_n_sigma),
        "xtc_probability": Short(config.xtc_probability),
        "xtc_threshold": Short(config.xtc_threshold),
        "typical_p": Short(config.typical_p),
        "repeat_last_n": config.repeat_last_n,
        "repeat_penalty": Short(config.repeat_penalty),
        "presence_penalty": Short(config.presence_penalty),
        "frequency_penalty": Short(config.frequency_penalty),
        "dry_multiplier": Short(config.dry_multiplier),
        "dry_base": Short(config.dry_base),
        "dry_allowed_length": config.dry_allowed_length,
        "dry_penalty_last_n": config.dry_penalty_last_n,
        "dry_sequence_breakers": config.dry_sequence_breakers,
        "mirostat": config.mirostat,
        "mirostat_tau": Short(config.mirostat_tau),
        "mirostat_eta": Short(config.mirostat_eta),
    })
}

/// All settings of a request.
pub(super) fn settings(config: &StreamConfig, options: &Options, seed: u32) -> Value {
    let biases: Vec<Value> =
        config.logit_bias.iter().map(|(token, bias)| json!({"token": token, "bias": Short(*bias)})).collect();
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
        "samplers": samplers::names(),
        "timings_per_token": options.timings_per_token,
        "post_sampling_probs": false,
        "lora": [],
    });
    if let (Value::Object(all), Value::Object(others)) = (&mut all, others) {
        all.extend(others);
    }
    all
}
