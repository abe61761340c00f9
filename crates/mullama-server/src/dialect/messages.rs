//! Messages of requests, checked with the path of what is wrong.

use mullama::{Chat, Message};
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::json::fields::Handling::{Checked, NoEffect, Only, OnlyYet, Read, Refused};
use crate::json::fields::{self, Field, Handling, NOT_YET, field};
use crate::json::{Json, Kind, shortened};
use crate::models::Loaded;

/// Most messages of one request. A context holds far fewer, as each takes several tokens.
pub(crate) const MOST_MESSAGES: usize = 20_000;
/// Most calls of tools in one message.
const MOST_CALLS: usize = 1024;
/// What an assistant's message may have instead of content.
const INSTEAD_OF_CONTENT: [&str; 5] = ["tool_calls", "reasoning_content", "reasoning", "thinking", "refusal"];

/// Why what a client repeats of earlier reasoning has no effect.
pub(crate) const LEFT_OUT: &str = "the thinking of earlier turns is left out of the prompt";
const ABOUT_AN_ANSWER: Handling =
    NoEffect(Kind::List(&Kind::AnyObject), "they are about an answer that the client has already");
const OWN_NOTES: Handling = NoEffect(Kind::AnyObject, "they are a client's own notes about an answer");

/// The fields of a message. Those that are text are there for the model's template.
pub(crate) const MESSAGE: &[Field] = &[
    field("role", Checked(Kind::Text)),
    field("content", Read),
    field("name", Checked(Kind::Text)),
    field("tool_call_id", Checked(Kind::Text)),
    field("tool_calls", Read),
    field("refusal", Read),
    field("reasoning_content", Checked(Kind::Text)),
    field("reasoning", Checked(Kind::Text)),
    field("thinking", Checked(Kind::Text)),
    field("reasoning_details", NoEffect(Kind::List(&Kind::AnyObject), LEFT_OUT)),
    field("thinking_blocks", NoEffect(Kind::List(&Kind::AnyObject), LEFT_OUT)),
    field("annotations", ABOUT_AN_ANSWER),
    field("provider_specific_fields", OWN_NOTES),
    field("extra_content", OWN_NOTES),
    field("cache_control", CACHE_MARK),
    field("id", NoEffect(Kind::Text, "nothing is stored under it")),
    field("timestamp", NoEffect(Kind::Either(&[Kind::Text, Kind::Number]), "templates have no times of messages")),
    field("prefix", OnlyYet(&["false"])),
    field("partial", OnlyYet(&["false"])),
    field("audio", NOT_YET),
    field("images", Only(&["[]"])),
    field("function_call", Refused("is not supported: tool_calls took its place")),
];

/// The fields of a call of a tool.
pub(crate) const TOOL_CALL: &[Field] = &[
    field("id", Checked(Kind::Text)),
    field("type", Only(&["\"function\""])),
    field("index", Checked(Kind::Integer(0, i32::MAX as i64))),
    field("function", Read),
    field("name", Checked(Kind::Text)),
    field("arguments", Read),
    field("provider_specific_fields", OWN_NOTES),
    field("extra_content", OWN_NOTES),
];

/// The fields of the function of a call.
pub(crate) const FUNCTION: &[Field] = &[
    field("name", Checked(Kind::Text)),
    field("arguments", Read),
    field("index", Checked(Kind::Integer(0, i32::MAX as i64))),
];

/// A mark after which a provider of paid caches ends a prefix.
pub(crate) const CACHE_MARK: Handling = NoEffect(
    Kind::Object(&[
        field("type", Checked(Kind::Word(&["ephemeral"]))),
        field("ttl", Checked(Kind::Word(&["5m", "1h"]))),
    ]),
    "equal prefixes are always shared",
);
const CACHE_BREAKPOINT: Handling = NoEffect(Kind::AnyObject, "equal prefixes are always shared");

/// A kind of part of a content that is text, and the field that has the text.
struct TextPart {
    name: &'static str,
    text: &'static str,
    fields: &'static [Field],
}

const TEXT_PARTS: &[TextPart] = &[
    TextPart { name: "text", text: "text", fields: TEXT },
    TextPart { name: "input_text", text: "text", fields: TEXT },
    TextPart { name: "output_text", text: "text", fields: OUTPUT_TEXT },
    TextPart { name: "refusal", text: "refusal", fields: REFUSAL },
];

