//! Anthropic's events, and the message of an answer that is not streamed.

use mullama::{FinishReason, Usage};
use serde::Serialize;
use serde_json::Value;

use super::errors::ErrorDocument;
use crate::error::ApiError;
use crate::generation::{Answer, Dialect, Ending, Event, Frames, Progress};

/// Writes the events or the document of one message.
#[derive(Debug)]
pub(crate) struct MessageDialect {
    /// The id of the message.
    pub(crate) id: String,
    pub(crate) request_id: String,
    pub(crate) model: String,
    /// The limit that the client set.
    pub(crate) max_tokens: u32,
    pub(crate) usage: Usage,
}

#[derive(Debug, Serialize)]
struct Message<'a> {
    id: &'a str,
    r#type: &'static str,
    role: &'static str,
    model: &'a str,
    content: Vec<TextBlock<'a>>,
    stop_reason: Option<&'static str>,
    stop_sequence: Option<&'a str>,
    stop_details: Option<()>,
    container: Option<()>,
    usage: UsageBody,
}

#[derive(Debug, Serialize)]
struct TextBlock<'a> {
    r#type: &'static str,
    text: &'a str,
    citations: Option<()>,
}

#[derive(Debug, Serialize)]
struct TextDelta<'a> {
    r#type: &'static str,
    text: &'a str,
}

/// Anthropic counts the tokens of a cached prefix apart from the other tokens of the input.
#[derive(Debug, Serialize)]
struct Counts {
    input_tokens: usize,
    cache_creation_input_tokens: usize,
    cache_read_input_tokens: usize,
    output_tokens: usize,
    output_tokens_details: Option<()>,
    server_tool_use: Option<()>,
}

#[derive(Debug, Serialize)]
struct UsageBody {
    #[serde(flatten)]
    counts: Counts,
    cache_creation: Option<()>,
    inference_geo: Option<()>,
    service_tier: &'static str,
}

impl Counts {
    fn of(usage: Usage) -> Self {
        Self {
            input_tokens: usage.prompt_tokens.saturating_sub(usage.cached_tokens),
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: usage.cached_tokens,
            output_tokens: usage.completion_tokens,
            output_tokens_details: None,
            server_tool_use: None,
        }
    }
}

/// An event; its name is repeated in its data as the type.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Data<'a> {
    MessageStart { message: Message<'a> },
    ContentBlockStart { index: usize, content_block: TextBlock<'a> },
    Ping,
    ContentBlockDelta { index: usize, delta: TextDelta<'a> },
    ContentBlockStop { index: usize },
    MessageDelta { delta: Ended<'a>, usage: Counts },
    MessageStop,
}

impl Data<'_> {
    const fn name(&self) -> &'static str {
        match self {
            Self::MessageStart { .. } => "message_start",
            Self::ContentBlockStart { .. } => "content_block_start",
            Self::Ping => "ping",
            Self::ContentBlockDelta { .. } => "content_block_delta",
            Self::ContentBlockStop { .. } => "content_block_stop",
            Self::MessageDelta { .. } => "message_delta",
            Self::MessageStop => "message_stop",
        }
    }

    fn write(&self, frames: &mut Frames) {
        frames.named_event(self.name(), self);
    }
}

#[derive(Debug, Serialize)]
struct Ended<'a> {
    stop_reason: &'static str,
    stop_sequence: Option<&'a str>,
    stop_details: Option<()>,
    container: Option<()>,
}

const fn text_block(text: &str) -> TextBlock<'_> {
    TextBlock { r#type: "text", text, citations: None }
}

impl MessageDialect {
    fn message<'a>(&'a self, content: Vec<TextBlock<'a>>, usage: Usage) -> Message<'a> {
        Message {
            id: &self.id,
            r#type: "message",
            role: "assistant",
            model: &self.model,
            content,
            stop_reason: None,
            stop_sequence: None,
            stop_details: None,
            container: None,
            usage: UsageBody {
                counts: Counts::of(usage),
                cache_creation: None,
                inference_geo: None,
                service_tier: "standard",
            },
        }
    }

    /// Why an answer ended, as Anthropic names it.
    fn ended<'a>(&self, ending: &'a Ending) -> Ended<'a> {
        let stop_sequence = ending.stop_sequence.as_deref();
        let limit = usize::try_from(self.max_tokens).unwrap_or(usize::MAX);
        let stop_reason = match ending.reason {
            FinishReason::Length if ending.progress.usage.completion_tokens < limit => "model_context_window_exceeded",
            FinishReason::Length => "max_tokens",
            _ if stop_sequence.is_some() => "stop_sequence",
            _ => "end_turn",
        };
        Ended { stop_reason, stop_sequence, stop_details: None, container: None }
    }
}

impl Dialect for MessageDialect {
    fn id(&self) -> Option<&str> {
        Some(&self.id)
    }

    fn used(&mut self, so_far: &Progress) {
        self.usage = so_far.usage;
    }

    fn start(&mut self, frames: &mut Frames) {
        let usage = Usage { completion_tokens: 0, ..self.usage };
        Data::MessageStart { message: self.message(Vec::new(), usage) }.write(frames);
        Data::ContentBlockStart { index: 0, content_block: text_block("") }.write(frames);
        Data::Ping.write(frames);
    }

    fn event(&mut self, event: &Event, frames: &mut Frames) {
        match event {
            Event::Token { token, .. } if token.text.is_empty() => {}
            Event::Token { token, .. } => {
                let delta = TextDelta { r#type: "text_delta", text: &token.text };
                Data::ContentBlockDelta { index: 0, delta }.write(frames);
            }
            Event::End { ending, .. } => {
                Data::ContentBlockStop { index: 0 }.write(frames);
                let usage = Counts::of(ending.progress.usage);
                Data::MessageDelta { delta: self.ended(ending), usage }.write(frames);
            }
            Event::Failed { .. } => {}
        }
    }

    fn finish(&mut self, frames: &mut Frames) {
        Data::MessageStop.write(frames);
    }

    fn failed(&mut self, error: &ApiError, frames: &mut Frames) {
        frames.named_event("error", &ErrorDocument::of(error, &self.request_id));
    }

    fn keep_alive(&self, frames: &mut Frames) {
        // Clients that watch for silence do not see comments.
        Data::Ping.write(frames);
    }

    fn whole(&mut self, answers: &[Answer]) -> Value {
        let Some(answer) = answers.first() else { return Value::Null };
        let Ended { stop_reason, stop_sequence, .. } = self.ended(&answer.ending);
        let content = vec![text_block(&answer.text)];
        let message = self.message(content, answer.ending.progress.usage);
        let message = Message { stop_reason: Some(stop_reason), stop_sequence, ..message };
        serde_json::to_value(message).unwrap_or_default()
    }
}
