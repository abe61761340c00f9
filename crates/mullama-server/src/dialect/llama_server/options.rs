//! The fields of `/completion` that shape the answer and not the text.

use std::time::Duration;

use mullama::StreamConfig;
use serde_json::{Map, Value};

use super::fields::COMPLETION_TABLES;
use crate::dialect::sampling;
use crate::error::ApiError;
use crate::json::{Biases, Json, fields};

/// Most answers to one prompt.
const MOST_ANSWERS: usize = 128;
/// Most names in `response_fields`.
const MOST_FIELDS: usize = 256;
/// The longest interval of pings in seconds.
const LONGEST_PING: i64 = 3600;

/// What the answer has.
#[expect(clippy::struct_excessive_bools, reason = "they are flags of the request")]
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    pub(super) count: usize,
    /// The field that says so.
    pub(super) count_name: &'static str,
    pub(super) is_streamed: bool,
    pub(super) returns_tokens: bool,
    pub(super) timings_per_token: bool,
    pub(super) returns_progress: bool,
    /// Number of most likely tokens to report; 0 is none.
    pub(super) n_probs: u32,
    pub(super) fields: Vec<String>,
    /// Biases of each token of a text; those of token ids are in the config.
    pub(super) biased_texts: Vec<(String, f32)>,
    /// Time between pings; `None` is the server's.
    pub(super) ping: Option<Duration>,
}

impl Options {
    pub(super) fn read(body: &Json<'_>) -> Result<Self, ApiError> {
        let flag = |name| body.flag_or(name, false);
        let count = body.one_of(&["n_cmpl", "n"])?.map_or(Ok(1), |value| value.integer(1..=MOST_ANSWERS))?;
        Ok(Self {
            count,
            count_name: if body.get("n_cmpl")?.is_some() { "n_cmpl" } else { "n" },
            is_streamed: flag("stream")?,
            returns_tokens: flag("return_tokens")?,
            timings_per_token: flag("timings_per_token")?,
            returns_progress: flag("return_progress")?,
            n_probs: n_probs(body)?,
            fields: body.get("response_fields")?.map_or(Ok(Vec::new()), |list| response_fields(&list))?,
            biased_texts: biases(body)?.texts,
            ping: body.get("sse_ping_interval")?.map(|value| ping(&value)).transpose()?,
        })
    }
}

fn response_fields(list: &Json<'_>) -> Result<Vec<String>, ApiError> {
    list.list_of(MOST_FIELDS, "names")?.map(|name| name.text().map(str::to_owned)).collect()
}

/// The number of most likely tokens to report; 0 is none.
fn n_probs(body: &Json<'_>) -> Result<u32, ApiError> {
    body.get("n_probs")?.map_or(Ok(0), |value| value.integer(0..=sampling::MOST_LOGPROBS))
}

fn ping(value: &Json<'_>) -> Result<Duration, ApiError> {
    let seconds = value.integer(-1..=LONGEST_PING)?;
    if seconds == 0 {
        return Err(value.error(format_args!("is 0, but must be -1 for no pings or 1 to {LONGEST_PING} seconds")));
    }
    // Without pings a stream is silent for as long as anything here may last.
    Ok(Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::from(u32::MAX))))
}

/// The biases of tokens, which may be given by their texts.
fn biases(body: &Json<'_>) -> Result<Biases, ApiError> {
    body.get("logit_bias")?.map_or_else(|| Ok(Biases::default()), |value| Biases::read(&value))
}

/// Sets the config as the request says.
pub(super) fn read_config(body: &Json<'_>, config: &mut StreamConfig) -> Result<(), ApiError> {
    fields::apply(COMPLETION_TABLES, body, config)?;
    sampling::read_common(body, config)?;
    if let Some(number) = body.one_of(&["n_predict", "max_tokens"])? {
        config.max_tokens = u32::try_from(number.integer(-2..=i64::from(u32::MAX))?).unwrap_or(u32::MAX);
    }
    config.logit_bias = biases(body)?.tokens;
    config.logprobs = Some(n_probs(body)?).filter(|number| *number > 0);
    config.validate().map_err(|error| fields::renamed(error.into(), COMPLETION_TABLES))
}

/// The fields of a document that a request asks for. A path such as `generation_settings/n_predict` takes its last name.
pub(super) fn selected(document: Value, paths: &[String]) -> Value {
    if paths.is_empty() {
        return document;
    }
    let mut fields = Map::new();
    for path in paths {
        let found = path.split('/').try_fold(&document, |value, name| value.get(name));
        if let Some(found) = found {
            fields.insert(path.rsplit('/').next().unwrap_or_default().to_owned(), found.clone());
        }
    }
    Value::Object(fields)
}