/// The fields of a part that is a text.
pub(crate) const TEXT: &[Field] = &[
    field("type", Checked(Kind::Text)),
    field("text", Checked(Kind::Text)),
    field("cache_control", CACHE_MARK),
    field("prompt_cache_breakpoint", CACHE_BREAKPOINT),
];
/// The fields of a part of an earlier answer.
pub(crate) const OUTPUT_TEXT: &[Field] = &[
    field("type", Checked(Kind::Text)),
    field("text", Checked(Kind::Text)),
    field("annotations", ABOUT_AN_ANSWER),
    field("logprobs", ABOUT_AN_ANSWER),
    field("cache_control", CACHE_MARK),
];
/// The fields of a part that is a refusal.
pub(crate) const REFUSAL: &[Field] = &[field("type", Checked(Kind::Text)), field("refusal", Checked(Kind::Text))];

/// The fields that templates read. A refusal is what the assistant has said.
const FOR_TEMPLATES: [&str; 8] =
    ["role", "content", "name", "tool_call_id", "tool_calls", "reasoning_content", "reasoning", "thinking"];
/// Fields that only messages of one role have, and that role. Roles that only a template knows may have any.
const OF_ONE_ROLE: &[(&str, &str)] = &[
    ("tool_calls", "assistant"),
    ("refusal", "assistant"),
    ("reasoning_content", "assistant"),
    ("reasoning", "assistant"),
    ("thinking", "assistant"),
    ("tool_call_id", "tool"),
];
/// The roles of `OpenAI`'s API.
const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// Refuses fields that templates read only in messages of another role.
fn check_role(item: &Json<'_>, role: &str) -> Result<(), ApiError> {
    for (name, owner) in OF_ONE_ROLE.iter().filter(|(_, owner)| ROLES.contains(&role) && *owner != role) {
        // Clients that write every field may leave these empty.
        let is_empty = |value: &Value| value == "" || value.as_array().is_some_and(Vec::is_empty);
        if let Some(value) = item.get(name)?.filter(|value| !is_empty(value.value())) {
            return Err(value.error(format_args!("belongs to messages of the role {owner}, but this one is of {role}")));
        }
    }
    Ok(())
}

/// The chat of a list of messages in the form of `OpenAI`'s API, [adapted](adapt) to the model.
pub(crate) fn read_chat(list: &Json<'_>, model: &Loaded) -> Result<Chat, ApiError> {
    let mut chat = read_messages(list).map(Chat::new)?;
    adapt(&mut chat, model);
    Ok(chat)
}

/// A list of messages in the form of `OpenAI`'s API, as the client has written them.
pub(crate) fn read_messages(list: &Json<'_>) -> Result<Vec<Message>, ApiError> {
    let items = list.list_of(MOST_MESSAGES, "messages")?;
    if items.len() == 0 {
        return Err(list.error("must have at least one message"));
    }
    items.map(|item| read_message(&item)).collect()
}

fn read_message(item: &Json<'_>) -> Result<Message, ApiError> {
    let role = item.require("role")?;
    if role.text()?.is_empty() {
        return Err(role.error("must not be empty"));
    }
    fields::check(MESSAGE, item)?;
    check_role(item, role.text()?)?;
    check_tool_calls(item)?;
    let content = item.get("content")?;
    let is_assistant = role.text()? == "assistant";
    let refusal = item.get("refusal")?;
    let refused = refusal.as_ref().map(Json::text).transpose()?;
    match &content {
        Some(content) => {
            if !is_empty_turn(is_assistant, content) {
                check_content(content)?;
            }
            if refused.is_some_and(|text| !text.is_empty()) {
                return Err(ApiError::field(item.child("refusal"), "cannot be given together with content"));
            }
        }
        None if INSTEAD_OF_CONTENT.iter().any(|name| item.get(name).is_ok_and(|value| value.is_some())) => {}
        None if is_assistant => {}
        None => drop(item.require("content")?),
    }
    let fields = item.object()?.iter().filter(|(name, _)| FOR_TEMPLATES.contains(&name.as_str()));
    let mut fields: Map<String, Value> = fields.map(|(name, value)| (name.clone(), value.clone())).collect();
    if content.is_none() {
        // A turn of the assistant that was stopped before its first token has no content.
        fields.insert("content".to_owned(), refused.unwrap_or_default().into());
    }
    Ok(Message::from(fields))
}

/// Reads what a request tells the template besides its messages.
pub(crate) fn read_template_fields(body: &Json<'_>, chat: &mut Chat) -> Result<(), ApiError> {
    chat.add_generation_prompt = body.flag_or("add_generation_prompt", true)?;
    if let Some(arguments) = body.get("chat_template_kwargs")? {
        chat.chat_template_kwargs.clone_from(arguments.object()?);
    }
    Ok(())
}

/// Tells the template how much the model should reason.
pub(crate) fn set_effort(effort: &Json<'_>, chat: &mut Chat) -> Result<(), ApiError> {
    set_argument("reasoning_effort", effort, chat)
}

