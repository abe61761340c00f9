//! The endpoints that take a body, with the tables of their fields.

use crate::dialect::{anthropic, llama_server, ollama, openai};
use crate::json::fields::Field;

type Tables = &'static [&'static [Field]];

/// An endpoint that takes a JSON object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Endpoint {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    pub(super) tag: &'static str,
    pub(super) tables: Tables,
    /// The fields that are objects with settings of their own.
    pub(super) nested: &'static [(&'static str, Tables)],
    pub(super) required: &'static [&'static str],
    /// The schemas of a whole answer and of an error.
    pub(super) answer: &'static str,
    pub(super) error: &'static str,
    /// The content type of a streamed answer.
    pub(super) stream: Option<&'static str>,
}

const EVENTS: Option<&str> = Some("text/event-stream");
const LINES: Option<&str> = Some("application/x-ndjson");

/// An endpoint of `OpenAI`'s, from which the others differ.
const OPENAI: Endpoint = Endpoint {
    method: "post",
    path: "/v1/chat/completions",
    summary: "Answers a chat.",
    tag: "OpenAI",
    tables: openai::fields::CHAT_TABLES,
    nested: &[],
    required: &["messages"],
    answer: "ChatCompletion",
    error: "OpenAIError",
    stream: EVENTS,
};

const ANTHROPIC: Endpoint = Endpoint {
    path: "/v1/messages",
    tag: "Anthropic",
    tables: anthropic::fields::MESSAGE_TABLES,
    required: &["messages", "max_tokens"],
    answer: "Message",
    error: "AnthropicError",
    ..OPENAI
};

const OLLAMA: Endpoint = Endpoint {
    path: "/api/chat",
    tag: "Ollama",
    tables: ollama::fields::CHAT_TABLES,
    nested: &[("options", ollama::fields::OPTION_TABLES)],
    required: &["model"],
    answer: "OllamaAnswer",
    error: "OllamaError",
    stream: LINES,
    ..OPENAI
};

const LLAMA_SERVER: Endpoint = Endpoint {
    path: "/completion",
    summary: "Continues a text.",
    tag: "llama-server",
    tables: llama_server::fields::COMPLETION_TABLES,
    required: &["prompt"],
    answer: "LlamaCompletion",
    error: "LlamaError",
    ..OPENAI
};

pub(super) const ENDPOINTS: &[Endpoint] = &[
    OPENAI,
    Endpoint {
        path: "/v1/completions",
        summary: "Continues a text.",
        tables: openai::fields::COMPLETION_TABLES,
        required: &["prompt"],
        answer: "Completion",
        ..OPENAI
    },
    Endpoint {
        path: "/v1/responses",
        summary: "Answers an input. Nothing is stored.",
        tables: openai::fields::RESPONSE_TABLES,
        required: &["input"],
        answer: "Response",
        ..OPENAI
    },
    ANTHROPIC,
    Endpoint {
        path: "/v1/messages/count_tokens",
        summary: "Counts the tokens of a chat.",
        tables: anthropic::fields::COUNT_TABLES,
        required: &["messages"],
        answer: "TokenCount",
        stream: None,
        ..ANTHROPIC
    },
    OLLAMA,
    Endpoint { path: "/api/generate", summary: "Answers a prompt.", tables: ollama::fields::GENERATE_TABLES, ..OLLAMA },
    Endpoint {
        path: "/api/show",
        summary: "Shows what is known about a model.",
        tables: ollama::fields::SHOW_TABLES,
        nested: &[],
        answer: "Any",
        stream: None,
        ..OLLAMA
    },
    Endpoint {
        path: "/api/pull",
        summary: "Downloads a model.",
        tables: ollama::fields::PULL_TABLES,
        nested: &[],
        answer: "Any",
        ..OLLAMA
    },
    Endpoint {
        method: "delete",
        path: "/api/delete",
        summary: "Deletes a model that was downloaded.",
        tables: ollama::fields::DELETE_TABLES,
        nested: &[],
        answer: "Any",
        stream: None,
        ..OLLAMA
    },
    LLAMA_SERVER,
    Endpoint {
        path: "/tokenize",
        summary: "Turns a text into tokens.",
        tables: llama_server::fields::TOKENIZE,
        required: &["content"],
        answer: "LlamaTokens",
        stream: None,
        ..LLAMA_SERVER
    },
    Endpoint {
        path: "/detokenize",
        summary: "Turns tokens into their text.",
        tables: llama_server::fields::DETOKENIZE,
        required: &["tokens"],
        answer: "LlamaText",
        stream: None,
        ..LLAMA_SERVER
    },
    Endpoint {
        path: "/apply-template",
        summary: "Writes a chat as the model's prompt.",
        tables: llama_server::fields::APPLY_TEMPLATE,
        required: &["messages"],
        answer: "LlamaPrompt",
        stream: None,
        ..LLAMA_SERVER
    },
];
