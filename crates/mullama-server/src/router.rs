//! Which path is answered by which module.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::dialect::{RequestId, anthropic, llama_server, ollama, openai, with_errors};
use crate::error::ApiError;
use crate::guard::{self, Guard};
use crate::state::State;
use crate::websocket;
use crate::{ids, metrics, openapi, page, resume};

/// All endpoints over these models, to be served alone or mounted in a program's own router.
pub fn router(state: State) -> Router {
    let own = Router::new()
        .route("/health", get(health))
        .route("/v1/health", get(health))
        .fallback(async || ApiError::not_found("there is no such path"));
    let guard = Arc::new(Guard::new(state.config(), state.stop().clone()));
    let websocket = if state.config().websocket { websocket::routes() } else { Router::new() };
    Router::new()
        .merge(with_errors(own, openai::error_response))
        .merge(websocket)
        .merge(resume::routes())
        .merge(openai::routes())
        .merge(anthropic::routes())
        .merge(llama_server::routes())
        .merge(ollama::routes())
        .merge(with_errors(page::routes(), openai::error_response))
        .merge(with_errors(openapi::routes(), openai::error_response))
        .merge(with_errors(metrics::routes(state.config().metrics), openai::error_response))
        .layer(middleware::from_fn_with_state(state.clone(), resume::layer))
        .layer(middleware::from_fn_with_state(guard, guard::admit))
        .layer(middleware::from_fn(with_id))
        .layer(middleware::from_fn_with_state(state.clone(), metrics::observed))
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
