//! `/api/generate` and `/api/chat`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{Request, State as Shared};
use axum::response::{IntoResponse, Response};
use mullama::{Chat, Message, Prompt};
use serde_json::{Map, Value};

use super::fields::{CHAT_TABLES, GENERATE_TABLES, MESSAGE};
use super::frames::{AnswerDialect, Endpoint};
use super::request::{Asked, Common};
use crate::dialect::messages::{MOST_MESSAGES, add_system, check_tool_calls, is_empty_turn, with_system};
use crate::dialect::tokens::Conversation;
use crate::error::ApiError;
use crate::generation::{Streams, respond};
use crate::json::{Json, fields};
use crate::models::Loaded;
use crate::state::State;

/// Answers a prompt.
pub(super) async fn generate(Shared(state): Shared<State>, request: Request) -> Result<Response, ApiError> {
    let body = state.body(request).await?;
    // What is wrong with a request is said before a model is loaded for it.
    let asked = Asked::read(&body.json(), GENERATE_TABLES, state.defaults())?;
    let has_prompt = body.json().text_of("prompt")?.is_some_and(|prompt| !prompt.is_empty());
    if !has_prompt {
        return without_prompt(&state, asked, Endpoint::Generate).await;
    }
    let body = body.checked(state.defaults(), |body, _| read_raw(body)).await?;
    let common = asked.load(&state).await?;
    let (common, prompt) = body
        .read(move |body| {
            let prompt = read_prompt(body, &common.model)?;
            Ok((common.with_options(body)?, prompt))
        })
        .await?;
    answer(&state, Endpoint::Generate, common, prompt).await
}

/// Answers a chat.
pub(super) async fn chat(Shared(state): Shared<State>, request: Request) -> Result<Response, ApiError> {
    let body = state.body(request).await?;
    let asked = Asked::read(&body.json(), CHAT_TABLES, state.defaults())?;
    let list = body.json().get("messages")?;
    if list.map_or(Ok(true), |list| list.list().map(|list| list.len() == 0))? {
        return without_prompt(&state, asked, Endpoint::Chat).await;
    }
    let body = body.checked(state.defaults(), |body, _| read_conversation(body)).await?;
    let common = asked.load(&state).await?;
    let (common, mut conversation) =
        body.read(move |body| Ok((common.with_options(body)?, read_conversation(body)?))).await?;
    add_system(&mut conversation.chat.messages, &common.model);
    let prompt = conversation.prompt(&common.model).await?;
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

async fn without_prompt(state: &State, asked: Asked, endpoint: Endpoint) -> Result<Response, ApiError> {
    let (model, without) = asked.without_prompt(state).await?;
    let dialect = AnswerDialect { endpoint, model, load: Duration::ZERO, logprobs: None, clock: SystemTime::now };
    Ok(axum::Json(dialect.without_prompt(without.as_str())).into_response())
}

/// A prompt is a message of the user where the model has a template, unless it is meant to be continued as it is.
fn read_prompt(body: &Json<'_>, model: &Loaded) -> Result<Prompt, ApiError> {
    let prompt = body.require("prompt")?;
    let text = prompt.text()?;
    let is_raw = read_raw(body)?;
    let system = body.text_of("system")?.filter(|text| !text.is_empty());
    if !is_raw && model.chat_template().is_some() {
        let system = system.map(Message::system);
        let mut chat = with_system(system.into_iter().chain([Message::user(text)]).collect(), model);
        read_think(body, &mut chat.chat_template_kwargs)?;
        return Ok(Prompt::from(chat));
    }
    match system {
        Some(_) => Err(ApiError::field("system", "needs a model with a chat template")),
        None => Ok(Prompt::from(text)),
    }
}

/// Whether the prompt is to be continued as it is.
fn read_raw(body: &Json<'_>) -> Result<bool, ApiError> {
    let is_raw = body.flag_or("raw", false)?;
    if is_raw && body.text_of("system")?.is_some_and(|text| !text.is_empty()) {
        return Err(ApiError::field("system", "cannot be used with raw, which takes the prompt as it is"));
    }
    Ok(is_raw)
}

fn read_conversation(body: &Json<'_>) -> Result<Conversation, ApiError> {
    let list = body.require("messages")?.list_of(MOST_MESSAGES, "messages")?;
    let mut messages = list.map(|message| read_message(&message)).collect::<Result<Vec<_>, _>>()?;
    let is_begun = |message: &mut Map<String, Value>| {
        message.get("role").is_some_and(|role| role == "assistant") && !message.contains_key("tool_calls")
    };
    // As with Ollama, the answer continues a last message of the assistant.
    let answer = if messages.len() > 1 { messages.pop_if(is_begun) } else { None };
    let begun = answer.and_then(|answer| answer.get("content").and_then(Value::as_str).map(str::to_owned));
    let mut chat = Chat::new(messages.into_iter().map(Message::from));
    read_think(body, &mut chat.chat_template_kwargs)?;
    Ok(Conversation { chat, begun: begun.filter(|text| !text.is_empty()) })
}

fn read_message(message: &Json<'_>) -> Result<Map<String, Value>, ApiError> {
    fields::check(MESSAGE, message)?;
    check_tool_calls(message)?;
    let role = message.require("role")?;
    if role.text()?.is_empty() {
        return Err(role.error("must not be empty"));
    }
    let is_assistant = role.text()? == "assistant";
    let content = match message.get("content")? {
        Some(content) if !is_empty_turn(is_assistant, &content) => content.text()?,
        _ => "",
    };
    let mut fields = message.object()?.clone();
    fields.shift_remove("images");
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
