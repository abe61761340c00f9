//! `/tokenize`, `/detokenize` and `/apply-template`.

use std::sync::Arc;

use axum::extract::{Request, State as Shared};
use axum::response::{IntoResponse, Response};
use mullama::{Chat, Model, StreamConfig, TokenId};
use serde::Serialize;
use serde_json::{Value, json};

use super::fields::{APPLY_TEMPLATE, DETOKENIZE, TOKENIZE};
use super::prompt::Parts;
use crate::dialect::blocking::blocking;
use crate::dialect::messages;
use crate::dialect::prompts::read_tokens;
use crate::dialect::tokens::bytes_of;
use crate::error::ApiError;
use crate::json::{Json, fields};
use crate::state::State;

/// The document of a text's tokens.
#[derive(Serialize)]
struct Tokens<T> {
    tokens: Vec<T>,
}

/// The tokens of a text.
pub(super) async fn tokenize(Shared(state): Shared<State>, request: Request) -> Result<Response, ApiError> {
    let body = state.body(request).await?;
    fields::apply(TOKENIZE, &body.json(), &mut StreamConfig::default())?;
    let (add_special, parse_special) =
        (body.json().flag_or("add_special", false)?, body.json().flag_or("parse_special", true)?);
    let with_pieces = body.json().flag_or("with_pieces", false)?;
    let read = |body: &Json<'_>| Ok((name_of_model(body)?, Parts::read(&body.require("content")?)?));
    let (name, parts) = body.read(read).await?;
    let model = state.model(name.as_deref()).await?;
    let model = Arc::clone(model.context().model());
    let tokens = parts.tokens(Arc::clone(&model), add_special, parse_special).await?;
    if !with_pieces {
        return Ok(axum::Json(Tokens { tokens }).into_response());
    }
    let pieces = blocking(size_of_val(tokens.as_slice()), move |go_on| pieces(&model, &tokens, go_on)).await?;
    Ok(axum::Json(Tokens { tokens: pieces }).into_response())
}

fn name_of_model(body: &Json<'_>) -> Result<Option<String>, ApiError> {
    Ok(body.text_of("model")?.map(str::to_owned))
}

/// Each token with its text, or its bytes where they are no whole characters.
fn pieces(
    model: &Model,
    tokens: &[TokenId],
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<Vec<Value>>, mullama::MullamaError> {
    let mut pieces = Vec::with_capacity(tokens.len());
    for (index, token) in tokens.iter().enumerate() {
        if index % 1024 == 0 && !go_on() {
            return Ok(None);
        }
        let piece = match String::from_utf8(model.detokenize(&[*token])?) {
            Ok(text) => json!(text),
            Err(error) => json!(error.into_bytes()),
        };
        pieces.push(json!({"id": token, "piece": piece}));
    }
    Ok(Some(pieces))
}

/// The text of tokens.
pub(super) async fn detokenize(Shared(state): Shared<State>, request: Request) -> Result<Response, ApiError> {
    let body = state.body(request).await?;
    fields::apply(DETOKENIZE, &body.json(), &mut StreamConfig::default())?;
    let read = |body: &Json<'_>| Ok((name_of_model(body)?, read_tokens(&body.require("tokens")?)?));
    let (name, tokens) = body.read(read).await?;
    let model = state.model(name.as_deref()).await?;
    let model = Arc::clone(model.context().model());
    let bytes = blocking(size_of_val(tokens.as_slice()), move |_| model.detokenize(&tokens).map(Some)).await?;
    Ok(axum::Json(json!({"content": String::from_utf8_lossy(&bytes)})).into_response())
}

/// The prompt of a chat.
pub(super) async fn apply_template(Shared(state): Shared<State>, request: Request) -> Result<Response, ApiError> {
    let body = state.body(request).await?;
    fields::apply(APPLY_TEMPLATE, &body.json(), &mut StreamConfig::default())?;
    let read = |body: &Json<'_>| {
        let mut chat = messages::read_messages(&body.require("messages")?).map(Chat::new)?;
        messages::read_template_fields(body, &mut chat)?;
        Ok((name_of_model(body)?, chat))
    };
    let (name, mut chat) = body.read(read).await?;
    let model = state.model(name.as_deref()).await?;
    messages::adapt(&mut chat, &model);
    let model = Arc::clone(model.context().model());
    let prompt = blocking(bytes_of(&chat), move |go_on| model.apply_chat_template_while(&chat, go_on)).await?;
    Ok(axum::Json(json!({"prompt": prompt})).into_response())
}
