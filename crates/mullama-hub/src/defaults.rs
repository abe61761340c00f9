//! Settings that a model's publisher recommends: the `params` and `system` layers of a manifest.

use mullama::{ContextParams, StreamConfig};
use serde_json::{Map, Value};

/// Most bytes of a layer that are read. Real ones have less than a kilobyte.
const LAYER_LEN_MOST: usize = 1 << 20;

/// Most bytes of a system message.
const SYSTEM_LEN_MOST: usize = 32 << 10;

/// Settings that a model's publisher recommends.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Defaults {
    /// Fields of `StreamConfig` by name, with values in their ranges: `stop` is `stop_sequences`, `num_predict` is
    /// `max_tokens`. What mullama has no field for, or what is out of range, is left out.
    pub stream: Map<String, Value>,
    /// The context length that is recommended (`num_ctx`), in tokens.
    pub n_ctx: Option<u32>,
    /// The system message; one that is longer than 32 KiB is left out, for it would fill the context.
    pub system: Option<String>,
}

impl Defaults {
    /// What the contents of the `params` and `system` layers of a manifest recommend; empty for a layer that is not there.
    ///
    /// ```
    /// use mullama_hub::Defaults;
    ///
    /// let defaults = Defaults::from_layers(br#"{"temperature": 0.6, "stop": ["<end>"], "num_gpu": 9}"#, b"Be brief.");
    /// assert_eq!(defaults.stream["stop_sequences"][0], "<end>");
    /// assert_eq!((defaults.stream.len(), defaults.system.as_deref()), (2, Some("Be brief.")));
    /// ```
    pub fn from_layers(params: &[u8], system: &[u8]) -> Self {
        let mut defaults = Self { system: system_message(system), ..Self::default() };
        if params.len() > LAYER_LEN_MOST {
            return defaults;
        }
        // A document that is nested too deeply is an error of the parser.
        let Ok(Value::Object(params)) = serde_json::from_slice(params) else {
            return defaults;
        };
        for (key, value) in params {
            if key == "num_ctx" {
                defaults.n_ctx = integer(&value).and_then(context_len);
            } else if let Some((field, value)) = setting(&key, &value) {
                defaults.stream.insert(field.to_owned(), value);
            }
        }
        defaults
    }
}

fn system_message(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    if text.len() > SYSTEM_LEN_MOST {
        tracing::warn!(bytes = text.len(), most = SYSTEM_LEN_MOST, "the recommended system message is left out");
        return None;
    }
    (!text.is_empty()).then(|| text.to_owned())
}

fn context_len(number: i64) -> Option<u32> {
    let n_ctx = u32::try_from(number).ok().filter(|number| *number > 0)?;
    let params = ContextParams { n_ctx: Some(n_ctx), ..ContextParams::default() };
    params.validate().ok().map(|()| n_ctx)
}

/// The field of `StreamConfig` for a parameter of Ollama, with its value in the form and range of that field.
fn setting(key: &str, value: &Value) -> Option<(&'static str, Value)> {
    match key {
        "stop" => texts(value).map(|texts| ("stop_sequences", texts)),
        "num_predict" => whole("max_tokens", value),
        "top_k" => whole("top_k", value),
        "repeat_last_n" => whole("repeat_last_n", value),
        "mirostat" => whole("mirostat", value),
        "seed" => whole("seed", value),
        "temperature" => number("temperature", value),
        "top_p" => number("top_p", value),
        "min_p" => number("min_p", value),
        "typical_p" => number("typical_p", value),
        "repeat_penalty" => number("repeat_penalty", value),
        "frequency_penalty" => number("frequency_penalty", value),
        "presence_penalty" => number("presence_penalty", value),
        "mirostat_tau" => number("mirostat_tau", value),
        "mirostat_eta" => number("mirostat_eta", value),
        _ => None,
    }
}

/// An integer, also one that is written with a fraction of 0.
fn integer(value: &Value) -> Option<i64> {
    let of_fraction = || {
        let number = value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9e15)?;
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
        Some(number as i64)
    };
    value.as_i64().or_else(of_fraction)
}

fn whole(field: &'static str, value: &Value) -> Option<(&'static str, Value)> {
    let number = integer(value)?;
    let config = StreamConfig::new();
    let unsigned = || u32::try_from(number).ok();
    let config = match field {
        "max_tokens" => config.max_tokens(unsigned()?),
        "top_k" => config.top_k(unsigned()?),
        "mirostat" => config.mirostat(unsigned()?),
        "seed" => config.seed(unsigned()?),
        _ => config.repeat_last_n(i32::try_from(number).ok()?),
    };
    config.validate().ok()?;
    Some((field, number.into()))
}

