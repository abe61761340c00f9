//! Which path is answered by which module.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderName, HeaderValue, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Extension, Router};

use crate::dialect::{RequestId, anthropic, llama_server, ollama, openai, with_errors};
use crate::error::ApiError;
use crate::guard::{self, Guard};
use crate::state::State;
use crate::{ids, metrics, openapi, page, resume, telemetry, websocket};

/// All endpoints over these models, to be served alone or mounted in a program's own router.
///
/// A mounted router does not know where its requests come from, so it takes the names of hosts as strictly as for clients
/// on this machine: besides addresses and `localhost`, the names by which clients call the program belong in
/// [`allowed_hosts`](crate::ServerConfig::allowed_hosts). The settings of connections, such as
/// [`max_connections`](crate::ServerConfig::max_connections) and [`tls`](crate::ServerConfig::tls), have no effect there.
pub fn router(state: State) -> Router {
    let own = Router::new()
        .route("/health", get(health))
        .route("/v1/health", get(health))
        .fallback(async || ApiError::not_found("there is no such path"));
    let own = if state.config().websocket { own } else { own.route("/ws", any(without_websocket)) };
    let guard = Arc::new(Guard::new(state.config(), state.stop().clone()));
    let websocket = if state.config().websocket { websocket::routes() } else { Router::new() };
    let all = Router::new()
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
        .layer(Extension(Arc::clone(state.resumable())))
        .layer(middleware::from_fn_with_state(guard, guard::admit))
        .layer(middleware::from_fn(with_id))
        .layer(middleware::from_fn_with_state(state.clone(), metrics::observed));
    let all = telemetry::layer(all, &state).with_state(state);
    // A layer sees requests before their paths are matched only around a router that matches none itself.
    Router::new().fallback_service(all).layer(middleware::from_fn(without_slash))
}

/// Takes slashes off the end of the path: clients that join an address and a path may write one there.
async fn without_slash(mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let kept = path.trim_end_matches('/').len().max(1);
    if kept < path.len() {
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = PathAndQuery::try_from(format!("{}{query}", &path[..kept])).ok();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    next.run(request).await
}

/// The server answers: nothing here waits for a model.
async fn health() -> Response {
    axum::Json(serde_json::json!({"status": "ok"})).into_response()
}

async fn without_websocket() -> ApiError {
    ApiError::not_found("the WebSocket is turned off on this server; start it with --websocket to turn it on")
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
