//! Conversations in Anthropic's form: content blocks, the system prompt apart, and an answer that the client has begun.

use mullama::{Chat, Message};
use serde_json::Value;

use super::fields::{MESSAGE_FIELDS, REDACTED_BLOCK, TEXT_BLOCK, THINKING_BLOCK};
use crate::dialect::messages::set_effort;
use crate::dialect::tokens::Conversation;
use crate::error::ApiError;
use crate::json::{Json, fields};

/// Most messages of one request, which is Anthropic's own limit.
const MOST_MESSAGES: usize = 100_000;
/// Most blocks of one message.
const MOST_BLOCKS: usize = 10_000;
/// What is between two blocks of text, and between two messages of one role.
const BETWEEN_TEXTS: &str = "\n";

/// Checks the types of `thinking` and of `tool_choice`, which decide what their other fields mean.
pub(crate) fn check_choices(body: &Json<'_>) -> Result<(), ApiError> {
    if let Some(thinking) = body.get("thinking")? {
        only(&thinking.require("type")?, &["disabled"], "blocks of thinking")?;
    }
    if let Some(choice) = body.get("tool_choice")? {
        only(&choice.require("type")?, &["none", "auto"], "tools")?;
    }
    Ok(())
}

/// The conversation of a request whose choices and fields are checked, as the client has written it.
pub(crate) fn read(body: &Json<'_>) -> Result<Conversation, ApiError> {
    let mut turns = Vec::new();
    if let Some(system) = body.get("system")? {
        turns.push(("system".to_owned(), text_of(&system, "system")?));
    }
    let list = body.require("messages")?;
    let messages = list.list()?;
    if !(1..=MOST_MESSAGES).contains(&messages.len()) {
        let count = messages.len();
        return Err(list.error(format_args!("has {count} messages, but must have 1 to {MOST_MESSAGES}")));
    }
    for message in messages {
        let (role, text) = read_message(&message)?;
        match turns.last_mut() {
            // Templates expect that the roles alternate, and Anthropic joins the turns of one role.
            Some((previous, joined)) if *previous == role => {
                if !joined.is_empty() && !text.is_empty() {
                    joined.push_str(BETWEEN_TEXTS);
                }
                joined.push_str(&text);
            }
            _ => turns.push((role, text)),
        }
    }
    let begun = turns.pop_if(|(role, _)| role == "assistant").map(|(_, text)| text).filter(|text| !text.is_empty());
    if turns.iter().all(|(role, _)| role == "system") {
        let place = if begun.is_some() { " before the assistant's last one" } else { "" };
        return Err(list.error(format_args!("must have a message with the role user{place}")));
    }
    let mut chat = Chat::new(turns.into_iter().map(|(role, text)| Message::new(role, text)));
    if body.get("thinking")?.is_some() {
        chat.chat_template_kwargs.insert("enable_thinking".to_owned(), false.into());
    }
    if let Some(effort) = body.get("output_config")?.map_or(Ok(None), |output| output.get("effort"))? {
        set_effort(&effort, &mut chat)?;
    }
    Ok(Conversation { chat, begun })
}

/// Refuses a text that is none of these, as `what` is not supported.
fn only(value: &Json<'_>, words: &[&str], what: &str) -> Result<(), ApiError> {
    if words.contains(&value.text()?) {
        return Ok(());
    }
    Err(value.error(format_args!("must be {}: {what} are not supported yet", words.join(" or "))))
}

fn read_message(message: &Json<'_>) -> Result<(String, String), ApiError> {
    fields::check(MESSAGE_FIELDS, message)?;
    let role = message.require("role")?;
    match role.text()? {
        // A turn that was stopped before its first token has no content.
        name @ "assistant" if message.get("content")?.is_none() => Ok((name.to_owned(), String::new())),
        name @ ("user" | "assistant" | "system") => Ok((name.to_owned(), text_of(&message.require("content")?, name)?)),
        _ => Err(role.error("must be user, assistant or system")),
    }
}

/// The text of a string or of a list of blocks, in a message of this role.
fn text_of(content: &Json<'_>, role: &str) -> Result<String, ApiError> {
    if let Value::String(text) = content.value() {
        return Ok(text.clone());
    }
    let Value::Array(_) = content.value() else { return Err(content.must_be("a string or a list of blocks")) };
    let mut texts = Vec::new();
    for block in content.list_of(MOST_BLOCKS, "blocks")? {
        let kind = block.require("type")?;
        match kind.text()? {
            "text" => {
                fields::check(TEXT_BLOCK, &block)?;
                texts.push(block.require("text")?.text()?);
            }
            "thinking" if role == "assistant" => fields::check(THINKING_BLOCK, &block)?,
            "redacted_thinking" if role == "assistant" => fields::check(REDACTED_BLOCK, &block)?,
            "thinking" | "redacted_thinking" => {
                return Err(block.error("is thinking, which only a message of the assistant may have"));
            }
            "tool_use" | "tool_result" => return Err(block.error("is about a tool, and tools are not supported yet")),
            "image" => return Err(block.error("is an image, but the model reads only text")),
            _ => return Err(kind.error("is a type of block that is not supported: only text is")),
        }
    }
    Ok(texts.join(BETWEEN_TEXTS))
}
