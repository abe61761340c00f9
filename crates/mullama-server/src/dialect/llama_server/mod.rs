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
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;

use super::with_errors;
use crate::error::ApiError;
use crate::state::State;

/// The routes of llama-server's API, besides those that it shares with `OpenAI`'s.
pub(crate) fn routes() -> Router<State> {
    let routes = Router::new()
        .route("/completion", post(completion::completion))
        .route("/completions", post(completion::completion))
        .route("/tokenize", post(text::tokenize))
        .route("/detokenize", post(text::detokenize))
        .route("/apply-template", post(text::apply_template))
        .route("/props", get(props::props))
        .route("/slots", get(props::slots));
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
