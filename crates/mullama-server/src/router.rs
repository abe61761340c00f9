//! Which path is answered by which module.

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::dialect::{RequestId, openai, with_errors};
use crate::error::ApiError;
use crate::ids;
use crate::state::State;

/// All endpoints over these models, to be served alone or mounted in a program's own router.
pub fn router(state: State) -> Router {
    let own =
        Router::new().route("/health", get(health)).fallback(async || ApiError::not_found("there is no such path"));
    Router::new()
        .merge(with_errors(own, openai::error_response))
        .merge(openai::routes())
        .layer(middleware::from_fn(with_id))
        .with_state(state)
}

/// The server answers: nothing here waits for a model.
async fn health() -> Response {
    axum::Json(serde_json::json!({"status": "ok"})).into_response()
}

/// Gives each request an id.
async fn with_id(mut request: Request, next: Next) -> Response {
    let id = ids::new("req_");
    let value = HeaderValue::from_str(&id);
    request.extensions_mut().insert(RequestId(id));
    let mut response = next.run(request).await;
    if let Ok(value) = value {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
    }
    response
}
