//! llama-server's own API: <https://github.com/ggml-org/llama.cpp/tree/master/tools/server>.

mod completion;
pub(crate) mod fields;
mod frames;
mod options;
mod prompt;
mod props;
mod settings;
mod text;

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use serde::Serialize;

use super::with_errors;
use crate::error::ApiError;
use crate::state::State;

/// Endpoints of llama-server's that this server does not have.
const UNSUPPORTED: &[&str] = &[
    "/infill",
    "/rerank",
    "/reranking",
    "/lora-adapters",
    "/slots/{*path}",
    "/models/{*path}",
    "/completion/{*path}",
    "/tokenize/{*path}",
    "/detokenize/{*path}",
];

async fn embeddings(Shared(state): Shared<State>, request: Request) -> Result<ApiError, ApiError> {
    state.body(request).await?;
    Ok(ApiError::invalid("embeddings are not supported yet"))
}

async fn unsupported() -> ApiError {
    ApiError::not_found("this server has no such endpoint of llama-server's API")
}

/// The routes of llama-server's API, besides those that it shares with `OpenAI`'s.
pub(crate) fn routes() -> Router<State> {
    let routes = Router::new()
        .route("/completion", post(completion::completion))
        .route("/completions", post(completion::completion))
        .route("/tokenize", post(text::tokenize))
        .route("/detokenize", post(text::detokenize))
        .route("/apply-template", post(text::apply_template))
        .route("/embedding", post(embeddings))
        .route("/embeddings", post(embeddings))
        .route("/props", get(props::props))
        .route("/slots", get(props::slots));
    let routes = UNSUPPORTED.iter().fold(routes, |routes, path| routes.route(path, any(unsupported)));
    with_errors(routes, error_response)
}

/// The error document: `{"error": {"code", "message", "type"}}`.
#[derive(Debug, Serialize)]
struct ErrorDocument<'a> {
    error: ErrorBody<'a>,
}

#[derive(Debug, Serialize)]
struct ErrorBody<'a> {
    code: u16,
    message: &'a str,
    r#type: &'static str,
}

impl<'a> ErrorDocument<'a> {
    fn of(error: &'a ApiError) -> Self {
        let code = error.status.as_u16();
        let r#type = match code {
            400 if error.code == "CONTEXT_OVERFLOW" => "exceed_context_size_error",
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            429 | 503 => "unavailable_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        };
        Self { error: ErrorBody { code, message: &error.message, r#type } }
    }
}

/// The response of an error.
fn error_response(error: &ApiError, _request_id: &str) -> Response {
    (error.status, axum::Json(ErrorDocument::of(error))).into_response()
}

#[cfg(test)]
mod tests;
