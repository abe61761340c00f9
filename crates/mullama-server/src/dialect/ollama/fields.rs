//! The fields of Ollama's requests.

use crate::dialect::sampling::{EXTENSIONS, NEVER_SHIFTED};
use crate::json::Kind;
use crate::json::fields::Handling::{Checked, NoEffect, Only, OnlyYet, Read, Refused, Sets};
use crate::json::fields::{Field, Handling, field};

const FLAG: Handling = Checked(Kind::Flag);
const TEXT: Handling = Checked(Kind::Text);

/// The fields that generate and chat share.
const COMMON: &[Field] = &[
    field("model", TEXT),
    field("stream", FLAG),
    field("keep_alive", Read),
    field("options", Read),
    field("logprobs", FLAG),
    field("top_logprobs", Read),
    field("think", OnlyYet(&["false"])),
    field("format", OnlyYet(&["\"\""])),
    field("shift", NoEffect(Kind::Flag, "a context is never shifted: an answer ends where it is full")),
    field(
        "truncate",
        NoEffect(Kind::Flag, "a prompt that fits is never shortened, and one that does not fit is refused"),
    ),
];

const GENERATE: &[Field] = &[
    field("prompt", TEXT),
    field("system", TEXT),
    field("raw", FLAG),
    field("context", Only(&["[]"])),
    field("images", OnlyYet(&["[]"])),
    field("suffix", OnlyYet(&["\"\""])),
    field("template", Only(&["\"\""])),
    field("width", Refused("is not supported: the model generates only text")),
    field("height", Refused("is not supported: the model generates only text")),
    field("steps", Refused("is not supported: the model generates only text")),
];

const CHAT: &[Field] = &[field("messages", Read), field("tools", OnlyYet(&["[]"]))];

/// The fields of one message of `/api/chat`.
pub(crate) const MESSAGE: &[Field] = &[
    field("role", TEXT),
    field("content", Read),
    field("images", OnlyYet(&["[]"])),
    field("name", TEXT),
    field("thinking", TEXT),
    field("tool_call_id", TEXT),
    field("tool_calls", Read),
    field("tool_name", TEXT),
];

const WHY_AT_START: &str = "how models are loaded is set where the server is started";
const FLAG_AT_START: Handling = NoEffect(Kind::Flag, WHY_AT_START);
const SCALE_AT_START: Handling = NoEffect(Kind::Number, WHY_AT_START);
const NUMBER_AT_START: Handling = NoEffect(Kind::Integer(-1, i32::MAX as i64), WHY_AT_START);

/// The fields of `options`.
const OPTIONS: &[Field] = &[
    field("num_predict", Read),
    field(
        "num_ctx",
        NoEffect(
            Kind::Integer(1, i64::MAX),
            "it is the most that a client wants; a prompt that does not fit is refused",
        ),
    ),
    field("seed", Read),
    field("stop", Read),
    field("temperature", Sets("temperature")),
    field("top_p", Sets("top_p")),
    field("presence_penalty", Sets("presence_penalty")),
    field("frequency_penalty", Sets("frequency_penalty")),
    field("logit_bias", Sets("logit_bias")),
    field("timings_per_token", Only(&["false"])),
    field("n_probs", Refused("is not an option: the fields logprobs and top_logprobs are beside the options")),
    field("n_predict", Refused("is not an option: num_predict is")),
    field("tfs_z", Only(&["1"])),
    field("penalize_newline", FLAG),
    field("num_keep", NEVER_SHIFTED),
    field("embedding_only", Only(&["false"])),
    field("logits_all", Only(&["false"])),
    field("vocab_only", Only(&["false"])),
    field("new_topic_penalty", Sets("presence_penalty")),
    field("rope_frequency_base", SCALE_AT_START),
    field("rope_frequency_scale", SCALE_AT_START),
    field("num_gqa", NUMBER_AT_START),
    field("f16_kv", FLAG_AT_START),
    field("low_vram", FLAG_AT_START),
    field("main_gpu", NUMBER_AT_START),
    field("num_batch", NUMBER_AT_START),
    field("num_gpu", NUMBER_AT_START),
    field("num_thread", NUMBER_AT_START),
    field("numa", FLAG_AT_START),
    field("use_mlock", FLAG_AT_START),
    field("use_mmap", FLAG_AT_START),
];

const NAMED: &[Field] = &[field("model", TEXT), field("name", TEXT)];
const SHOW: &[Field] = &[
    field("system", Only(&["\"\""])),
    field("template", Only(&["\"\""])),
    field("options", Only(&["{}"])),
    field("verbose", NoEffect(Kind::Flag, "the lists of a tokenizer are never shown")),
];
const PULL: &[Field] = &[
    field("stream", FLAG),
    field("insecure", Only(&["false"])),
    field("username", Only(&["\"\""])),
    field("password", Only(&["\"\""])),
];

/// The tables of `/api/generate`.
pub(crate) const GENERATE_TABLES: &[&[Field]] = &[COMMON, GENERATE];
/// The tables of `/api/chat`.
pub(crate) const CHAT_TABLES: &[&[Field]] = &[COMMON, CHAT];
/// The tables of `options`.
pub(crate) const OPTION_TABLES: &[&[Field]] = &[OPTIONS, EXTENSIONS];
/// The tables of `/api/show`.
pub(crate) const SHOW_TABLES: &[&[Field]] = &[NAMED, SHOW];
/// The tables of `/api/pull`.
pub(crate) const PULL_TABLES: &[&[Field]] = &[NAMED, PULL];
/// The tables of `/api/delete`.
pub(crate) const DELETE_TABLES: &[&[Field]] = &[NAMED];
