//! What a request for a response says: its conversation and its settings.

use mullama::{Chat, Message, StreamConfig};
use serde_json::Value;

use crate::dialect::messages::{MOST_MESSAGES, read_content, set_argument, set_effort};
use crate::dialect::openai::fields::{RESPONSE_MESSAGE, RESPONSE_REASONING_ITEM, RESPONSE_TABLES};
use crate::dialect::openai::options::max_tokens;
use crate::dialect::sampling;
use crate::error::ApiError;
use crate::json::{Json, fields};

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
/// Most names in `include`.
const MOST_INCLUDED: usize = 64;
const LOGPROBS: &str = "message.output_text.logprobs";
/// Roles of messages.
const ROLES: [&str; 4] = ["user", "assistant", "system", "developer"];

/// Reads what the tables do not set.
pub(super) fn read_config(body: &Json<'_>, config: &mut StreamConfig) -> Result<(), ApiError> {
    sampling::read_common(body, config)?;
    if let Some(options) = body.get("stream_options")?.filter(|_| body.flag_or("stream", false) == Ok(false)) {
        return Err(options.error("needs stream to be true"));
    }
    if let Some(number) = max_tokens(body, &["max_output_tokens"])? {
        config.max_tokens = number;
    }
    let top = body.get("top_logprobs")?.map_or(Ok(0), |number| number.integer(0..=sampling::MOST_LOGPROBS))?;
    config.logprobs = Some(top).filter(|top| *top > 0);
    if let Some(list) = body.get("include")? {
        for name in list.list_of(MOST_INCLUDED, "names")? {
            match name.text()? {
                LOGPROBS => config.logprobs = Some(config.logprobs.unwrap_or(0)),
                text if INCLUDABLE.contains(&text) => {}
                _ => return Err(name.error(format_args!("must be one of {}", INCLUDABLE.join(", ")))),
            }
        }
    }
    config.validate().map_err(|error| fields::renamed(error.into(), RESPONSE_TABLES))
}

/// The conversation: the instructions and the input, as the client has written them.
pub(super) fn read_chat(body: &Json<'_>) -> Result<Chat, ApiError> {
    let mut messages = Vec::new();
    if let Some(instructions) = body.get("instructions")? {
        messages.push(Message::system(instructions.text()?));
    }
    let input = body.require("input")?;
    match input.value() {
        Value::String(text) => messages.push(Message::user(text.clone())),
        Value::Array(items) if items.is_empty() => return Err(input.error("must have at least one item")),
        Value::Array(_) => {
            for item in input.list_of(MOST_MESSAGES, "items")? {
                messages.extend(read_item(&item)?);
            }
            if messages.is_empty() {
                return Err(input.error("must have at least one message"));
            }
        }
        _ => return Err(input.must_be("a string or a list of items")),
    }
    let mut chat = Chat::new(messages);
    if let Some(verbosity) = body.get("text")?.map_or(Ok(None), |text| text.get("verbosity"))? {
        set_argument("verbosity", &verbosity, &mut chat)?;
    }
    if let Some(effort) = body.get("reasoning")?.map_or(Ok(None), |reasoning| reasoning.get("effort"))? {
        set_effort(&effort, &mut chat)?;
    }
    Ok(chat)
}

/// One item of the input: a message, or reasoning, which is left out of the prompt.
fn read_item(item: &Json<'_>) -> Result<Option<Message>, ApiError> {
    let unsupported = |reason: &str| Err(ApiError::field(item.child("type"), reason));
    match item.text_of("type")? {
        None | Some("message") => {}
        Some("reasoning") => return fields::check(RESPONSE_REASONING_ITEM, item).map(|()| None),
        Some("item_reference") => return unsupported("is not supported: nothing is stored; send the item itself"),
        Some(_) => return unsupported("is not supported yet: only messages and reasoning are"),
    }
    fields::check(RESPONSE_MESSAGE, item)?;
    let role = item.require("role")?;
    let name = role.text()?;
    if !ROLES.contains(&name) {
        return Err(role.error(format_args!("must be one of {}", ROLES.join(", "))));
    }
    Ok(Some(Message::new(name, read_content(item, name)?)))
}
