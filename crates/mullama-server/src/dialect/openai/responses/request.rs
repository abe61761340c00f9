//! What a request for a response says: its conversation and its settings.

use mullama::{Chat, Message, StreamConfig};
use serde_json::Value;

use crate::dialect::messages::{chat_of, check_content};
use crate::dialect::openai::fields::{RESPONSE_REASONING, RESPONSE_STREAM_OPTIONS, RESPONSE_TABLES, RESPONSE_TEXT};
use crate::dialect::openai::options::{flag, max_tokens};
use crate::dialect::sampling;
use crate::error::ApiError;
use crate::json::{Json, fields};
use crate::models::Loaded;

/// What `include` may ask for. All but the first belong to what never is in an answer of this server.
const INCLUDABLE: [&str; 8] = [
    LOGPROBS,
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
];
const LOGPROBS: &str = "message.output_text.logprobs";
/// Roles of messages.
const ROLES: [&str; 4] = ["user", "assistant", "system", "developer"];

/// Reads what the tables do not set, and checks the objects inside the request.
pub(super) fn read_config(body: &Json<'_>, config: &mut StreamConfig) -> Result<(), ApiError> {
    sampling::read_common(body, config)?;
    let objects =
        [("stream_options", RESPONSE_STREAM_OPTIONS), ("text", RESPONSE_TEXT), ("reasoning", RESPONSE_REASONING)];
    for (name, table) in objects {
        if let Some(object) = body.get(name)? {
            fields::check(table, &object)?;
        }
    }
    if let Some(options) = body.get("stream_options")?.filter(|_| flag(body, "stream") == Ok(false)) {
        return Err(options.error("needs stream to be true"));
    }
    if let Some(number) = max_tokens(body, &["max_output_tokens"])? {
        config.max_tokens = number;
    }
    let top = body.get("top_logprobs")?.map_or(Ok(0), |number| number.integer(0, 20))?;
    config.logprobs = u32::try_from(top).ok().filter(|top| *top > 0);
    for name in body.get("include")?.map_or_else(|| Ok(Vec::new()), |list| list.list())? {
        match name.text()? {
            LOGPROBS => config.logprobs = Some(config.logprobs.unwrap_or(0)),
            text if INCLUDABLE.contains(&text) => {}
            _ => return Err(name.error(format_args!("must be one of {}", INCLUDABLE.join(", ")))),
        }
    }
    config.validate().map_err(|error| fields::renamed(error.into(), RESPONSE_TABLES))
}

/// The conversation: the instructions and the input.
pub(super) fn read_chat(body: &Json<'_>, model: &Loaded) -> Result<Chat, ApiError> {
    let mut messages = Vec::new();
    if let Some(instructions) = body.get("instructions")? {
        messages.push(Message::system(instructions.text()?));
    }
    let input = body.require("input")?;
    match input.value() {
        Value::String(text) => messages.push(Message::user(text.clone())),
        Value::Array(items) if items.is_empty() => return Err(input.error("must have at least one item")),
        Value::Array(_) => {
            for item in input.list()? {
                messages.push(read_item(&item)?);
            }
        }
        _ => return Err(input.must_be("a string or a list of items")),
    }
    let mut chat = chat_of(messages, model);
    if let Some(effort) = body.get("reasoning")?.map_or(Ok(None), |reasoning| reasoning.get("effort"))? {
        chat = chat.template_argument("reasoning_effort", effort.text()?);
    }
    Ok(chat)
}

/// One item of the input, which must be a message.
fn read_item(item: &Json<'_>) -> Result<Message, ApiError> {
    let unsupported = |reason: &str| Err(ApiError::field(format!("{}.type", item.path()), reason));
    match item.get("type")?.map(|name| name.text()).transpose()? {
        None | Some("message") => {}
        Some("item_reference") => return unsupported("is not supported: nothing is stored; send the item itself"),
        Some(_) => return unsupported("is not supported yet: only messages are"),
    }
    let role = item.require("role")?;
    let name = role.text()?;
    if !ROLES.contains(&name) {
        return Err(role.error(format_args!("must be one of {}", ROLES.join(", "))));
    }
    let content = item.require("content")?;
    check_content(&content)?;
    Ok(Message::new(name, content.value().clone()))
}
