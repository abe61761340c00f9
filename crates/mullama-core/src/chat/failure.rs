//! Why messages could not be rendered to a prompt.

use super::jinja;

/// Why messages could not be rendered to a prompt.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TemplateFailure {
    /// The file has no `tokenizer.chat_template`.
    #[error("the model has no chat template; pass one as chat_template, or use generate, which continues plain text")]
    Missing,
    /// The template called `raise_exception`.
    #[error("the chat template refuses the messages in line {line}: {message}")]
    Refused {
        /// The message of the exception.
        message: String,
        /// Line of the template, from 1.
        line: usize,
    },
    /// The template is not valid Jinja, or an operation in it failed.
    #[error("the chat template fails in line {line}: {reason}")]
    Failed {
        /// What is wrong.
        reason: String,
        /// Line of the template, from 1.
        line: usize,
    },
    /// Rendering was stopped: it reached a limit, or its request has ended.
    #[error("the chat template was stopped in line {line}: {reason}")]
    Stopped {
        /// The limit that was reached.
        reason: String,
        /// Line of the template, from 1.
        line: usize,
    },
    /// The chat has no messages.
    #[error("messages is empty; it must have at least one message")]
    NoMessages,
    /// A message is not valid.
    #[error("messages[{index}]: {reason}")]
    InvalidMessage {
        /// The index of the message, from 0.
        index: usize,
        /// The field of the message that is wrong, if it is one.
        field: Option<&'static str>,
        /// What is wrong with the message.
        reason: String,
    },
}

impl TemplateFailure {
    /// The line of the template, from 1; `None` if the failure is not in the template.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Missing | Self::NoMessages | Self::InvalidMessage { .. } => None,
            Self::Refused { line, .. } | Self::Failed { line, .. } | Self::Stopped { line, .. } => Some(*line),
        }
    }
}

impl From<jinja::Error> for TemplateFailure {
    fn from(error: jinja::Error) -> Self {
        match error.into_parts() {
            (jinja::Kind::Raised(message), line) => Self::Refused { message, line },
            (jinja::Kind::Failed(reason), line) => Self::Failed { reason, line },
            (jinja::Kind::Exhausted(limit), line) => Self::Stopped { reason: limit.to_string(), line },
        }
    }
}
