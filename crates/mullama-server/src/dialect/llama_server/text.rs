//! `/tokenize`, `/detokenize` and `/apply-template`.

use std::sync::Arc;

use axum::extract::{Request, State as Shared};
use axum::response::{IntoResponse, Response};
use mullama::{Model, StreamConfig, TokenId};
use serde_json::{Value, json};

use super::fields::{APPLY_TEMPLATE, DETOKENIZE, TOKENIZE};
use super::prompt::Parts;
use crate::dialect::blocking::blocking;
use crate::dialect::messages;
use crate::dialect::prompts::read_tokens;
use crate::error::ApiError;
use crate::json::Json;
use crate::json::fields::{self, Field};
use crate::models::Loaded;
use crate::state::State;

/// Checks the fields of a request, and finds its model.
async fn checked(state: &State, body: &Json<'_>, tables: &[&[Field]]) -> Result<Arc<Loaded>, ApiError> {
    fields::apply(tables, body, &mut StreamConfig::default())?;
    let name = body.get("model")?.map(|name| name.text()).transpose()?;
    state.model(name).await
}

/// The tokens of a text.
pub(super) async fn tokenize(Shared(state): Shared<State>, request: Request) -> Result<Response, ApiError> {
    let body = state.body(request).await?;
    let body = Json::new(&body, "");
    let model = checked(&state, &body, TOKENIZE).await?;
    let flag = |name, default| body.get(name)?.map_or(Ok(default), |value: Json<'_>| value.flag());
    let (add_special, parse_special) = (flag("add_special", false)?, flag("parse_special", true)?);
    let with_pieces = flag("with_pieces", false)?;
    let parts = Parts::read(&body.require("content")?)?;
    let model = Arc::clone(model.context().model());
    let tokens = parts.tokens(Arc::clone(&model), add_special, parse_special).await?;
    if !with_pieces {
        return Ok(axum::Json(json!({"tokens": tokens})).into_response());
    }
    let pieces = blocking(move |go_on| pieces(&model, &tokens, go_on)).await?;
    Ok(axum::Json(json!({"tokens": pieces})).into_response())
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
    let body = Json::new(&body, "");
    let model = checked(&state, &body, DETOKENIZE).await?;
    let tokens = read_tokens(&body.require("tokens")?)?;
    let model = Arc::clone(model.context().model());
    let bytes = blocking(move |_| model.detokenize(&tokens).map(Some)).await?;
    Ok(axum::Json(json!({"content": String::from_utf8_lossy(&bytes)})).into_response())
}

/// The prompt of a chat.
pub(super) async fn apply_template(Shared(state): Shared<State>, request: Request) -> Result<Response, ApiError> {
    let body = state.body(request).await?;
    let body = Json::new(&body, "");
    let model = checked(&state, &body, APPLY_TEMPLATE).await?;
    let mut chat = messages::read_chat(&body.require("messages")?, &model)?;
    if let Some(flag) = body.get("add_generation_prompt")? {
        chat.add_generation_prompt = flag.flag()?;
    }
    if let Some(arguments) = body.get("chat_template_kwargs")? {
        chat.chat_template_kwargs = arguments.object()?.clone();
    }
    let model = Arc::clone(model.context().model());
    let prompt = blocking(move |go_on| model.apply_chat_template_while(&chat, go_on)).await?;
    Ok(axum::Json(json!({"prompt": prompt})).into_response())
}
