//! Conversations whose answer has begun, and the tokens of conversations.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mullama::{Chat, MullamaError, Prompt, TokenId};

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

/// Tells a thread that nobody waits for its result any more.
struct Interest(Arc<AtomicBool>);

impl Drop for Interest {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// The tokens of a prompt that answers the conversation, or continues the answer that the client has begun. Dropping the
/// future stops the work.
pub(crate) async fn tokens(model: Arc<Loaded>, conversation: Conversation) -> Result<Vec<TokenId>, ApiError> {
    let is_wanted = Arc::new(AtomicBool::new(true));
    let interest = Interest(Arc::clone(&is_wanted));
    let work = tokio::task::spawn_blocking(move || tokenized(&model, &conversation, &is_wanted));
    let tokens = work.await.unwrap_or(Err(MullamaError::Closed { what: "server" }));
    drop(interest);
    Ok(tokens?.unwrap_or_default())
}

/// The chat with the start of the assistant's next message, and then the text of it that is there. `None` if nobody waits.
fn tokenized(
    model: &Loaded,
    conversation: &Conversation,
    is_wanted: &AtomicBool,
) -> Result<Option<Vec<TokenId>>, MullamaError> {
    let go_on = || is_wanted.load(Ordering::Relaxed);
    let model = model.context().model();
    let Some(mut tokens) = model.tokenize_chat_while(&conversation.chat, go_on)? else { return Ok(None) };
    if let Some(text) = &conversation.begun {
        // Control tokens that a client writes stay plain text, as in all messages.
        let Some(begun) = model.tokenize_while(text, false, false, go_on)? else { return Ok(None) };
        tokens.extend(begun);
    }
    Ok(Some(tokens))
}
