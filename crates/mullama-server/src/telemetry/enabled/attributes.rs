//! The attributes of a span: names of OpenTelemetry's semantic conventions for generative AI, which are in development.
//!
//! What the conventions have no name for begins with `mullama.`; times are in seconds.

use std::time::Duration;

use mullama::StreamConfig;
use opentelemetry::{Array, KeyValue, StringValue, Value};

pub(super) const OPERATION: &str = "gen_ai.operation.name";
pub(super) const PROVIDER: &str = "gen_ai.provider.name";
pub(super) const REQUEST_MODEL: &str = "gen_ai.request.model";
pub(super) const REQUEST_STREAM: &str = "gen_ai.request.stream";
const CHOICES: &str = "gen_ai.request.choice.count";
pub(super) const RESPONSE_ID: &str = "gen_ai.response.id";
pub(super) const RESPONSE_MODEL: &str = "gen_ai.response.model";
pub(super) const FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
pub(super) const TIME_TO_FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";
pub(super) const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
pub(super) const CACHED_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
pub(super) const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
pub(super) const ERROR_TYPE: &str = "error.type";
pub(super) const SERVER_ADDRESS: &str = "server.address";
pub(super) const SERVER_PORT: &str = "server.port";
/// Time until the first stream of the request got a slot.
pub(super) const QUEUE_TIME: &str = "mullama.queue_time";
/// Time from the slot to the first token.
pub(super) const PREFILL_TIME: &str = "mullama.prefill_time";
/// Time that the streams were paused because the client did not read.
pub(super) const READER_WAIT: &str = "mullama.reader_wait";

/// Stop sequences that have more bytes together are not recorded.
const STOP_BYTES: usize = 1024;

/// What a request asks for, with the defaults of the model and the server where it says nothing.
pub(super) fn of_request(config: &StreamConfig, choices: usize) -> Vec<KeyValue> {
    let mut all = vec![
        KeyValue::new("gen_ai.request.temperature", f64::from(config.temperature)),
        KeyValue::new("gen_ai.request.top_p", f64::from(config.top_p)),
        KeyValue::new("gen_ai.request.top_k", i64::from(config.top_k)),
        KeyValue::new("gen_ai.request.frequency_penalty", f64::from(config.frequency_penalty)),
        KeyValue::new("gen_ai.request.presence_penalty", f64::from(config.presence_penalty)),
    ];
    // The largest number is the server's word for no limit.
    if config.max_tokens < u32::MAX {
        all.push(KeyValue::new("gen_ai.request.max_tokens", i64::from(config.max_tokens)));
    }
    if let Some(seed) = config.seed {
        all.push(KeyValue::new("gen_ai.request.seed", i64::from(seed)));
    }
    let stops = &config.stop_sequences;
    if !stops.is_empty() && stops.iter().map(String::len).sum::<usize>() <= STOP_BYTES {
        all.push(KeyValue::new("gen_ai.request.stop_sequences", texts(stops.iter().cloned())));
    }
    if choices != 1 {
        all.push(KeyValue::new(CHOICES, number(choices)));
    }
    all
}

pub(super) fn texts(texts: impl Iterator<Item = impl Into<StringValue>>) -> Value {
    Value::Array(Array::String(texts.map(Into::into).collect()))
}

pub(super) fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn time(name: &'static str, time: Duration) -> KeyValue {
    KeyValue::new(name, time.as_secs_f64())
}
