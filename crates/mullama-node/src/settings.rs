//! The tables of settings, read from JavaScript by the names that their fields have there.

use std::collections::HashMap;

use mullama::{ContextParams, DynamicValue, Field, FlashAttn, KvType, Limits, ModelOptions, Setting, StreamConfig};
use napi_derive::napi;
use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use crate::error::{Failure, failure, wrong_type};
use crate::value::{Value, camel_case};

/// Settings of streams that were checked.
#[napi]
pub(crate) struct Settings {
    pub(crate) config: StreamConfig,
    /// Milliseconds that the deadlines of `config` are shorter than what was asked for.
    pub(crate) waited_ms: u64,
}

#[napi]
impl Settings {
    /// The settings of a stream whose call was so many milliseconds ago: its deadlines count from there.
    #[napi]
    pub fn after(&self, waited_ms: u32) -> Self {
        let (mut config, waited_ms) = (self.config.clone(), u64::from(waited_ms));
        for limit in [&mut config.timeout_ms, &mut config.ttft_timeout_ms, &mut config.queue_timeout_ms] {
            // 0 is no limit.
            *limit = limit.map(|ms| if ms == 0 { 0 } else { ms.saturating_sub(waited_ms).max(1) });
        }
        Self { config, waited_ms }
    }
}

/// Reads settings of streams: JSON with the fields that are given. Refuses the first one that is wrong.
#[napi]
pub(crate) fn read_settings(json: String) -> Result<Settings, Failure> {
    let given = fields(&json)?;
    let mut config = StreamConfig::new();
    for name in StreamConfig::FIELDS {
        if let Some(value) = given.get(&camel_case(name)) {
            config.set(name, &Value::Json(value))?;
        }
    }
    config.validate().map_err(failure)?;
    Ok(Settings { config, waited_ms: 0 })
}

fn fields(json: &str) -> Result<Map<String, Json>, Failure> {
    serde_json::from_str(json).map_err(|error| wrong_type(&error.to_string()))
}

/// A value as JSON, where numbers of single precision are as short as people write them.
fn shortest(value: &impl Serialize) -> Json {
    serde_json::to_string(value).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

macro_rules! table {
    ($($(#[doc = $doc:literal])* $name:ident: $type:ty, $setter:ty, $default:expr, $range:tt;)*) => {
        /// The core's table of settings of streams as JSON: name, type in Rust, default and description of each field.
        #[napi]
        pub(crate) fn stream_settings() -> String {
            let config = StreamConfig::default();
            Json::Array(vec![$(json!({
                "name": camel_case(stringify!($name)),
                "type": stringify!($type),
                "default": shortest(&config.$name),
                "range": range_in_words!($range),
                "doc": concat!($($doc),*).trim(),
            })),*]).to_string()
        }
    };
}

macro_rules! range_in_words {
    (-) => {
        None::<&str>
    };
    (($min:expr, $max:expr, $words:expr)) => {
        Some($words)
    };
    ([$most:expr, $words:expr]) => {
        Some($words)
    };
}

mullama::stream_config_table!(table);

/// The core's table of settings of engines as JSON: name of each, and the numbers or names that it may be.
#[napi]
pub(crate) fn context_settings() -> String {
    let limits: HashMap<&str, Limits> = ContextParams::limits().into_iter().collect();
    let rows = ContextParams::FIELDS.iter().map(|name| {
        let range = limits.get(name).and_then(|limits| match limits {
            Limits::Numbers(least, most) => Some([*least, *most]),
            Limits::Items(_) => None,
        });
        json!({ "name": camel_case(name), "range": range, "names": names_of(name) })
    });
    Json::Array(rows.collect()).to_string()
}

/// The values of a setting that has names for them.
fn names_of(field: &str) -> Option<Vec<&'static str>> {
    match field {
        "flash_attn" => Some(FlashAttn::NAMED.into_iter().map(|(name, _)| name).collect()),
        "type_k" | "type_v" => Some(KvType::NAMED.into_iter().map(|(name, _)| name).collect()),
        _ => None,
    }
}

/// Refuses the first setting of an engine that is wrong.
#[napi]
pub(crate) fn check_context_params(json: String) -> Result<(), Failure> {
    context_params(&json).map(drop)
}

/// Reads settings of an engine: JSON with the fields that are given.
pub(crate) fn context_params(json: &str) -> Result<ContextParams, Failure> {
    let given = fields(json)?;
    let mut params = ContextParams::default();
    for name in ContextParams::FIELDS {
        if let Some(value) = given.get(&camel_case(name)) {
            params.set(name, &Value::Json(value))?;
        }
    }
    params.validate().map_err(failure)?;
    Ok(params)
}

/// Reads the options of a load: JSON with the fields that are given.
pub(crate) fn model_options(json: &str) -> Result<ModelOptions, Failure> {
    let given = fields(json)?;
    let mut options = ModelOptions::default();
    let field = |name| Field::new(name, |_| Some("-2147483648 to 2147483647"));
    // A new option does not compile until it has a line here.
    let ModelOptions { n_gpu_layers, use_mmap, use_mlock, check_tensors, vocab_only } = &mut options;
    let value = |name: &str| given.get(&camel_case(name)).map(Value::Json).filter(|value| !value.is_none());
    if let Some(layers) = value("n_gpu_layers") {
        *n_gpu_layers = Setting::take(&layers, field("n_gpu_layers"))?;
    }
    let flags = [
        ("use_mmap", use_mmap),
        ("use_mlock", use_mlock),
        ("check_tensors", check_tensors),
        ("vocab_only", vocab_only),
    ];
    for (name, flag) in flags {
        if let Some(given) = value(name) {
            *flag = Setting::take(&given, field(name))?;
        }
    }
    Ok(options)
}
