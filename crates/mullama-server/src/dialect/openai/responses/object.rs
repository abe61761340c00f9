//! The response as an object, which most events carry.

use mullama::{FinishReason, StreamConfig, Usage};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::dialect::openai::logprobs::{Short, TokenLogprob};
use crate::error::ApiError;
use crate::json::Json;

/// The verbosity of a request that asks for none.
const VERBOSITY: &str = "medium";

/// What a response repeats of its request, and never changes.
#[derive(Debug, Clone, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of responses")]
pub(crate) struct Echo {
    instructions: Option<String>,
    max_output_tokens: Option<u32>,
    metadata: Map<String, Value>,
    temperature: Short,
    top_p: Short,
    presence_penalty: Short,
    frequency_penalty: Short,
    top_logprobs: u32,
    reasoning: Value,
    parallel_tool_calls: bool,
    tool_choice: &'static str,
    tools: [(); 0],
    text: Value,
    truncation: &'static str,
    background: bool,
    store: bool,
    service_tier: &'static str,
    max_tool_calls: Option<u32>,
    previous_response_id: Option<()>,
    prompt_cache_key: Option<String>,
    safety_identifier: Option<String>,
    user: Option<String>,
    #[serde(skip)]
    pub(super) logprobs: bool,
}

impl Echo {
    /// Reads what is repeated; `config` is the config in use.
    pub(crate) fn read(body: &Json<'_>, config: &StreamConfig) -> Result<Self, ApiError> {
        let text = |name| body.text_of(name).map(|text| text.map(str::to_owned));
        let effort = match body.get("reasoning")? {
            Some(reasoning) => reasoning.text_of("effort")?.map(str::to_owned),
            None => None,
        };
        let verbosity = match body.get("text")? {
            Some(text) => text.text_of("verbosity")?.unwrap_or(VERBOSITY),
            None => VERBOSITY,
        };
        let max_tool_calls = body.get("max_tool_calls")?.map(|number| number.integer(0..=u32::MAX)).transpose()?;
        let is_choice_none = body.get("tool_choice")?.is_some_and(|choice| choice.value() == "none");
        Ok(Self {
            instructions: text("instructions")?,
            max_output_tokens: body.get("max_output_tokens")?.map(|_| config.max_tokens),
            metadata: body.get("metadata")?.map_or_else(|| Ok(Map::new()), |value| value.object().cloned())?,
            temperature: Short(config.temperature),
            top_p: Short(config.top_p),
            presence_penalty: Short(config.presence_penalty),
            frequency_penalty: Short(config.frequency_penalty),
            top_logprobs: config.logprobs.unwrap_or(0),
            reasoning: json!({"effort": effort, "summary": null}),
            parallel_tool_calls: body.flag_or("parallel_tool_calls", true)?,
            tool_choice: if is_choice_none { "none" } else { "auto" },
            tools: [],
            text: json!({"format": {"type": "text"}, "verbosity": verbosity}),
            truncation: "disabled",
            background: false,
            store: false,
            service_tier: "default",
            max_tool_calls,
            previous_response_id: None,
            prompt_cache_key: text("prompt_cache_key")?,
            safety_identifier: text("safety_identifier")?,
            user: text("user")?,
            logprobs: config.logprobs.is_some(),
        })
    }
}

/// A response as it is now.
#[derive(Debug, Serialize)]
pub(super) struct ResponseObject<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) created_at: u64,
    pub(super) completed_at: Option<u64>,
    pub(super) status: &'static str,
    pub(super) error: Option<Failure<'a>>,
    pub(super) incomplete_details: Option<IncompleteDetails>,
    pub(super) model: &'a str,
    pub(super) output: Vec<Message<'a>>,
    pub(super) usage: Option<ResponseUsage>,
    #[serde(flatten)]
    pub(super) echo: &'a Echo,
}

#[derive(Debug, Serialize)]
pub(super) struct Failure<'a> {
    pub(super) code: &'static str,
    pub(super) message: &'a str,
}

#[derive(Debug, Serialize)]
pub(super) struct IncompleteDetails {
    reason: &'static str,
}

/// The message that is a response's only output.
#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    pub(super) id: &'a str,
    pub(super) r#type: &'static str,
    pub(super) status: &'static str,
    pub(super) role: &'static str,
    pub(super) content: Vec<Part<'a>>,
}

impl<'a> Message<'a> {
    pub(super) fn new(id: &'a str, status: &'static str, content: Vec<Part<'a>>) -> Self {
        Self { id, r#type: "message", status, role: "assistant", content }
    }
}

/// A part of a message.
#[derive(Debug, Serialize)]
pub(super) struct Part<'a> {
    r#type: &'static str,
    text: &'a str,
    annotations: [(); 0],
    logprobs: &'a [TokenLogprob],
}

impl<'a> Part<'a> {
    pub(super) fn new(text: &'a str, logprobs: &'a [TokenLogprob]) -> Self {
        Self { r#type: "output_text", text, annotations: [], logprobs }
    }
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct ResponseUsage {
    input_tokens: usize,
    input_tokens_details: InputDetails,
    output_tokens: usize,
    output_tokens_details: OutputDetails,
    total_tokens: usize,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct InputDetails {
    cached_tokens: usize,
    cache_write_tokens: usize,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct OutputDetails {
    reasoning_tokens: usize,
}

impl ResponseUsage {
    pub(super) fn of(usage: Usage) -> Self {
        Self {
            input_tokens: usage.prompt_tokens,
            input_tokens_details: InputDetails { cached_tokens: usage.cached_tokens, cache_write_tokens: 0 },
            output_tokens: usage.completion_tokens,
            output_tokens_details: OutputDetails { reasoning_tokens: 0 },
            total_tokens: usage.prompt_tokens + usage.completion_tokens,
        }
    }
}

/// The status of a response that ended so, and of its message.
pub(super) fn status(reason: FinishReason) -> (&'static str, Option<IncompleteDetails>) {
    match reason {
        FinishReason::Length => ("incomplete", Some(IncompleteDetails { reason: "max_output_tokens" })),
        _ => ("completed", None),
    }
}
