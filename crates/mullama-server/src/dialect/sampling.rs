//! The fields that set how tokens are chosen, with the names that `OpenAI`'s and llama.cpp's clients know.

use mullama::{DynamicValue as _, MullamaError, StreamConfig};
use serde_json::Value;

use super::samplers;
use crate::error::ApiError;
use crate::json::fields::{Field, Handling, NOT_YET, field};
use crate::json::{Json, Kind};
use Handling::{Checked, NoEffect, Only, OnlyYet, Read, Sets};

/// What moves the window of a context, which is never moved here.
pub(crate) const NEVER_SHIFTED: Handling =
    NoEffect(Kind::Integer(-1, i32::MAX as i64), "a context is never shifted: an answer ends where it is full");
/// A number of tokens; -1 is as many as fit.
pub(crate) const COUNT_OF_TOKENS: Handling = Checked(Kind::Integer(-1, u32::MAX as i64));
/// Most log-probabilities beside a token.
pub(crate) const MOST_LOGPROBS: u32 = 20;

/// Fields of llama-server's API that every dialect of completions takes, and mullama's own.
pub(crate) const EXTENSIONS: &[Field] = &[
    field("top_k", Sets("top_k")),
    field("min_p", Sets("min_p")),
    field("typical_p", Sets("typical_p")),
    field("typ_p", Sets("typical_p")),
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
    field("cache_prompt", Checked(Kind::Flag)),
    field("timings_per_token", Checked(Kind::Flag)),
    field("id_slot", Only(&["-1"])),
    field("grammar", OnlyYet(&["\"\""])),
    field("json_schema", NOT_YET),
    field("lora", Only(&["[]"])),
    field("samplers", Read),
    field("reasoning_format", Only(&["\"none\"", "\"auto\""])),
    field("penalize_nl", Checked(Kind::Flag)),
    field("tfs_z", Only(&["1"])),
    field("n_keep", NEVER_SHIFTED),
    field("n_discard", NEVER_SHIFTED),
    field("stream_delay_ms", Sets("stream_delay_ms")),
    field("priority", Handling::Refused("cannot be set by clients")),
    field("min_keep", Only(&["0"])),
    field("post_sampling_probs", Only(&["false"])),
    field("return_tokens", Only(&["false"])),
    field("return_progress", Only(&["false"])),
    field("n_probs", Handling::Refused("is not a field of this endpoint: logprobs and top_logprobs are")),
    field("n_predict", Handling::Refused("is not a field of this endpoint: max_tokens is")),
    field("t_max_predict_ms", Handling::Refused("is not supported: timeout_ms limits the whole request")),
    field("response_fields", NOT_YET),
];

/// What is common to the fields that are read and not set: seeds, stop sequences, samplers and the use of cached
/// prefixes.
pub(crate) fn read_common(body: &Json<'_>, config: &mut StreamConfig) -> Result<(), ApiError> {
    if let Some(seed) = body.get("seed")? {
        config.seed = folded(seed.integer(i64::MIN..=i64::MAX)?);
    }
    if let Some(stop) = body.get("stop")? {
        config.stop_sequences = stop_sequences(&stop)?;
        if let Err(error @ MullamaError::InvalidConfig { field: "stop_sequences", .. }) = config.validate() {
            return Err(stop.raised(error));
        }
    }
    for name in ["penalize_nl", "penalize_newline"] {
        if !body.flag_or(name, true)? && samplers::penalizes(config) {
            let message = "must be true together with penalties: newlines are penalized as other tokens are";
            return Err(ApiError::field(body.child(name), message));
        }
    }
    if let Some(asked) = body.get("samplers")? {
        samplers::check(&asked, config)?;
    }
    if !body.flag_or("cache_prompt", true)? {
        if !body.flag_or("deterministic", true)? {
            let message =
                "must not be false together with deterministic: without cached prefixes the text is deterministic";
            return Err(ApiError::field(body.child("cache_prompt"), message));
        }
        // Prefixes are reused only where that does not change a bit of the result.
        config.deterministic = true;
    }
    Ok(())
}

/// How many of the most likely tokens are reported beside each token, for dialects that turn that on with `logprobs`.
/// `None` reports nothing.
pub(crate) fn read_logprobs(body: &Json<'_>) -> Result<Option<u32>, ApiError> {
    let top = body.get("top_logprobs")?;
    let count = top.as_ref().map_or(Ok(0), |top| top.integer(0..=MOST_LOGPROBS))?;
    match (body.flag_or("logprobs", false)?, top) {
        (true, _) => Ok(Some(count)),
        // Some clients send 0 where they want none.
        (false, Some(top)) if count > 0 => Err(top.error("needs logprobs to be true")),
        (false, _) => Ok(None),
    }
}

/// The sampler's seed for a seed of 64 bits, which `OpenAI` allows. llama-server's clients ask for a random one with -1.
pub(crate) fn folded(seed: i64) -> Option<u32> {
    match u32::try_from(seed) {
        Ok(seed) if seed < u32::MAX => Some(seed),
        _ if seed == -1 => None,
        _ => {
            let folded = (seed.unsigned_abs() ^ seed.unsigned_abs() >> 32) % u64::from(u32::MAX);
            u32::try_from(folded).ok()
        }
    }
}

/// Most texts of a list.
const MOST_TEXTS: usize = 256;

/// A text, or a list of texts. Clients whose form for them was left empty send an empty text, or a list of one.
fn stop_sequences(value: &Json<'_>) -> Result<Vec<String>, ApiError> {
    let is_empty = |value: &Value| value == "";
    match value.value() {
        text if is_empty(text) => Ok(Vec::new()),
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(items) if items.len() == 1 && is_empty(&items[0]) => Ok(Vec::new()),
        Value::Array(_) => value.list_of(MOST_TEXTS, "strings")?.map(|item| stop_sequence(&item)).collect(),
        _ => Err(value.must_be("a string or a list of strings")),
    }
}

fn stop_sequence(item: &Json<'_>) -> Result<String, ApiError> {
    match item.text()? {
        "" => Err(item.error("must not be empty: every text has an empty text at its start")),
        text => Ok(text.to_owned()),
    }
}

/// A number of tokens; -1 is as many as fit.
pub(crate) fn max_tokens(value: &Json<'_>) -> Result<u32, ApiError> {
    let number = value.integer(-1..=i64::from(u32::MAX))?;
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
