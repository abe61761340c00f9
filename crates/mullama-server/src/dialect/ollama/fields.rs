//! The fields of Ollama's requests.

use crate::json::fields::Handling::{NoEffect, Only, OnlyYet, Read, Refused, Sets};
use crate::json::fields::{Field, field};

/// The fields that generate and chat share.
const COMMON: &[Field] = &[
    field("model", Read),
    field("stream", Read),
    field("keep_alive", Read),
    field("options", Read),
    field("logprobs", Read),
    field("top_logprobs", Read),
    field("think", OnlyYet(&["false"])),
    field("format", OnlyYet(&["\"\""])),
    field("shift", Only(&["false"])),
    field("truncate", Only(&["false"])),
];

const GENERATE: &[Field] = &[
    field("prompt", Read),
    field("system", Read),
    field("raw", Read),
    field("context", Only(&["[]"])),
    field("images", OnlyYet(&["[]"])),
    field("suffix", OnlyYet(&["\"\""])),
    field("template", Only(&["\"\""])),
    field("width", Refused("is not supported: the model writes text only")),
    field("height", Refused("is not supported: the model writes text only")),
    field("steps", Refused("is not supported: the model writes text only")),
];

const CHAT: &[Field] = &[field("messages", Read), field("tools", OnlyYet(&["[]"]))];

/// The fields of one message of `/api/chat`.
pub(crate) const MESSAGE: &[Field] = &[
    field("role", Read),
    field("content", Read),
    field("images", OnlyYet(&["[]"])),
    field("name", Read),
    field("thinking", Read),
    field("tool_call_id", Read),
    field("tool_calls", Read),
    field("tool_name", Read),
];

const SET_AT_START: &str = "how models are loaded is set where the server is started";

/// The fields of `options`.
const OPTIONS: &[Field] = &[
    field("num_predict", Read),
    field("num_ctx", Read),
    field("seed", Read),
    field("stop", Read),
    field("temperature", Sets("temperature")),
    field("top_k", Sets("top_k")),
    field("top_p", Sets("top_p")),
    field("min_p", Sets("min_p")),
    field("typical_p", Sets("typical_p")),
    field("repeat_last_n", Sets("repeat_last_n")),
    field("repeat_penalty", Sets("repeat_penalty")),
    field("presence_penalty", Sets("presence_penalty")),
    field("frequency_penalty", Sets("frequency_penalty")),
    field("mirostat", Sets("mirostat")),
    field("mirostat_tau", Sets("mirostat_tau")),
    field("mirostat_eta", Sets("mirostat_eta")),
    field("tfs_z", Only(&["1", "1.0"])),
    field("penalize_newline", Only(&["true"])),
    field("num_keep", NoEffect("contexts are never shifted")),
    field("embedding_only", Only(&["false"])),
    field("logits_all", Only(&["false"])),
    field("vocab_only", Only(&["false"])),
    field("f16_kv", NoEffect(SET_AT_START)),
    field("low_vram", NoEffect(SET_AT_START)),
    field("main_gpu", NoEffect(SET_AT_START)),
    field("num_batch", NoEffect(SET_AT_START)),
    field("num_gpu", NoEffect(SET_AT_START)),
    field("num_thread", NoEffect(SET_AT_START)),
    field("numa", NoEffect(SET_AT_START)),
    field("use_mlock", NoEffect(SET_AT_START)),
    field("use_mmap", NoEffect(SET_AT_START)),
];

const NAMED: &[Field] = &[field("model", Read), field("name", Read)];
const SHOW: &[Field] = &[
    field("system", Only(&["\"\""])),
    field("template", Only(&["\"\""])),
    field("options", Only(&["{}"])),
    field("verbose", NoEffect("the lists of a tokenizer are never shown")),
];
const PULL: &[Field] = &[
    field("stream", Read),
    field("insecure", Only(&["false"])),
    field("username", Only(&["\"\""])),
    field("password", Only(&["\"\""])),
];

/// The tables of `/api/generate`.
pub(crate) const GENERATE_TABLES: &[&[Field]] = &[COMMON, GENERATE];
/// The tables of `/api/chat`.
pub(crate) const CHAT_TABLES: &[&[Field]] = &[COMMON, CHAT];
/// The tables of `options`.
pub(crate) const OPTION_TABLES: &[&[Field]] = &[OPTIONS];
/// The tables of `/api/show`.
pub(crate) const SHOW_TABLES: &[&[Field]] = &[NAMED, SHOW];
/// The tables of `/api/pull`.
pub(crate) const PULL_TABLES: &[&[Field]] = &[NAMED, PULL];
/// The tables of `/api/delete`.
pub(crate) const DELETE_TABLES: &[&[Field]] = &[NAMED];
