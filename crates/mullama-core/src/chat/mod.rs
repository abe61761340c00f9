//! Conversations: messages that a model's own template turns into a prompt.
//!
//! Flow: messages → **chat** (`guard` → `template` → tokens) → engine. A chat is a prompt with a template: whoever takes a
//! prompt takes a [`Chat`].

pub(crate) mod dialect;
mod guard;
mod json;
mod pythonic;
mod template;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A conversation, and what its template is told beside the messages.
///
/// ```
/// use std::sync::Arc;
/// use mullama::{Chat, Context, ContextParams, Message, Model, StreamConfig};
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/mullama/models/demo.gguf");
/// let model = Arc::new(Model::load(path)?);
/// let chat = Chat::new([Message::system("You are brief."), Message::user("Hello!")]);
/// assert!(model.apply_chat_template(&chat)?.contains("Hello!"));
///
/// let context = Context::new(model, ContextParams::default())?;
/// let answer = context.generate(chat, StreamConfig::new().max_tokens(20))?;
/// # Ok::<(), mullama::MullamaError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Chat {
    /// What was said, oldest first.
    pub messages: Vec<Message>,
    /// Tools that the model may call, as JSON schemas in the form of `OpenAI`; `None` is no tools.
    #[serde(default)]
    pub tools: Option<Vec<Value>>,
    /// A Jinja template instead of the model's own.
    #[serde(default)]
    pub chat_template: Option<String>,
    /// Whether the prompt ends where the assistant's next answer begins.
    #[serde(default = "yes")]
    pub add_generation_prompt: bool,
    /// More variables for the template, such as `enable_thinking`.
    #[serde(default)]
    pub chat_template_kwargs: Map<String, Value>,
}

fn yes() -> bool {
    true
}

impl Chat {
    /// These messages, for the model's own template, up to where its next answer begins.
    pub fn new(messages: impl IntoIterator<Item = Message>) -> Self {
        Self {
            messages: messages.into_iter().collect(),
            tools: None,
            chat_template: None,
            add_generation_prompt: true,
            chat_template_kwargs: Map::new(),
        }
    }

    /// The tools that the model may call, as JSON schemas in the form of `OpenAI`.
    #[must_use]
    pub fn tools(mut self, tools: Vec<Value>) -> Self {
        self.tools = Some(tools);
        self
    }

    /// A Jinja template instead of the model's own.
    #[must_use]
    pub fn chat_template(mut self, template: impl Into<String>) -> Self {
        self.chat_template = Some(template.into());
        self
    }

    /// Whether the prompt ends where the assistant's next answer begins; it does by default.
    #[must_use]
    pub fn add_generation_prompt(mut self, yes: bool) -> Self {
        self.add_generation_prompt = yes;
        self
    }

    /// One more variable for the template.
    #[must_use]
    pub fn template_argument(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.chat_template_kwargs.insert(name.into(), value.into());
        self
    }
}

/// One message: a JSON object with at least a `role`. Templates read `content`, and some of them `tool_calls`, `name` and
/// more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Message(Map<String, Value>);

impl Message {
    /// A message of any role.
    pub fn new(role: impl Into<String>, content: impl Into<Value>) -> Self {
        let fields = [("role".to_owned(), Value::from(role.into())), ("content".to_owned(), content.into())];
        Self(fields.into_iter().collect())
    }

    /// What the model is to be like.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content.into())
    }

    /// What the user said.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content.into())
    }

    /// What the model said.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content.into())
    }

    /// What a tool said.
    pub fn tool(content: impl Into<String>) -> Self {
        Self::new("tool", content.into())
    }

    /// One more field, such as `tool_calls` or `name`.
    #[must_use]
    pub fn with(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.0.insert(field.into(), value.into());
        self
    }

    /// All fields.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.0
    }
}

impl From<Map<String, Value>> for Message {
    fn from(fields: Map<String, Value>) -> Self {
        Self(fields)
    }
}

/// Why messages did not become a prompt.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TemplateFailure {
    /// The file has no `tokenizer.chat_template`.
    #[error("the model has no chat template")]
    Missing,
    /// The template called `raise_exception`.
    #[error("the template refuses the messages in line {line}: {message}")]
    Refused {
        /// What it says.
        message: String,
        /// Line of the template, from 1.
        line: usize,
    },
    /// The template is no Jinja, or it failed.
    #[error("the template fails in line {line}: {reason}")]
    Failed {
        /// What went wrong.
        reason: String,
        /// Line of the template, from 1.
        line: usize,
        /// The engine's own error.
        source: std::sync::Arc<minijinja::Error>,
    },
}

impl TemplateFailure {
    /// Line of the template, from 1; `None` without a template.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Missing => None,
            Self::Refused { line, .. } | Self::Failed { line, .. } => Some(*line),
        }
    }
}
