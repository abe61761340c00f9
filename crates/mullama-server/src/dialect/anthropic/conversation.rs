//! Conversations in Anthropic's form: content blocks, the system prompt apart, and an answer that the client has begun.

use mullama::Message;
use serde_json::{Map, Value};

use crate::dialect::messages::with_system;
use crate::dialect::tokens::Conversation;
use crate::error::ApiError;
use crate::json::Json;
use crate::json::fields::{self, Field, Handling, field};
use crate::models::Loaded;

/// Most messages of one request, which is Anthropic's own limit.
const MOST_MESSAGES: usize = 100_000;
/// What is between two blocks of text, and between two messages of one role.
const BETWEEN_TEXTS: &str = "\n";

/// The fields of a message.
const MESSAGE_FIELDS: &[Field] = &[field("role", Handling::Read), field("content", Handling::Read)];
/// The fields of a block of text.
const TEXT_FIELDS: &[Field] = &[
    field("type", Handling::Read),
    field("text", Handling::Read),
    field("cache_control", Handling::NoEffect("equal prefixes are always shared")),
    field("citations", Handling::Only(&["[]"])),
];
/// The types of thinking that an assistant's message may have. Anthropic leaves those of earlier turns out as well.
const THINKING: [&str; 2] = ["thinking", "redacted_thinking"];

/// The conversation of a request, with the system message that the model's publisher recommends if it has none.
pub(crate) fn read(body: &Json<'_>, model: &Loaded) -> Result<Conversation, ApiError> {
    let mut turns = Vec::new();
    if let Some(system) = body.get("system")? {
        turns.push(("system".to_owned(), text_of(&system)?));
    }
    let list = body.require("messages")?;
    let messages = list.list()?;
    if messages.is_empty() || messages.len() > MOST_MESSAGES {
        let count = messages.len();
        return Err(list.error(format_args!("has {count} messages, but must have 1 to {MOST_MESSAGES}")));
    }
    for message in &messages {
        let (role, text) = read_message(message)?;
        match turns.last_mut() {
            // Templates expect that the roles alternate, and Anthropic joins the turns of one role.
            Some((previous, joined)) if *previous == role => {
                joined.push_str(BETWEEN_TEXTS);
                joined.push_str(&text);
            }
            _ => turns.push((role, text)),
        }
    }
    let begun = turns.pop_if(|(role, _)| role == "assistant").map(|(_, text)| text).filter(|text| !text.is_empty());
    if turns.iter().all(|(role, _)| role == "system") {
        return Err(list.error("must have a message of the user before the assistant's last one"));
    }
    let messages = turns.into_iter().map(|(role, text)| Message::new(role, text)).collect();
    let mut chat = with_system(messages, model);
    read_thinking(body, &mut chat.chat_template_kwargs)?;
    read_choice(body)?;
    read_output(body, &mut chat.chat_template_kwargs)?;
    Ok(Conversation { chat, begun })
}

fn read_message(message: &Json<'_>) -> Result<(String, String), ApiError> {
    fields::check(MESSAGE_FIELDS, message)?;
    let role = message.require("role")?;
    match role.text()? {
        name @ ("user" | "assistant" | "system") => Ok((name.to_owned(), text_of(&message.require("content")?)?)),
        _ => Err(role.error("must be user, assistant or system")),
    }
}

/// The text of a string or of a list of blocks.
fn text_of(content: &Json<'_>) -> Result<String, ApiError> {
    if let Value::String(text) = content.value() {
        return Ok(text.clone());
    }
    let Value::Array(_) = content.value() else { return Err(content.must_be("a string or a list of blocks")) };
    let mut texts = Vec::new();
    for block in content.list()? {
        let kind = block.require("type")?;
        match kind.text()? {
            "text" => {
                fields::check(TEXT_FIELDS, &block)?;
                texts.push(block.require("text")?.text()?);
            }
            kind if THINKING.contains(&kind) => {}
            "tool_use" | "tool_result" => return Err(block.error("is about a tool, and tools are not supported yet")),
            "image" => return Err(block.error("is an image, but the model reads text only")),
            _ => return Err(block.error("has a type that is not supported: only text is")),
        }
    }
    Ok(texts.join(BETWEEN_TEXTS))
}

/// Thinking can be turned off where the template knows how; blocks of thinking are not written yet.
fn read_thinking(body: &Json<'_>, arguments: &mut Map<String, Value>) -> Result<(), ApiError> {
    let Some(thinking) = body.get("thinking")? else { return Ok(()) };
    let kind = thinking.require("type")?;
    if kind.text()? != "disabled" {
        return Err(kind.error("must be disabled: blocks of thinking are not supported yet"));
    }
    fields::check(&[field("type", Handling::Read)], &thinking)?;
    arguments.insert("enable_thinking".to_owned(), false.into());
    Ok(())
}

fn read_choice(body: &Json<'_>) -> Result<(), ApiError> {
    let Some(choice) = body.get("tool_choice")? else { return Ok(()) };
    let kind = choice.require("type")?;
    match kind.text()? {
        "none" | "auto" => Ok(()),
        _ => Err(kind.error("must be none or auto: tools are not supported yet")),
    }
}

fn read_output(body: &Json<'_>, arguments: &mut Map<String, Value>) -> Result<(), ApiError> {
    const FIELDS: &[Field] = &[field("effort", Handling::Read), field("format", fields::NOT_YET)];
    let Some(output) = body.get("output_config")? else { return Ok(()) };
    fields::check(FIELDS, &output)?;
    if let Some(effort) = output.get("effort")? {
        arguments.insert("reasoning_effort".to_owned(), effort.text()?.into());
    }
    Ok(())
}
