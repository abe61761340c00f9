//! Ollama's API: <https://docs.ollama.com/api>.

mod answers;
pub(crate) mod fields;
mod frames;
mod inventory;
mod keep_alive;
mod logprobs;
mod pull;
mod request;

#[cfg(test)]
mod tests;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, delete, get, post};
use serde_json::json;

use self::frames::ErrorDocument;
use super::with_errors;
use crate::error::ApiError;
use crate::state::State;

/// The version of Ollama's API that these endpoints follow: clients refuse servers that they think too old.
const API_VERSION: &str = "0.12.6";

/// The routes of Ollama's API.
pub(crate) fn routes() -> Router<State> {
    let routes = Router::new()
        .route("/api/generate", post(answers::generate))
        .route("/api/chat", post(answers::chat))
        .route("/api/tags", get(inventory::tags))
        .route("/api/show", post(inventory::show))
        .route("/api/ps", get(inventory::ps))
        .route("/api/version", get(version))
        .route("/api/pull", post(pull::pull))
        .route("/api/delete", delete(pull::delete))
        .route("/api/embed", post(embed))
        .route("/api/embeddings", post(embed))
        .route("/api", any(unknown))
        .route("/api/", any(unknown))
        .route("/api/{*path}", any(unknown));
    // Clients also ask for the head of `/`, which is the page's.
    with_errors(routes, error_response)
}

async fn version() -> Response {
    axum::Json(json!({"version": API_VERSION, "mullama": env!("CARGO_PKG_VERSION")})).into_response()
}

async fn embed() -> ApiError {
    ApiError::invalid("embeddings are not supported yet")
}

async fn unknown() -> ApiError {
    ApiError::not_found("this server has no such endpoint of Ollama's API")
}

/// The response of an error: `{"error": message}`.
fn error_response(error: &ApiError, _request_id: &str) -> Response {
    (error.status, axum::Json(ErrorDocument { error: &error.message })).into_response()
}
