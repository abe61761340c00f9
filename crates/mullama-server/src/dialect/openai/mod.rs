//! `OpenAI`'s API: <https://platform.openai.com/docs/api-reference>.

mod chat;
mod chat_frames;
mod completion_frames;
mod completions;
mod document;
pub(crate) mod fields;
mod logprobs;
mod models;
mod options;
mod responses;
#[cfg(test)]
mod tests;
mod usage;

pub(crate) use logprobs::Short;
pub(crate) use usage::{ProgressBody, TimingsBody};

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use mullama::StreamConfig;
use serde::Serialize;

use super::with_errors;
use crate::error::ApiError;
use crate::generation::{Dialect, Streams, respond};
use crate::json::Json;
use crate::models::Loaded;
use crate::state::State;

/// The routes of `OpenAI`'s API.
pub(crate) fn routes() -> Router<State> {
    let routes = Router::new()
        .route("/v1/models", get(models::models))
        .route("/v1/models/{*name}", get(models::model))
        .route("/v1/chat/completions", post(chat::chat_completions))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/responses", post(responses::responses))
        .route("/v1/responses/{*path}", any(stored))
        .route("/v1/embeddings", post(embeddings))
        // llama-server answers these without a version as well.
        .route("/models", get(models::models))
        .route("/chat/completions", post(chat::chat_completions))
        .route("/responses", post(responses::responses));
    with_errors(routes, error_response)
}

/// Opens the streams of a request; also says how to write them, and whether to stream.
type Open<D> = fn(&Json<'_>, Arc<Loaded>) -> Result<(Streams, D, bool), ApiError>;

/// Answers a request for text. Its fields are read once before the model is loaded, with `read`, and once with the
/// model's defaults, in `open`; `named` gives errors the names of the endpoint's fields.
async fn answer<T: 'static, D: Dialect>(
    state: &State,
    request: Request,
    read: fn(&Json<'_>, StreamConfig) -> Result<T, ApiError>,
    open: Open<D>,
    named: fn(ApiError) -> ApiError,
) -> Result<Response, ApiError> {
    let body = state.body(request).await?.checked(state.defaults(), read).await?;
    let model = state.model(body.json().text_of("model")?).await?;
    let (streams, dialect, is_streamed) = body.read(move |body| open(body, model)).await?;
    respond(streams, dialect, is_streamed, state.keep_alive()).await.map_err(named)
}

/// What is done with responses that were stored; none is.
async fn stored(Shared(state): Shared<State>, request: Request) -> ApiError {
    // The body is read first: a connection that is closed while a client writes may lose the answer.
    drop(state.body(request).await);
    ApiError::not_found("no response is stored on this server")
}

async fn embeddings(Shared(state): Shared<State>, request: Request) -> Result<ApiError, ApiError> {
    state.body(request).await?;
    Ok(ApiError::invalid("embeddings are not supported yet"))
}

/// The error document: `{"error": {"message", "type", "param", "code", "mullama_code"}}`.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorDocument {
    error: ErrorBody,
}

#[derive(Debug, Serialize)]
struct ErrorBody {
    message: String,
    r#type: &'static str,
    param: Option<String>,
    /// The code that `OpenAI`'s clients act on where there is one, and else the server's own.
    code: &'static str,
    /// The server's own stable code.
    mullama_code: &'static str,
}

/// `OpenAI`'s code of an error, all of which have the type `invalid_request_error`.
fn known_code(code: &str) -> Option<&'static str> {
    match code {
        "CONTEXT_OVERFLOW" => Some("context_length_exceeded"),
        "MODEL_NOT_FOUND" => Some("model_not_found"),
        "INVALID_API_KEY" => Some("invalid_api_key"),
        _ => None,
    }
}

impl ErrorDocument {
    pub(crate) fn of(error: &ApiError) -> Self {
        let known = known_code(error.code);
        let r#type = match error.status.as_u16() {
            _ if known.is_some() => "invalid_request_error",
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        };
        let (message, param) = (error.message.clone(), error.field.clone());
        let code = known.unwrap_or(error.code);
        Self { error: ErrorBody { message, r#type, param, code, mullama_code: error.code } }
    }
}

/// The response of an error.
pub(crate) fn error_response(error: &ApiError, _request_id: &str) -> Response {
    (error.status, axum::Json(ErrorDocument::of(error))).into_response()
}
