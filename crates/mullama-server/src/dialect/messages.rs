//! Messages of requests, checked with the path of what is wrong.

use mullama::{Chat, Message};
use serde_json::Value;

use crate::error::ApiError;
use crate::json::Json;
use crate::models::Loaded;

/// Parts of a message's content that are text, and the field that has it.
const TEXT_PARTS: &[(&str, &str)] =
    &[("text", "text"), ("input_text", "text"), ("output_text", "text"), ("refusal", "refusal")];
/// What an assistant's message may have instead of content.
const INSTEAD_OF_CONTENT: [&str; 4] = ["tool_calls", "reasoning_content", "reasoning", "thinking"];

/// The chat of a list of messages in the form of `OpenAI`'s API. A `developer` is a system where the template knows no
/// developers, and the system message that the model's publisher recommends comes first where the list has none.
pub(crate) fn read_chat(list: &Json<'_>, model: &Loaded) -> Result<Chat, ApiError> {
    let items = list.list()?;
    if items.is_empty() {
        return Err(list.error("must have at least one message"));
    }
    let mut messages = Vec::with_capacity(items.len());
    for item in &items {
        let role = item.require("role")?;
        if role.text()?.is_empty() {
            return Err(role.error("must not be empty"));
        }
        for name in ["audio", "function_call"] {
            if let Some(value) = item.get(name)? {
                return Err(value.error("is not supported yet"));
            }
        }
        check_tool_calls(item)?;
        match item.get("content")? {
            Some(content) => check_content(&content)?,
            None if INSTEAD_OF_CONTENT.iter().any(|name| item.get(name).is_ok_and(|value| value.is_some())) => {}
            None => drop(item.require("content")?),
        }
        messages.push(Message::from(item.object()?.clone()));
    }
    Ok(chat_of(messages, model))
}

/// A chat of checked messages, with the system message that the model's publisher recommends where they have none.
pub(crate) fn chat_of(mut messages: Vec<Message>, model: &Loaded) -> Chat {
    let is_developer = |message: &Message| message.fields().get("role").and_then(Value::as_str) == Some("developer");
    if messages.iter().any(is_developer) && !knows_developer(model) {
        for message in messages.iter_mut().filter(|message| is_developer(message)) {
            *message = message.clone().with("role", "system");
        }
    }
    with_system(messages, model)
}

/// Whether the model's template has words for the role `developer`; `OpenAI`'s newer clients name the system so.
fn knows_developer(model: &Loaded) -> bool {
    model.chat_template().is_some_and(|template| template.contains("developer"))
}

/// Checks that a content is a text or a list of parts that are text.
pub(crate) fn check_content(content: &Json<'_>) -> Result<(), ApiError> {
    match content.value() {
        Value::String(_) => Ok(()),
        Value::Array(_) => content.list()?.iter().try_for_each(check_part),
        _ => Err(content.must_be("a string or a list of text parts")),
    }
}

fn check_part(part: &Json<'_>) -> Result<(), ApiError> {
    if part.value().is_string() {
        return Ok(());
    }
    // Some clients leave the type of a text out.
    let name = match part.get("type")? {
        Some(name) => name.text()?,
        None => "text",
    };
    match TEXT_PARTS.iter().find(|(known, _)| *known == name) {
        Some((_, field)) => part.require(field)?.text().map(drop),
        None => Err(ApiError::field(format!("{}.type", part.path()), "is not supported yet: only text is")),
    }
}

/// Checks the calls of an earlier answer, so that no error names a message by another index than the client's.
fn check_tool_calls(message: &Json<'_>) -> Result<(), ApiError> {
    let Some(calls) = message.get("tool_calls")? else { return Ok(()) };
    for call in calls.list()? {
        let function = call.get("function")?.unwrap_or(call);
        function.require("name")?.text()?;
        let Some(arguments) = function.get("arguments")? else { continue };
        let is_valid = match arguments.value() {
            Value::Object(_) => true,
            Value::String(text) => text.trim().is_empty() || is_object(text),
            _ => false,
        };
        if !is_valid {
            return Err(arguments.must_be("an object as JSON text"));
        }
    }
    Ok(())
}

/// Whether a text is a JSON object; it is not kept, so that it takes no memory.
fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// A chat of these messages, with the recommended system message where they have none.
pub(crate) fn with_system(mut messages: Vec<Message>, model: &Loaded) -> Chat {
    let role = |message: &Message| message.fields().get("role").and_then(Value::as_str).map(str::to_owned);
    let is_system = |message: &Message| matches!(role(message).as_deref(), Some("system" | "developer"));
    if let Some(system) = model.system()
        && !messages.is_empty()
        && !messages.iter().any(is_system)
    {
        messages.insert(0, Message::system(system));
    }
    Chat::new(messages)
}
