//! Conversations: messages that a model's chat template turns into a prompt.
//!
//! Flow: messages → **chat** (`normalize` → `guard` → `jinja` → tokens) → engine. Every function that takes a prompt
//! also takes a [`Chat`].

pub(crate) mod dialect;
mod failure;
mod guard;
mod jinja;
mod normalize;

pub use failure::TemplateFailure;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A conversation, and the other variables of its template.
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
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// The tools that the model may call, as JSON schemas in the form of `OpenAI`'s API; `None` means no tools.
    #[serde(default)]
    pub tools: Option<Vec<Value>>,
    /// A Jinja template to use instead of the model's own.
    #[serde(default)]
    pub chat_template: Option<String>,
    /// Whether the prompt ends with the start of the assistant's next message. The default is true.
    #[serde(default = "yes")]
    pub add_generation_prompt: bool,
    /// Additional variables for the template, such as `enable_thinking`. They are set last, so they can replace the
    /// others.
    #[serde(default)]
    pub chat_template_kwargs: Map<String, Value>,
}

fn yes() -> bool {
    true
}

impl Chat {
    /// Creates a chat of these messages, for the model's own template and without tools.
    pub fn new(messages: impl IntoIterator<Item = Message>) -> Self {
        Self {
            messages: messages.into_iter().collect(),
            tools: None,
            chat_template: None,
            add_generation_prompt: true,
            chat_template_kwargs: Map::new(),
        }
    }

    /// Sets the tools that the model may call, as JSON schemas in the form of `OpenAI`'s API.
    #[must_use]
    pub fn tools(mut self, tools: Vec<Value>) -> Self {
        self.tools = Some(tools);
        self
    }

    /// Sets a Jinja template to use instead of the model's own.
    #[must_use]
    pub fn chat_template(mut self, template: impl Into<String>) -> Self {
        self.chat_template = Some(template.into());
        self
    }

    /// Sets whether the prompt ends with the start of the assistant's next message. The default is true.
    #[must_use]
    pub fn add_generation_prompt(mut self, yes: bool) -> Self {
        self.add_generation_prompt = yes;
        self
    }

    /// Adds a variable for the template.
    #[must_use]
    pub fn template_argument(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.chat_template_kwargs.insert(name.into(), value.into());
        self
    }
}

/// A message: a JSON object with at least a `role`, in the form of `OpenAI`'s API. Templates read its `content`, and
/// some also read `tool_calls`, `name` and other fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Message(Map<String, Value>);

impl Message {
    /// Creates a message with this role.
    pub fn new(role: impl Into<String>, content: impl Into<Value>) -> Self {
        let fields = [("role".to_owned(), Value::from(role.into())), ("content".to_owned(), content.into())];
        Self(fields.into_iter().collect())
    }

    /// Creates a system message: instructions for the model.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content.into())
    }

    /// Creates a message of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content.into())
    }

    /// Creates a message of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content.into())
    }

    /// Creates a message with the result of a tool call.
    pub fn tool(content: impl Into<String>) -> Self {
        Self::new("tool", content.into())
    }

    /// Adds a field, such as `tool_calls` or `name`.
    #[must_use]
    pub fn with(mut self, field: impl Into<String>, value: impl Into<Value>) -> Self {
        self.0.insert(field.into(), value.into());
        self
    }

    /// The role; empty if there is none.
    fn role(&self) -> &str {
        self.0.get("role").and_then(Value::as_str).unwrap_or_default()
    }

    /// The content, if it is a text.
    fn content(&self) -> Option<&str> {
        self.0.get("content").and_then(Value::as_str)
    }

    /// Appends a character to the content, to test whether a template renders it.
    fn say_more(&mut self) {
        if let Some(Value::String(text)) = self.0.get_mut("content") {
            text.push('x');
        }
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
