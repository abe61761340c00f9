//! One module per dialect: the fields of its requests, and the frames of its answers.

pub(crate) mod anthropic;
pub(crate) mod blocking;
#[cfg(test)]
pub(crate) mod golden;
pub(crate) mod llama_server;
pub(crate) mod messages;
pub(crate) mod model_files;
pub(crate) mod ollama;
pub(crate) mod openai;
pub(crate) mod prompts;
#[cfg(test)]
mod request_tests;
pub(crate) mod samplers;
pub(crate) mod sampling;
pub(crate) mod time;
pub(crate) mod tokens;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};

use crate::error::ApiError;
use crate::state::State;
use crate::{guard, metrics, resume, telemetry};

/// Writes an error as one dialect does. `request_id` is the id of the response's header.
pub(crate) type WriteError = fn(&ApiError, request_id: &str) -> Response;

/// A dialect's routes, which are guarded, and whose errors are written in its own shape.
pub(crate) fn with_errors(routes: Router<State>, write: WriteError) -> Router<State> {
    let routes = routes.method_not_allowed_fallback(async |method: Method| {
        let message =
            format!("this path does not take the method {method}; the allow header lists the methods it takes");
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message)
    });
    let resumable = middleware::from_fn(move |request: Request, next: Next| resume::layer(write, request, next));
    let written = middleware::from_fn(move |request: Request, next: Next| written(write, request, next));
    routes.layer(resumable).layer(middleware::from_fn(guard::check)).layer(written)
}

async fn written(write: WriteError, request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    let mut response = next.run(request).await;
    let Some(error) = response.extensions_mut().remove::<ApiError>() else { return response };
    telemetry::refused(error.code);
    metrics::refused(error.code);
    let mut shaped = write(&error, &id);
    // What layers below have noted about the request stays noted.
    shaped.extensions_mut().extend(std::mem::take(response.extensions_mut()));
    // Headers that the error's response has already, such as `allow`, stay.
    for (name, value) in response.headers() {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            shaped.headers_mut().insert(name.clone(), value.clone());
        }
    }
    if error.status == StatusCode::UNAUTHORIZED {
        shaped.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if error.status == StatusCode::UPGRADE_REQUIRED {
        shaped.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    if let Some(seconds) = error.retry_after {
        shaped.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    shaped
}

/// The id of a request, which its response repeats in `x-request-id`.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

impl IntoResponse for ApiError {
    /// A response that carries the error; [`with_errors`] gives it the shape of its dialect.
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}
