//! Which path is answered by which dialect.

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::dialect::openai;
use crate::error::ApiError;
use crate::state::State;

/// All endpoints over these models, to be served alone or mounted in a program's own router.
pub fn router(state: State) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{*name}", get(openai::model))
        .route("/v1/chat/completions", post(openai::chat_completions))
        .layer(middleware::from_fn(write_error))
        .with_state(state)
}

/// The server answers: nothing here waits for a model.
async fn health() -> Response {
    axum::Json(serde_json::json!({"status": "ok"})).into_response()
}

/// An error on its way to the client, in the shape of the path's dialect.
async fn write_error(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let Some(error) = response.extensions_mut().remove::<ApiError>() else { return response };
    let mut written = openai::error_response(&error);
    if let Some(seconds) = error.retry_after {
        written.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    written
}

impl IntoResponse for ApiError {
    /// A response that carries the error; [`write_error`] gives it its shape.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
