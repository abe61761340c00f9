//! Anthropic's API: <https://docs.anthropic.com/en/api/messages>.

mod conversation;
mod errors;
pub(crate) mod fields;
mod frames;

#[cfg(test)]
mod tests;

use axum::extract::{Extension, Request, State as Shared};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use axum::{Json as Document, Router};
use mullama::{StreamConfig, Usage};
use serde_json::json;

use self::fields::{COUNT_TABLES, MESSAGE_TABLES};
use self::frames::MessageDialect;
use super::messages::add_system;
use super::tokens::{self, Conversation};
use super::{RequestId, sampling, with_errors};
use crate::error::ApiError;
use crate::generation::{Streams, respond};
use crate::ids;
use crate::json::{Json, fields as tables};
use crate::state::State;

/// The routes of Anthropic's API.
pub(crate) fn routes() -> Router<State> {
    let routes = Router::new()
        .route("/v1/messages", post(messages))
        .route("/v1/messages/count_tokens", post(count))
        .route("/v1/messages/", any(unknown))
        .route("/v1/messages/{*path}", any(unknown))
        .route("/v1/complete", any(unknown));
    with_errors(routes, errors::error_response).layer(middleware::from_fn(named))
}

async fn unknown() -> ApiError {
    ApiError::not_found("this server has no such endpoint of Anthropic's API")
}

/// Gives each response the id of its request under the name that Anthropic's clients read.
async fn named(request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestId>().and_then(|id| HeaderValue::from_str(&id.0).ok());
    let mut response = next.run(request).await;
    if let Some(id) = id {
        response.headers_mut().insert(HeaderName::from_static("request-id"), id);
    }
    response
}

/// Answers a conversation, streamed or whole.
async fn messages(
    Shared(state): Shared<State>,
    Extension(id): Extension<RequestId>,
    request: Request,
) -> Result<Response, ApiError> {
    let body = state.body(request).await?.checked(state.defaults(), read).await?;
    let model = state.model(body.json().text_of("model")?).await?;
    let defaults = model.defaults().clone();
    let mut asked = body.read(move |body| read(body, defaults)).await?;
    add_system(&mut asked.conversation.chat.messages, &model);
    let prompt = asked.conversation.prompt(&model).await?;
    let dialect = MessageDialect {
        id: ids::new("msg_"),
        request_id: id.0,
        model: model.name().to_owned(),
        max_tokens: asked.config.max_tokens,
        usage: Usage::default(),
    };
    let streams = Streams::open(model, vec![prompt], 1, &asked.config)?;
    respond(streams, dialect, asked.is_streamed, state.keep_alive()).await
}

/// What a request asks for.
struct Asked {
    config: StreamConfig,
    conversation: Conversation,
    is_streamed: bool,
}

fn read(body: &Json<'_>, mut config: StreamConfig) -> Result<Asked, ApiError> {
    conversation::check_choices(body)?;
    tables::apply(MESSAGE_TABLES, body, &mut config)?;
    sampling::read_common(body, &mut config)?;
    config.max_tokens = body.require("max_tokens")?.integer(1..=u32::MAX)?;
    let is_streamed = body.flag_or("stream", false)?;
    Ok(Asked { config, conversation: conversation::read(body)?, is_streamed })
}

/// Counts the tokens of a conversation, as an engine would compute them.
async fn count(Shared(state): Shared<State>, request: Request) -> Result<Response, ApiError> {
    let body = state.body(request).await?;
    let read = |body: &Json<'_>| {
        conversation::check_choices(body)?;
        tables::apply(COUNT_TABLES, body, &mut StreamConfig::new())?;
        Ok((body.text_of("model")?.map(str::to_owned), conversation::read(body)?))
    };
    let (name, mut conversation) = body.read(read).await?;
    let model = state.model(name.as_deref()).await?;
    add_system(&mut conversation.chat.messages, &model);
    let tokens = tokens::tokens(model, conversation).await?;
    Ok(Document(json!({"input_tokens": tokens.len()})).into_response())
}
