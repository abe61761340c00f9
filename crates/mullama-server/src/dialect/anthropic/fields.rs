//! The fields of Anthropic's requests.

use crate::json::fields::Handling::{NoEffect, Only, OnlyYet, Read, Refused, Sets};
use crate::json::fields::{Field, NOT_YET, field};

/// The fields that messages and the count of their tokens share.
const COMMON: &[Field] = &[
    field("model", Read),
    field("messages", Read),
    field("system", Read),
    field("thinking", Read),
    field("tool_choice", Read),
    field("tools", OnlyYet(&["[]"])),
    field("output_config", Read),
    field("cache_control", NoEffect("equal prefixes are always shared")),
    field("context_management", Refused("is not supported: a conversation is never shortened")),
    field("mcp_servers", OnlyYet(&["[]"])),
    field("output_format", NOT_YET),
    field("speed", Only(&["\"standard\""])),
];

/// The fields of a message alone.
const MESSAGE: &[Field] = &[
    field("max_tokens", Read),
    field("stream", Read),
    field("stop_sequences", Sets("stop_sequences")),
    field("temperature", Sets("temperature")),
    field("top_k", Sets("top_k")),
    field("top_p", Sets("top_p")),
    field("metadata", NoEffect("it names the client's user, of whom the server keeps nothing")),
    field("service_tier", Only(&["\"auto\"", "\"standard_only\""])),
    field("billing_policy", Refused("is not supported: nothing is billed")),
    field("compaction", Refused("is not supported: a conversation is never shortened")),
    field("container", Refused("is not supported: this server runs no code")),
    field("diagnostics", Refused("is not supported: this server keeps no messages to compare with")),
    field("fallback_credit_token", Refused("is not supported: nothing is billed")),
    field("fallbacks", Refused("is not supported: a request is answered by the model that it names")),
    field("inference_geo", Refused("is not supported: the model runs where the server is")),
    field("thread", Refused("is not supported: this server keeps no messages")),
];

/// Fields of mullama that Anthropic's API has no name for.
const EXTENSIONS: &[Field] = &[
    field("seed", Sets("seed")),
    field("min_p", Sets("min_p")),
    field("typical_p", Sets("typical_p")),
    field("frequency_penalty", Sets("frequency_penalty")),
    field("presence_penalty", Sets("presence_penalty")),
    field("repeat_penalty", Sets("repeat_penalty")),
    field("repeat_last_n", Sets("repeat_last_n")),
    field("logit_bias", Sets("logit_bias")),
    field("deterministic", Sets("deterministic")),
    field("timeout_ms", Sets("timeout_ms")),
    field("ttft_timeout_ms", Sets("ttft_timeout_ms")),
    field("queue_timeout_ms", Sets("queue_timeout_ms")),
];

/// The tables of `/v1/messages`.
pub(crate) const MESSAGE_TABLES: &[&[Field]] = &[COMMON, MESSAGE, EXTENSIONS];
/// The tables of `/v1/messages/count_tokens`.
pub(crate) const COUNT_TABLES: &[&[Field]] = &[COMMON];
