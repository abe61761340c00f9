//! What a stream is asked to continue.

use mullama_ffi::TokenId;

use crate::chat::Chat;
use crate::error::PromptFailure;

/// Text or token ids to continue, or a chat to answer.
///
/// In text, control tokens are parsed and BOS is added as the model says; token ids are taken as they are. In the messages of
/// a chat control tokens are letters.
#[derive(Debug, Clone)]
pub enum Prompt {
    /// Text for the model's tokenizer.
    Text(String),
    /// Token ids of the model's vocabulary.
    Tokens(Vec<TokenId>),
    /// Messages for the model's template.
    Chat(Box<Chat>),
    /// What another language calls a prompt and this type cannot hold; the stream says why.
    Refused(PromptFailure),
}

impl From<Chat> for Prompt {
    fn from(chat: Chat) -> Self {
        Self::Chat(Box::new(chat))
    }
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&String> for Prompt {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<Vec<TokenId>> for Prompt {
    fn from(tokens: Vec<TokenId>) -> Self {
        Self::Tokens(tokens)
    }
}

impl From<&[TokenId]> for Prompt {
    fn from(tokens: &[TokenId]) -> Self {
        Self::Tokens(tokens.into())
    }
}
