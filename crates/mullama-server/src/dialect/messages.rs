//! Chats of requests.

use mullama::{Chat, Message};
use serde_json::Value;

use crate::error::ApiError;
use crate::json::Json;
use crate::models::Loaded;

/// The chat of a list of messages in OpenAI's form, with the system message that the model's publisher recommends where
/// the list has none.
pub(crate) fn read_chat(list: &Json<'_>, model: &Loaded) -> Result<Chat, ApiError> {
    let mut messages = Vec::new();
    for message in list.list()? {
        messages.push(Message::from(message.object()?.clone()));
    }
    Ok(with_system(messages, model))
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
