//! The fields that set how tokens are chosen, with the names that `OpenAI`'s and llama.cpp's clients know.

use mullama::{DynamicValue as _, MullamaError, StreamConfig};
use serde_json::Value;

use crate::error::ApiError;
use crate::json::Json;
use crate::json::fields::{Field, Handling, NOT_YET, field};
use Handling::{NoEffect, Only, Read, Sets};

/// Fields of llama-server's API that every dialect of completions takes, and mullama's own.
pub(crate) const EXTENSIONS: &[Field] = &[
    field("top_k", Sets("top_k")),
    field("min_p", Sets("min_p")),
    field("typical_p", Sets("typical_p")),
    field("repeat_penalty", Sets("repeat_penalty")),
    field("repetition_penalty", Sets("repeat_penalty")),
    field("repeat_last_n", Sets("repeat_last_n")),
    field("xtc_probability", Sets("xtc_probability")),
    field("xtc_threshold", Sets("xtc_threshold")),
    field("dry_multiplier", Sets("dry_multiplier")),
    field("dry_base", Sets("dry_base")),
    field("dry_allowed_length", Sets("dry_allowed_length")),
    field("dry_penalty_last_n", Sets("dry_penalty_last_n")),
    field("dry_sequence_breakers", Sets("dry_sequence_breakers")),
    field("mirostat", Sets("mirostat")),
    field("mirostat_tau", Sets("mirostat_tau")),
    field("mirostat_eta", Sets("mirostat_eta")),
    field("dynatemp_range", Sets("dynatemp_range")),
    field("dynatemp_exponent", Sets("dynatemp_exponent")),
    field("top_n_sigma", Sets("top_n_sigma")),
    field("ignore_eos", Sets("ignore_eos")),
    field("stop_token_ids", Sets("stop_tokens")),
    field("buffer_size", Sets("buffer_size")),
    field("timeout_ms", Sets("timeout_ms")),
    field("ttft_timeout_ms", Sets("ttft_timeout_ms")),
    field("queue_timeout_ms", Sets("queue_timeout_ms")),
    field("deterministic", Sets("deterministic")),
    field("cache_prompt", Read),
    field("timings_per_token", Read),
    field("id_slot", Only(&["-1"])),
    field("grammar", NOT_YET),
    field("json_schema", NOT_YET),
    field("lora", Only(&["[]"])),
    field("samplers", Handling::Refused("cannot be changed: the samplers run in llama.cpp's default order")),
    field("n_keep", NoEffect("contexts are never shifted")),
    field("n_discard", NoEffect("contexts are never shifted")),
    field("stream_delay_ms", Sets("stream_delay_ms")),
    field("priority", Handling::Refused("is not a client's to choose")),
    field("min_keep", Only(&["0"])),
    field("post_sampling_probs", Only(&["false"])),
    field("return_tokens", Only(&["false"])),
    field("return_progress", Only(&["false"])),
    field("n_probs", Handling::Refused("is not a field of this endpoint: logprobs and top_logprobs are")),
    field("n_predict", Handling::Refused("is not a field of this endpoint: max_tokens is")),
    field("t_max_predict_ms", Handling::Refused("is not supported: timeout_ms limits the whole request")),
    field("response_fields", NOT_YET),
];

/// What is common to the fields that are read and not set: seeds, stop sequences and the use of cached prefixes.
pub(crate) fn read_common(body: &Json<'_>, config: &mut StreamConfig) -> Result<(), ApiError> {
    if let Some(seed) = body.get("seed")? {
        config.seed = folded(seed.integer(i64::MIN, i64::MAX)?);
    }
    if let Some(stop) = body.get("stop")? {
        config.stop_sequences = texts(&stop)?;
        if let Err(error @ MullamaError::InvalidConfig { field: "stop_sequences", .. }) = config.validate() {
            return Err(stop.raised(error));
        }
    }
    if let Some(cache) = body.get("cache_prompt")?
        && !cache.flag()?
    {
        // Prefixes are reused only where that does not change a bit of the result.
        config.deterministic = true;
    }
    Ok(())
}

/// The sampler's seed for a seed of 64 bits, which `OpenAI` allows. llama-server's clients ask for a random one with -1.
fn folded(seed: i64) -> Option<u32> {
    match u32::try_from(seed) {
        Ok(seed) if seed < u32::MAX => Some(seed),
        _ if seed == -1 => None,
        _ => {
            let folded = (seed.unsigned_abs() ^ seed.unsigned_abs() >> 32) % u64::from(u32::MAX);
            u32::try_from(folded).ok()
        }
    }
}

/// A text, or a list of texts.
pub(crate) fn texts(value: &Json<'_>) -> Result<Vec<String>, ApiError> {
    match value.value() {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(_) => value.list()?.iter().map(|item| item.text().map(str::to_owned)).collect(),
        _ => Err(value.must_be("a string or a list of strings")),
    }
}

/// A number of tokens; -1 is as many as fit.
pub(crate) fn max_tokens(value: &Json<'_>) -> Result<u32, ApiError> {
    let number = value.integer(-1, u32::MAX.into())?;
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::folded;

    #[test]
    fn every_seed_but_minus_one_is_a_seed_of_the_sampler() {
        assert_eq!([folded(-1), folded(0), folded(7)], [None, Some(0), Some(7)]);
        for seed in [i64::MIN, i64::MAX, -2, u32::MAX.into(), 1 << 40] {
            assert!(folded(seed).is_some_and(|seed| seed < u32::MAX), "{seed}");
        }
        assert_ne!(folded(1 << 40), folded(1 << 41));
    }
}
