//! `/api/generate` and `/api/chat`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{Request, State as Shared};
use axum::response::{IntoResponse, Response};
use mullama::{Message, Prompt};
use serde_json::{Map, Value};

use super::fields::{CHAT_TABLES, GENERATE_TABLES, MESSAGE};
use super::frames::{AnswerDialect, Endpoint};
use super::request::{self, Common, is_empty};
use crate::dialect::messages::with_system;
use crate::dialect::tokens::Conversation;
use crate::error::ApiError;
use crate::generation::{Streams, respond};
use crate::json::Json;
use crate::json::fields::{self, Field};
use crate::models::Loaded;
use crate::state::State;

/// Answers a prompt.
pub(super) async fn generate(Shared(state): Shared<State>, request: Request) -> Result<Response, ApiError> {
    let body = state.body(request).await?;
    let body = Json::new(&body, "");
    if is_empty(&body, "prompt")? && is_empty(&body, "images")? {
        return without_prompt(&state, &body, Endpoint::Generate, GENERATE_TABLES).await;
    }
    let common = request::read(&state, &body, GENERATE_TABLES).await?;
    let prompt = read_prompt(&body, &common.model)?;
    answer(&state, Endpoint::Generate, common, prompt).await
}

/// Answers a chat.
pub(super) async fn chat(Shared(state): Shared<State>, request: Request) -> Result<Response, ApiError> {
    let body = state.body(request).await?;
    let body = Json::new(&body, "");
    if is_empty(&body, "messages")? {
        return without_prompt(&state, &body, Endpoint::Chat, CHAT_TABLES).await;
    }
    let common = request::read(&state, &body, CHAT_TABLES).await?;
    let prompt = read_conversation(&body, &common.model)?.prompt(&common.model).await?;
    answer(&state, Endpoint::Chat, common, prompt).await
}

async fn answer(state: &State, endpoint: Endpoint, common: Common, prompt: Prompt) -> Result<Response, ApiError> {
    let Common { model, config, stream, load } = common;
    let logprobs = config.logprobs.map(|_| Arc::clone(&model));
    let name = model.name().to_owned();
    let dialect = AnswerDialect { endpoint, model: name, load, logprobs, clock: SystemTime::now };
    let streams = Streams::open(model, vec![prompt], 1, &config)?;
    respond(streams, dialect, stream, state.keep_alive()).await
}

async fn without_prompt(
    state: &State,
    body: &Json<'_>,
    endpoint: Endpoint,
    tables: &[&[Field]],
) -> Result<Response, ApiError> {
    let (model, without) = request::without_prompt(state, body, tables).await?;
    let dialect = AnswerDialect { endpoint, model, load: Duration::ZERO, logprobs: None, clock: SystemTime::now };
    Ok(axum::Json(dialect.without_prompt(without.as_str())).into_response())
}

/// A prompt is a message of the user where the model has a template, unless it is meant to be continued as it is.
fn read_prompt(body: &Json<'_>, model: &Loaded) -> Result<Prompt, ApiError> {
    let prompt = body.require("prompt")?;
    let text = prompt.text()?;
    let is_raw = body.get("raw")?.map_or(Ok(false), |value| value.flag())?;
    let system = body.get("system")?.filter(|value| value.value() != "");
    if !is_raw && model.chat_template().is_some() {
        let system = system.map(|value| value.text().map(Message::system)).transpose()?;
        let mut chat = with_system(system.into_iter().chain([Message::user(text)]).collect(), model);
        read_think(body, &mut chat.chat_template_kwargs)?;
        return Ok(Prompt::from(chat));
    }
    match system {
        Some(system) if is_raw => Err(system.error("cannot be used with raw, which takes the prompt as it is")),
        Some(system) => Err(system.error("needs a model with a chat template")),
        None => Ok(Prompt::from(text)),
    }
}

fn read_conversation(body: &Json<'_>, model: &Loaded) -> Result<Conversation, ApiError> {
    let list = body.require("messages")?;
    let mut messages = list.list()?.iter().map(read_message).collect::<Result<Vec<_>, _>>()?;
    let is_begun = |message: &mut Map<String, Value>| {
        message.get("role").is_some_and(|role| role == "assistant") && !message.contains_key("tool_calls")
    };
    // As with Ollama, the answer continues a last message of the assistant.
    let answer = if messages.len() > 1 { messages.pop_if(is_begun) } else { None };
    let begun = answer.and_then(|answer| answer.get("content").and_then(Value::as_str).map(str::to_owned));
    let mut chat = with_system(messages.into_iter().map(Message::from).collect(), model);
    read_think(body, &mut chat.chat_template_kwargs)?;
    Ok(Conversation { chat, begun: begun.filter(|text| !text.is_empty()) })
}

fn read_message(message: &Json<'_>) -> Result<Map<String, Value>, ApiError> {
    fields::check(MESSAGE, message)?;
    message.require("role")?.text()?;
    let content = message.get("content")?.map_or(Ok(""), |content| content.text())?;
    let mut fields = message.object()?.clone();
    fields.remove("images");
    fields.insert("content".to_owned(), content.into());
    Ok(fields)
}

/// Tells the template not to think, where it knows how.
fn read_think(body: &Json<'_>, arguments: &mut Map<String, Value>) -> Result<(), ApiError> {
    if body.get("think")?.is_some() {
        arguments.insert("enable_thinking".to_owned(), false.into());
    }
    Ok(())
}
