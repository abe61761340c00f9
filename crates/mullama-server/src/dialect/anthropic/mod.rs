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
use axum::routing::post;
use axum::{Json as Document, Router};
use mullama::{StreamConfig, Usage};
use serde_json::json;

use self::fields::{COUNT_TABLES, MESSAGE_TABLES};
use self::frames::MessageDialect;
use super::{RequestId, tokens, with_errors};
use crate::error::ApiError;
use crate::generation::{Streams, respond};
use crate::ids;
use crate::json::{Json, fields as tables};
use crate::state::State;

/// The routes of Anthropic's API.
pub(crate) fn routes() -> Router<State> {
    let routes = Router::new().route("/v1/messages", post(messages)).route("/v1/messages/count_tokens", post(count));
    with_errors(routes, errors::error_response).layer(middleware::from_fn(named))
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
    let body = state.body(request).await?;
    let body = Json::new(&body, "");
    let name = body.get("model")?.map(|name| name.text()).transpose()?;
    let model = state.model(name).await?;
    let mut config = model.defaults().clone();
    tables::apply(MESSAGE_TABLES, &body, &mut config)?;
    let limit = body.require("max_tokens")?.integer(1, u32::MAX.into())?;
    config.max_tokens = u32::try_from(limit).unwrap_or(u32::MAX);
    let is_streamed = body.get("stream")?.map_or(Ok(false), |value| value.flag())?;
    let prompt = conversation::read(&body, &model)?.prompt(&model).await?;
    let dialect = MessageDialect {
        id: ids::new("msg_"),
        request_id: id.0,
        model: model.name().to_owned(),
        max_tokens: config.max_tokens,
        usage: Usage::default(),
    };
    let streams = Streams::open(model, vec![prompt], 1, &config)?;
    respond(streams, dialect, is_streamed, state.keep_alive()).await
}

/// Counts the tokens of a conversation, as an engine would compute them.
async fn count(Shared(state): Shared<State>, request: Request) -> Result<Response, ApiError> {
    let body = state.body(request).await?;
    let body = Json::new(&body, "");
    let name = body.get("model")?.map(|name| name.text()).transpose()?;
    let model = state.model(name).await?;
    tables::apply(COUNT_TABLES, &body, &mut StreamConfig::new())?;
    let conversation = conversation::read(&body, &model)?;
    let tokens = tokens::tokens(model, conversation).await?;
    Ok(Document(json!({"input_tokens": tokens.len()})).into_response())
}
