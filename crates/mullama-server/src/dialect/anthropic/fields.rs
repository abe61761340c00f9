//! The fields of Anthropic's requests.

use crate::dialect::messages::{CACHE_MARK, LEFT_OUT};
use crate::dialect::sampling::EXTENSIONS;
use crate::json::Kind;
use crate::json::fields::Handling::{Checked, NoEffect, Only, OnlyYet, Read, Refused, Sets};
use crate::json::fields::{Field, NOT_YET, field};

/// The fields that messages and the count of their tokens share.
const COMMON: &[Field] = &[
    field("model", Read),
    field("messages", Read),
    field("system", Read),
    field("thinking", Checked(Kind::Object(THINKING))),
    field("tool_choice", Checked(Kind::Object(TOOL_CHOICE))),
    field("tools", OnlyYet(&["[]"])),
    field("output_config", Checked(Kind::Object(OUTPUT_CONFIG))),
    field("cache_control", CACHE_MARK),
    field("context_management", Only(&["{\"edits\":[]}", "{}"])),
    field("mcp_servers", OnlyYet(&["[]"])),
    field("output_format", NOT_YET),
    field("speed", Only(&["\"standard\""])),
];

/// The fields of a message alone.
const MESSAGE: &[Field] = &[
    field("max_tokens", Read),
    field("stream", Checked(Kind::Flag)),
    field("stop_sequences", Sets("stop_sequences")),
    field("temperature", Sets("temperature")),
    field("top_k", Sets("top_k")),
    field("top_p", Sets("top_p")),
    field(
        "metadata",
        NoEffect(Kind::Object(METADATA), "it names the client's user, about whom the server keeps nothing"),
    ),
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

/// Fields that other dialects have of their own, and those of the shared table that differ here.
const OTHERS: &[Field] = &[
    field("seed", Read),
    field("frequency_penalty", Sets("frequency_penalty")),
    field("presence_penalty", Sets("presence_penalty")),
    field("logit_bias", Sets("logit_bias")),
    field("timings_per_token", Only(&["false"])),
    field("n_probs", Refused("is not a field of this endpoint, whose answers have no log-probabilities")),
];

/// The fields of `metadata`.
const METADATA: &[Field] = &[field("user_id", Checked(Kind::Text))];
/// The fields of `thinking`, whose type is read first: the others belong to a thinking that is turned on.
pub(crate) const THINKING: &[Field] =
    &[field("type", Read), field("budget_tokens", NOT_YET), field("display", NOT_YET)];
/// The fields of `tool_choice`.
pub(crate) const TOOL_CHOICE: &[Field] = &[
    field("type", Read),
    field("disable_parallel_tool_use", NoEffect(Kind::Flag, "there are no tools to call")),
    field("name", NOT_YET),
];
/// The fields of `output_config`.
pub(crate) const OUTPUT_CONFIG: &[Field] = &[field("effort", Checked(Kind::Text)), field("format", NOT_YET)];
/// The fields of a message.
pub(crate) const MESSAGE_FIELDS: &[Field] = &[field("role", Checked(Kind::Text)), field("content", Read)];
/// The fields of a block of text.
pub(crate) const TEXT_BLOCK: &[Field] = &[
    field("type", Checked(Kind::Text)),
    field("text", Checked(Kind::Text)),
    field("cache_control", CACHE_MARK),
    field("citations", Only(&["[]"])),
];
/// The fields of a block of thinking. Anthropic leaves those of earlier turns out as well.
pub(crate) const THINKING_BLOCK: &[Field] = &[
    field("type", Checked(Kind::Text)),
    field("thinking", NoEffect(Kind::Text, LEFT_OUT)),
    field("signature", NoEffect(Kind::Text, LEFT_OUT)),
];
/// The fields of a block of thinking that only its author can read.
pub(crate) const REDACTED_BLOCK: &[Field] =
    &[field("type", Checked(Kind::Text)), field("data", NoEffect(Kind::Text, LEFT_OUT))];

/// The tables of `/v1/messages`.
pub(crate) const MESSAGE_TABLES: &[&[Field]] = &[COMMON, MESSAGE, OTHERS, EXTENSIONS];
/// The tables of `/v1/messages/count_tokens`.
pub(crate) const COUNT_TABLES: &[&[Field]] = &[COMMON];
