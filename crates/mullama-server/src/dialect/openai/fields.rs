//! The fields of `OpenAI`'s requests.

use crate::dialect::messages::{LEFT_OUT, TEXT};
use crate::dialect::sampling::{COUNT_OF_TOKENS, EXTENSIONS};
use crate::json::Kind;
use crate::json::fields::Handling::{Checked, NoEffect, Only, OnlyYet, Read, Refused, Sets};
use crate::json::fields::{Field, Handling, NOT_YET, field};

const NOBODY: Handling = NoEffect(Kind::Text, "it names the client's user, about whom the server keeps nothing");
const NO_TOOLS: &str = "there are no tools to call";
const ALWAYS_SHARED: &str = "equal prefixes are always shared, and stay while there is space";
const NO_REASONING: &str = "reasoning is not separated from the text";
const FLAG: Handling = Checked(Kind::Flag);
const TEXT_ONLY: Handling = OnlyYet(&["{\"type\":\"text\"}"]);
const NO_TOOLS_YET: Handling = OnlyYet(&["[]"]);
const PLAIN_TIER: Handling = Only(&["\"auto\"", "\"default\""]);
const VERBOSITY: Handling = Checked(Kind::Word(&["low", "medium", "high"]));
const STATUS: Kind = Kind::Word(&["in_progress", "completed", "incomplete"]);
const NO_MODERATION: Handling = Refused("is not supported: this server does not moderate texts");

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
    field("max_tokens", COUNT_OF_TOKENS),
    field("n", Read),
    field("stream", FLAG),
    field("stream_options", Checked(Kind::Object(STREAM_OPTIONS))),
    field("user", NOBODY),
];

/// What keeps prompts in caches: prefixes are shared and kept without being told.
const CACHING: &[Field] = &[
    field("prompt_cache_key", NoEffect(Kind::Text, ALWAYS_SHARED)),
    field("prompt_cache_options", NoEffect(Kind::Object(CACHE_OPTIONS), ALWAYS_SHARED)),
    field("prompt_cache_retention", NoEffect(Kind::Word(&["in_memory", "in-memory", "24h"]), ALWAYS_SHARED)),
    field("safety_identifier", NOBODY),
];

/// The fields of `prompt_cache_options`.
const CACHE_OPTIONS: &[Field] = &[
    field("mode", Checked(Kind::Word(&["implicit", "explicit"]))),
    field("ttl", Checked(Kind::Word(&["30m", "12h"]))),
    field("prewarm", FLAG),
    field("comparison_response_id", Checked(Kind::Text)),
];

/// The fields of `prediction`.
const PREDICTION: &[Field] = &[
    field("type", Checked(Kind::Word(&["content"]))),
    field("content", Checked(Kind::Either(&[Kind::Text, Kind::List(&Kind::Object(TEXT))]))),
];

/// The fields of a chat completion alone.
const CHAT: &[Field] = &[
    field("messages", Read),
    field("audio", NOT_YET),
    field("function_call", Only(&["\"none\"", "\"auto\""])),
    field("functions", Only(&["[]"])),
    field("logprobs", Read),
    field("top_logprobs", Read),
    field("max_completion_tokens", COUNT_OF_TOKENS),
    field("metadata", NoEffect(Kind::Metadata, "it belongs to stored completions, and none is stored")),
    field("modalities", Only(&["[\"text\"]"])),
    field("moderation", NO_MODERATION),
    field("parallel_tool_calls", NoEffect(Kind::Flag, NO_TOOLS)),
    field("prediction", NoEffect(Kind::Object(PREDICTION), "it is a hint for speed, and changes no text")),
    field("reasoning_effort", Checked(Kind::Text)),
    field("response_format", TEXT_ONLY),
    field("service_tier", PLAIN_TIER),
    field("store", Only(&["false"])),
    field("tool_choice", Only(&["\"none\"", "\"auto\""])),
    field("tools", NO_TOOLS_YET),
    field("verbosity", VERBOSITY),
    field("web_search_options", Refused("is not supported: this server does not search the web")),
    field("chat_template_kwargs", Checked(Kind::AnyObject)),
    field("add_generation_prompt", FLAG),
    field("return_progress", FLAG),
];

/// The fields of a completion alone.
const COMPLETION: &[Field] = &[
    field("prompt", Read),
    field("best_of", Read),
    field("echo", FLAG),
    field("logprobs", Read),
    field("suffix", OnlyYet(&["\"\""])),
    field("return_progress", FLAG),
];

