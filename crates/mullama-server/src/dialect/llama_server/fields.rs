//! The fields of llama-server's requests, as its README lists them.

use crate::dialect::sampling::EXTENSIONS;
use crate::json::fields::Handling::{NoEffect, Only, Read, Refused, Sets};
use crate::json::fields::{Field, NOT_YET, field};

const COMPLETION: &[Field] = &[
    field("model", Read),
    field("prompt", Read),
    field("temperature", Sets("temperature")),
    field("top_p", Sets("top_p")),
    field("n_predict", Read),
    field("max_tokens", Read),
    field("n_indent", Only(&["0"])),
    field("n_cmpl", Read),
    field("n", Read),
    field("n_cache_reuse", Only(&["0"])),
    field("n_keep", NoEffect("contexts are never shifted")),
    field("n_discard", NoEffect("contexts are never shifted")),
    field("stream", Read),
    field("stop", Read),
    field("presence_penalty", Sets("presence_penalty")),
    field("frequency_penalty", Sets("frequency_penalty")),
    field("seed", Read),
    field("logit_bias", Sets("logit_bias")),
    field("n_probs", Read),
    field("min_keep", Only(&["0"])),
    field("t_max_predict_ms", Only(&["0"])),
    field("return_tokens", Read),
    field("timings_per_token", Read),
    field("return_progress", Read),
    field("sse_ping_interval", Read),
    field("post_sampling_probs", Only(&["false"])),
    field("response_fields", Read),
    field("grammar", NOT_YET),
    field("json_schema", NOT_YET),
    field("image_data", Refused("is not supported: this server reads text")),
];

/// The tables of `/completion`.
pub(crate) const COMPLETION_TABLES: &[&[Field]] = &[COMPLETION, EXTENSIONS];

/// The table of `/tokenize`.
pub(crate) const TOKENIZE: &[&[Field]] = &[&[
    field("model", Read),
    field("content", Read),
    field("add_special", Read),
    field("parse_special", Read),
    field("with_pieces", Read),
]];

/// The table of `/detokenize`.
pub(crate) const DETOKENIZE: &[&[Field]] = &[&[field("model", Read), field("tokens", Read)]];

/// The table of `/apply-template`.
pub(crate) const APPLY_TEMPLATE: &[&[Field]] = &[&[
    field("model", Read),
    field("messages", Read),
    field("add_generation_prompt", Read),
    field("chat_template_kwargs", Read),
    field("tools", Only(&["[]"])),
    field("tool_choice", Only(&["\"none\"", "\"auto\""])),
]];