/// Tells the template a text under this name.
pub(crate) fn set_argument(name: &str, value: &Json<'_>, chat: &mut Chat) -> Result<(), ApiError> {
    let text = value.text()?;
    if chat.chat_template_kwargs.get(name).is_some_and(|other| other != text) {
        let message = format_args!("and chat_template_kwargs.{name} differ, but mean the same: give one of them");
        return Err(value.error(message));
    }
    chat.chat_template_kwargs.insert(name.to_owned(), text.into());
    Ok(())
}

/// Changes a chat to what the model knows: a `developer` is a system where the template knows no developers, and the
/// system message that the model's publisher recommends comes first where the chat has none.
pub(crate) fn adapt(chat: &mut Chat, model: &Loaded) {
    let messages = &mut chat.messages;
    let is_developer = |message: &Message| message.fields().get("role").and_then(Value::as_str) == Some("developer");
    if messages.iter().any(is_developer) && !knows_developer(model) {
        for message in messages.iter_mut().filter(|message| is_developer(message)) {
            *message = message.clone().with("role", "system");
        }
    }
    add_system(messages, model);
}

/// Whether the model's template has words for the role `developer`; `OpenAI`'s newer clients name the system so.
fn knows_developer(model: &Loaded) -> bool {
    model.chat_template().is_some_and(|template| template.contains("developer"))
}

/// The content of a message of this role. A turn of the assistant that was stopped before its first token has none.
pub(crate) fn read_content(message: &Json<'_>, role: &str) -> Result<Value, ApiError> {
    let is_assistant = role == "assistant";
    match message.get("content")? {
        None if is_assistant => Ok("".into()),
        Some(content) if is_empty_turn(is_assistant, &content) => Ok("".into()),
        _ => {
            let content = message.require("content")?;
            check_content(&content)?;
            Ok(content.value().clone())
        }
    }
}

/// Whether a content is that of a turn of the assistant that was stopped before its first token.
pub(crate) fn is_empty_turn(is_assistant: bool, content: &Json<'_>) -> bool {
    is_assistant && content.value().as_array().is_some_and(Vec::is_empty)
}

/// Checks that a content is a text or a list of parts that are text.
fn check_content(content: &Json<'_>) -> Result<(), ApiError> {
    match content.value() {
        Value::String(_) => Ok(()),
        Value::Array(parts) if parts.is_empty() => Err(content.error("must have at least one part")),
        Value::Array(_) => content.list()?.try_for_each(|part| check_part(&part)),
        _ => Err(content.must_be("a string or a list of text parts")),
    }
}

fn check_part(part: &Json<'_>) -> Result<(), ApiError> {
    if part.value().is_string() {
        return Ok(());
    }
    // Some clients leave the type of a text out.
    let name = part.text_of("type")?.unwrap_or("text");
    let Some(known) = TEXT_PARTS.iter().find(|known| known.name == name) else {
        let message = format_args!("is {}, which is not supported yet: only text is", shortened(name));
        return Err(ApiError::field(part.child("type"), message));
    };
    fields::check(known.fields, part)?;
    part.require(known.text)?.text().map(drop)
}

/// Checks the calls of an earlier answer, so that no error names a message by another index than the client's.
pub(crate) fn check_tool_calls(message: &Json<'_>) -> Result<(), ApiError> {
    let Some(calls) = message.get("tool_calls")? else { return Ok(()) };
    for call in calls.list_of(MOST_CALLS, "calls")? {
        fields::check(TOOL_CALL, &call)?;
        let function = call.get("function")?;
        if let Some(function) = &function {
            fields::check(FUNCTION, function)?;
            for name in ["name", "arguments"] {
                if let Some(outside) = call.get(name)? {
                    return Err(outside.error("cannot be given together with function, which has it"));
                }
            }
        }
        // Some clients leave the function out, and have its fields in the call.
        let function = function.unwrap_or(call);
        function.require("name")?.text()?;
        let Some(arguments) = function.get("arguments")? else { continue };
        let is_valid = match arguments.value() {
            Value::Object(_) => true,
            Value::String(text) => text.trim().is_empty() || is_object(text),
            _ => false,
        };
        if !is_valid {
            return Err(arguments.error("must be a JSON object, or a string that holds one"));
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
    add_system(&mut messages, model);
    Chat::new(messages)
}

/// Puts the recommended system message before messages that have none.
pub(crate) fn add_system(messages: &mut Vec<Message>, model: &Loaded) {
    let role = |message: &Message| message.fields().get("role").and_then(Value::as_str).map(str::to_owned);
    let is_system = |message: &Message| matches!(role(message).as_deref(), Some("system" | "developer"));
    if let Some(system) = model.system()
        && !messages.is_empty()
        && !messages.iter().any(is_system)
    {
        messages.insert(0, Message::system(system));
    }
}
