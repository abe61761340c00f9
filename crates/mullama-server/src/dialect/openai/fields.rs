//! The fields of `OpenAI`'s requests.

use crate::dialect::sampling::EXTENSIONS;
use crate::json::fields::Handling::{NoEffect, Only, OnlyYet, Read, Refused, Sets};
use crate::json::fields::{Field, Handling, NOT_YET, field};

const NOBODY: Handling = NoEffect("it names the client's user, of whom the server keeps nothing");
const NO_TOOLS: Handling = NoEffect("there are no tools to call");
const TEXT_ONLY: Handling = OnlyYet(&["{\"type\":\"text\"}"]);
const NO_TOOLS_YET: Handling = OnlyYet(&["[]"]);
const PLAIN_TIER: Handling = Only(&["\"auto\"", "\"default\""]);
const NO_MODERATION: Handling = Refused("is not supported: this server does not moderate");

/// How tokens are chosen, in every endpoint.
const SAMPLING: &[Field] = &[
    field("frequency_penalty", Sets("frequency_penalty")),
    field("logit_bias", Sets("logit_bias")),
    field("presence_penalty", Sets("presence_penalty")),
    field("seed", Read),
    field("stop", Read),
    field("temperature", Sets("temperature")),
    field("top_p", Sets("top_p")),
];

/// What chat completions and completions share.
const COMMON: &[Field] = &[
    field("model", Read),
    field("max_tokens", Read),
    field("n", Read),
    field("stream", Read),
    field("stream_options", Read),
    field("user", NOBODY),
];

/// What keeps prompts in caches: prefixes are shared and kept without being told.
const CACHING: &[Field] = &[
    field("prompt_cache_key", NoEffect("equal prefixes are always shared")),
    field("prompt_cache_options", NoEffect("prefixes stay while there is room")),
    field("prompt_cache_retention", NoEffect("prefixes stay while there is room")),
    field("safety_identifier", NOBODY),
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
    field("moderation", NO_MODERATION),
    field("parallel_tool_calls", NO_TOOLS),
    field("prediction", NoEffect("it is a hint for speed")),
    field("reasoning_effort", Read),
    field("response_format", TEXT_ONLY),
    field("service_tier", PLAIN_TIER),
    field("store", Only(&["false"])),
    field("tool_choice", Only(&["\"none\"", "\"auto\""])),
    field("tools", NO_TOOLS_YET),
    field("verbosity", Only(&["\"medium\""])),
    field("web_search_options", Refused("is not supported: this server does not search")),
    field("chat_template_kwargs", Read),
    field("add_generation_prompt", Read),
    field("return_progress", Read),
];

/// The fields of a completion alone.
const COMPLETION: &[Field] = &[
    field("prompt", Read),
    field("best_of", Read),
    field("echo", Read),
    field("logprobs", Read),
    field("suffix", NOT_YET),
    field("return_progress", Read),
];

/// The fields of a response alone.
const RESPONSE: &[Field] = &[
    field("model", Read),
    field("input", Read),
    field("instructions", Read),
    field("stream", Read),
    field("stream_options", Read),
    field("max_output_tokens", Read),
    field("top_logprobs", Read),
    field("include", Read),
    field("metadata", Read),
    field("reasoning", Read),
    field("text", Read),
    field("store", NoEffect("no response is stored, and each says so with `store: false`")),
    field("access_programs", Refused("is not supported")),
    field("background", Only(&["false"])),
    field("background_options", Refused("is not supported: no response runs in the background")),
    field("context_management", Only(&["[]"])),
    field("conversation", Refused("is not supported: nothing is stored; send the whole conversation as input")),
    field("image", NOT_YET),
    field("max_tool_calls", NO_TOOLS),
    field("moderation", NO_MODERATION),
    field("parallel_tool_calls", NO_TOOLS),
    field("previous_response_id", Refused("is not supported: nothing is stored; send the whole conversation as input")),
    field("prompt", Refused("is not supported: no prompts are stored; send the text as input")),
    field("service_tier", PLAIN_TIER),
    field("tool_choice", Only(&["\"none\"", "\"auto\""])),
    field("tools", NO_TOOLS_YET),
    field("truncation", Only(&["\"disabled\""])),
    field("user", NOBODY),
    field("timings_per_token", Only(&["false"])),
];

/// The fields of `stream_options`.
pub(crate) const STREAM_OPTIONS: &[Field] =
    &[field("include_usage", Read), field("include_obfuscation", Only(&["false"]))];
/// The fields of a response's `stream_options`: usage is always in its last event.
pub(crate) const RESPONSE_STREAM_OPTIONS: &[Field] = &[field("include_obfuscation", Only(&["false"]))];
/// The fields of a response's `text`.
pub(crate) const RESPONSE_TEXT: &[Field] = &[field("format", TEXT_ONLY), field("verbosity", Only(&["\"medium\""]))];
/// The fields of a response's `reasoning`.
pub(crate) const RESPONSE_REASONING: &[Field] = &[
    field("effort", Read),
    field("summary", NoEffect("no reasoning is told apart from the text")),
    field("generate_summary", NoEffect("no reasoning is told apart from the text")),
    field("context", NoEffect("no reasoning is told apart from the text")),
    field("mode", Only(&["\"standard\""])),
];

/// The tables of a chat completion.
pub(crate) const CHAT_TABLES: &[&[Field]] = &[COMMON, CHAT, SAMPLING, CACHING, EXTENSIONS];
/// The tables of a completion.
pub(crate) const COMPLETION_TABLES: &[&[Field]] = &[COMMON, COMPLETION, SAMPLING, EXTENSIONS];
/// The tables of a response.
pub(crate) const RESPONSE_TABLES: &[&[Field]] = &[RESPONSE, SAMPLING, CACHING, EXTENSIONS];
