//! Conversations whose answer has begun, and the tokens of conversations.

use std::sync::Arc;

use mullama::{Chat, MullamaError, Prompt, TokenId};
use serde_json::Value;

use super::blocking::blocking;
use crate::error::ApiError;
use crate::models::Loaded;

/// A conversation, and the start of the assistant's answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Conversation {
    pub(crate) chat: Chat,
    /// The text that the answer continues, where the client's last message is the assistant's.
    pub(crate) begun: Option<String>,
}

impl Conversation {
    /// The prompt of the answer.
    pub(crate) async fn prompt(self, model: &Arc<Loaded>) -> Result<Prompt, ApiError> {
        match self.begun {
            None => Ok(Prompt::from(self.chat)),
            Some(_) => tokens(Arc::clone(model), self).await.map(Prompt::from),
        }
    }
}

/// The tokens of a prompt that answers the conversation, or continues the answer that the client has begun. Dropping the
/// future stops the work.
pub(crate) async fn tokens(model: Arc<Loaded>, conversation: Conversation) -> Result<Vec<TokenId>, ApiError> {
    let bytes = bytes_of(&conversation.chat) + conversation.begun.as_ref().map_or(0, String::len);
    blocking(bytes, move |go_on| tokenized(&model, &conversation, go_on)).await
}

/// The bytes of all texts of a chat.
pub(crate) fn bytes_of(chat: &Chat) -> usize {
    let messages = chat.messages.iter().flat_map(|message| message.fields().values());
    messages.chain(chat.chat_template_kwargs.values()).map(bytes_of_value).sum()
}

fn bytes_of_value(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(bytes_of_value).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + bytes_of_value(value)).sum(),
        _ => size_of::<Value>(),
    }
}

/// The chat with the start of the assistant's next message, and then the text of it that is there. `None` if nobody waits.
fn tokenized(
    model: &Loaded,
    conversation: &Conversation,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<Vec<TokenId>>, MullamaError> {
    let model = model.context().model();
    let Some(mut tokens) = model.tokenize_chat_while(&conversation.chat, &mut *go_on)? else { return Ok(None) };
    if let Some(text) = &conversation.begun {
        // Control tokens that a client writes stay plain text, as in all messages.
        let Some(begun) = model.tokenize_while(text, false, false, go_on)? else { return Ok(None) };
        tokens.extend(begun);
    }
    Ok(Some(tokens))
}
