//! The fields of llama-server's requests, as its README lists them.

use crate::dialect::sampling::EXTENSIONS;
use crate::json::Kind;
use crate::json::fields::Handling::{Checked, Only, Read, Sets};
use crate::json::fields::{Field, Handling, field};

/// A number of tokens; -1 is as many as fit, and so is -2, which llama.cpp calls "until the context is filled".
const PREDICTED: Handling = Checked(Kind::Integer(-2, u32::MAX as i64));
const FLAG: Handling = Checked(Kind::Flag);
const ANSWERS: Handling = Checked(Kind::Integer(1, 128));

const COMPLETION: &[Field] = &[
    field("model", Read),
    field("prompt", Read),
    field("temperature", Sets("temperature")),
    field("top_p", Sets("top_p")),
    field("n_predict", PREDICTED),
    field("max_tokens", PREDICTED),
    field("n_indent", Only(&["0"])),
    field("n_cmpl", ANSWERS),
    field("n", ANSWERS),
    field("n_cache_reuse", Only(&["0"])),
    field("stream", FLAG),
    field("stop", Read),
    field("presence_penalty", Sets("presence_penalty")),
    field("frequency_penalty", Sets("frequency_penalty")),
    field("seed", Read),
    field("logit_bias", Read),
    field("n_probs", Read),
    field("t_max_predict_ms", Only(&["0"])),
    field("return_tokens", FLAG),
    field("timings_per_token", FLAG),
    field("return_progress", FLAG),
    field("sse_ping_interval", Read),
    field("response_fields", Read),
    field("image_data", Only(&["[]"])),
    field("system_prompt", Only(&["\"\""])),
    field("api_key", Only(&["\"\""])),
];

/// The tables of `/completion`.
pub(crate) const COMPLETION_TABLES: &[&[Field]] = &[COMPLETION, EXTENSIONS];

/// The fields of a prompt that is an object.
pub(crate) const PROMPT: &[Field] =
    &[field("prompt_string", Checked(Kind::Text)), field("multimodal_data", Only(&["[]"]))];

/// The table of `/tokenize`.
pub(crate) const TOKENIZE: &[&[Field]] = &[&[
    field("model", Read),
    field("content", Read),
    field("add_special", FLAG),
    field("parse_special", FLAG),
    field("with_pieces", FLAG),
]];

/// The table of `/detokenize`.
pub(crate) const DETOKENIZE: &[&[Field]] = &[&[field("model", Read), field("tokens", Read)]];

/// The table of `/apply-template`.
pub(crate) const APPLY_TEMPLATE: &[&[Field]] = &[&[
    field("model", Read),
    field("messages", Read),
    field("add_generation_prompt", FLAG),
    field("chat_template_kwargs", Checked(Kind::AnyObject)),
    field("tools", Only(&["[]"])),
    field("tool_choice", Only(&["\"none\"", "\"auto\""])),
]];
