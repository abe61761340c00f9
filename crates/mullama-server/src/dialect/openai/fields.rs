//! The fields of OpenAI's requests.

use crate::dialect::sampling::EXTENSIONS;
use crate::json::fields::Handling::{NoEffect, Only, Read, Refused, Sets};
use crate::json::fields::{Field, NOT_YET, field};

/// The fields that chat completions and completions share.
const COMMON: &[Field] = &[
    field("model", Read),
    field("frequency_penalty", Sets("frequency_penalty")),
    field("logit_bias", Sets("logit_bias")),
    field("max_tokens", Read),
    field("n", Read),
    field("presence_penalty", Sets("presence_penalty")),
    field("seed", Read),
    field("stop", Read),
    field("stream", Read),
    field("stream_options", Read),
    field("temperature", Sets("temperature")),
    field("top_p", Sets("top_p")),
    field("user", NoEffect("it names the client's user, of whom the server keeps nothing")),
];

/// The fields of a chat completion alone.
const CHAT: &[Field] = &[
    field("messages", Read),
    field("audio", NOT_YET),
    field("function_call", Only(&["\"none\"", "\"auto\""])),
    field("functions", Only(&["[]"])),
    field("logprobs", Read),
    field("top_logprobs", Read),
    field("max_completion_tokens", Read),
    field("metadata", NoEffect("it belongs to stored completions, and none is stored")),
    field("modalities", Only(&["[\"text\"]"])),
    field("parallel_tool_calls", NoEffect("there are no tools to call")),
    field("prediction", NoEffect("it is a hint for speed")),
    field("prompt_cache_key", NoEffect("equal prefixes are always shared")),
    field("prompt_cache_retention", NoEffect("prefixes stay while there is room")),
    field("reasoning_effort", Read),
    field("response_format", Only(&["{\"type\":\"text\"}"])),
    field("safety_identifier", NoEffect("it names the client's user, of whom the server keeps nothing")),
    field("service_tier", Only(&["\"auto\"", "\"default\""])),
    field("store", Only(&["false"])),
    field("tool_choice", Only(&["\"none\"", "\"auto\""])),
    field("tools", Only(&["[]"])),
    field("verbosity", Only(&["\"medium\""])),
    field("web_search_options", Refused("is not supported: this server does not search")),
    field("chat_template_kwargs", Read),
    field("add_generation_prompt", Read),
];

/// The tables of a chat completion.
pub(crate) const CHAT_TABLES: &[&[Field]] = &[COMMON, CHAT, EXTENSIONS];