/// The fields of a response alone.
const RESPONSE: &[Field] = &[
    field("model", Read),
    field("input", Read),
    field("instructions", Checked(Kind::Text)),
    field("stream", FLAG),
    field("stream_options", Checked(Kind::Object(RESPONSE_STREAM_OPTIONS))),
    field("max_output_tokens", COUNT_OF_TOKENS),
    field("top_logprobs", Read),
    field("include", Read),
    field("metadata", Checked(Kind::Metadata)),
    field("reasoning", Checked(Kind::Object(RESPONSE_REASONING))),
    field("text", Checked(Kind::Object(RESPONSE_TEXT))),
    field("store", NoEffect(Kind::Flag, "no response is stored, and each says so with `store: false`")),
    field("access_programs", Refused("is not supported: this server has no such programs")),
    field("background", Only(&["false"])),
    field("background_options", Refused("is not supported: no response runs in the background")),
    field("context_management", Only(&["[]"])),
    field("conversation", Refused("is not supported: nothing is stored; send the whole conversation as input")),
    field("image", NOT_YET),
    field("max_tool_calls", NoEffect(Kind::Integer(0, u32::MAX as i64), NO_TOOLS)),
    field("moderation", NO_MODERATION),
    field("parallel_tool_calls", NoEffect(Kind::Flag, NO_TOOLS)),
    field("previous_response_id", Refused("is not supported: nothing is stored; send the whole conversation as input")),
    field("prompt", Refused("is not supported: no prompts are stored; send the text as input")),
    field("service_tier", PLAIN_TIER),
    field("tool_choice", Only(&["\"none\"", "\"auto\""])),
    field("tools", NO_TOOLS_YET),
    field(
        "truncation",
        NoEffect(
            Kind::Word(&["disabled", "auto"]),
            "an input that fits is never shortened, and one that does not fit is refused",
        ),
    ),
    field("user", NOBODY),
    field("timings_per_token", Only(&["false"])),
];

/// The fields of `stream_options`.
pub(crate) const STREAM_OPTIONS: &[Field] =
    &[field("include_usage", FLAG), field("include_obfuscation", Only(&["false"]))];
/// The fields of a response's `stream_options`: usage is always in its last event.
pub(crate) const RESPONSE_STREAM_OPTIONS: &[Field] = &[field("include_obfuscation", Only(&["false"]))];
/// The fields of a response's `text`.
pub(crate) const RESPONSE_TEXT: &[Field] = &[field("format", TEXT_ONLY), field("verbosity", VERBOSITY)];
/// The fields of a response's `reasoning`.
pub(crate) const RESPONSE_REASONING: &[Field] = &[
    field("effort", Checked(Kind::Text)),
    field("summary", NoEffect(Kind::Word(&["auto", "concise", "detailed"]), NO_REASONING)),
    field("generate_summary", NoEffect(Kind::Word(&["auto", "concise", "detailed"]), NO_REASONING)),
    field("context", NoEffect(Kind::Text, NO_REASONING)),
    field("mode", Only(&["\"standard\""])),
];

/// The fields of a message of a response's `input`.
pub(crate) const RESPONSE_MESSAGE: &[Field] = &[
    field("type", Read),
    field("role", Read),
    field("content", Read),
    field("id", NoEffect(Kind::Text, "nothing is stored under it")),
    field("status", NoEffect(STATUS, "the message is used as it is")),
    field("phase", NoEffect(Kind::Word(&["commentary", "final_answer"]), "templates have no phases")),
];

/// The fields of an item of a response's `input` that is earlier reasoning.
pub(crate) const RESPONSE_REASONING_ITEM: &[Field] = &[
    field("type", Read),
    field("id", NoEffect(Kind::Text, "nothing is stored under it")),
    field("summary", NoEffect(Kind::List(&Kind::AnyObject), LEFT_OUT)),
    field("content", NoEffect(Kind::List(&Kind::AnyObject), LEFT_OUT)),
    field("encrypted_content", NoEffect(Kind::Text, LEFT_OUT)),
    field("status", NoEffect(STATUS, LEFT_OUT)),
];

/// The tables of a chat completion.
pub(crate) const CHAT_TABLES: &[&[Field]] = &[COMMON, CHAT, SAMPLING, CACHING, EXTENSIONS];
/// The tables of a completion.
pub(crate) const COMPLETION_TABLES: &[&[Field]] = &[COMMON, COMPLETION, SAMPLING, EXTENSIONS];
/// The tables of a response.
pub(crate) const RESPONSE_TABLES: &[&[Field]] = &[RESPONSE, SAMPLING, CACHING, EXTENSIONS];