fn number(field: &'static str, value: &Value) -> Option<(&'static str, Value)> {
    let number = value.as_f64()?;
    #[expect(clippy::cast_possible_truncation, reason = "the fields have single precision")]
    let single = number as f32;
    let config = StreamConfig::new();
    let config = match field {
        "temperature" => config.temperature(single),
        "top_p" => config.top_p(single),
        "min_p" => config.min_p(single),
        "typical_p" => config.typical_p(single),
        "repeat_penalty" => config.repeat_penalty(single),
        "frequency_penalty" => config.frequency_penalty(single),
        "presence_penalty" => config.presence_penalty(single),
        "mirostat_tau" => config.mirostat_tau(single),
        _ => config.mirostat_eta(single),
    };
    config.validate().ok()?;
    Some((field, number.into()))
}

/// Stop sequences: one text or several, without empty ones and repetitions.
fn texts(value: &Value) -> Option<Value> {
    let one = std::slice::from_ref(value);
    let mut texts = Vec::new();
    for text in value.as_array().map_or(one, Vec::as_slice) {
        let text = text.as_str()?.to_owned();
        if !text.is_empty() && !texts.contains(&text) {
            texts.push(text);
        }
        if texts.len() > 256 {
            return None;
        }
    }
    StreamConfig::new().stop_sequences(texts.clone()).validate().ok()?;
    (!texts.is_empty()).then(|| texts.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::Defaults;

    fn of(params: &Value) -> Defaults {
        Defaults::from_layers(params.to_string().as_bytes(), b"")
    }

    #[test]
    fn parameters_become_fields_of_the_same_meaning() {
        let defaults = of(&json!({
            "stop": ["<|eot|>", "", "<|eot|>", "\n"], "num_predict": 128, "num_ctx": 8192.0, "temperature": 1,
            "top_k": 40.0, "top_p": 0.95, "seed": 7, "repeat_last_n": -1, "num_gpu": 1, "penalize_newline": true,
        }));
        let expected = json!({
            "stop_sequences": ["<|eot|>", "\n"], "max_tokens": 128, "temperature": 1.0, "top_k": 40, "top_p": 0.95,
            "seed": 7, "repeat_last_n": -1,
        });
        assert_eq!(Value::Object(defaults.stream), expected);
        assert_eq!(defaults.n_ctx, Some(8192));
        assert_eq!(of(&json!({"stop": "END"})).stream["stop_sequences"], json!(["END"]));
    }

    #[test]
    fn a_system_message_that_would_fill_the_context_is_left_out() {
        let system = |len: usize| Defaults::from_layers(b"", "x".repeat(len).as_bytes()).system;
        assert_eq!(system(32 << 10).map(|text| text.len()), Some(32 << 10));
        assert_eq!(system((32 << 10) + 1), None);
    }

    #[test]
    fn values_out_of_range_or_of_another_type_are_left_out() {
        let long = vec!["x".repeat(300); 1];
        for params in [
            json!({"temperature": -1}),
            json!({"temperature": "hot"}),
            json!({"temperature": null}),
            json!({"temperature": 1e300}),
            json!({"top_p": 1.5}),
            json!({"top_k": -1}),
            json!({"top_k": 0.5}),
            json!({"num_predict": -1}),
            json!({"num_predict": 1e18}),
            json!({"seed": u64::MAX}),
            json!({"mirostat": 3}),
            json!({"stop": [1]}),
            json!({"stop": []}),
            json!({"stop": {}}),
            json!({"stop": "x".repeat(70_000)}),
            json!({"num_ctx": 0}),
            json!({"num_ctx": -5}),
            json!({"num_ctx": 1e12}),
            json!({"repeat_penalty": 0}),
            json!({"stop": (0..300).map(|n| format!("{n}{}", long[0])).collect::<Vec<_>>()}),
            json!([]),
            json!(3),
        ] {
            assert_eq!(of(&params), Defaults::default(), "{params}");
        }
        let deep = "[".repeat(100_000);
        for hostile in [deep.as_bytes(), b"{\"temperature\":1e999}", b"\xff", b"{", &vec![b' '; 1 << 21]] {
            assert_eq!(Defaults::from_layers(hostile, b" \n"), Defaults::default());
        }
        assert_eq!(Defaults::from_layers(b"", b"\xff").system, None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(params in any::<Vec<u8>>(), system in any::<Vec<u8>>()) {
            Defaults::from_layers(&params, &system);
        }
    }
}
