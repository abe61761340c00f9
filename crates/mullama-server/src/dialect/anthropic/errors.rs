//! Anthropic's errors: `{"type": "error", "error": {"type", "message"}, "request_id"}`.

use std::borrow::Cow;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::error::ApiError;

/// An error document, which is also the data of an error event.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorDocument<'a> {
    r#type: &'static str,
    error: ErrorBody<'a>,
    request_id: &'a str,
}

#[derive(Debug, Serialize)]
struct ErrorBody<'a> {
    r#type: &'static str,
    message: Cow<'a, str>,
}

impl<'a> ErrorDocument<'a> {
    pub(crate) fn of(error: &'a ApiError, request_id: &'a str) -> Self {
        let message = match error.overflow {
            // Clients find these words and numbers, and shorten the conversation.
            Some((tokens, most)) => format!("prompt is too long: {tokens} tokens > {most} maximum").into(),
            None => Cow::Borrowed(error.message.as_str()),
        };
        let body = ErrorBody { r#type: error_type(error.status), message };
        Self { r#type: "error", error: body, request_id }
    }
}

/// The type of an error as Anthropic names it.
const fn error_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        503 | 529 => "overloaded_error",
        _ => "api_error",
    }
}

/// The response of an error.
pub(crate) fn error_response(error: &ApiError, request_id: &str) -> Response {
    (error.status, axum::Json(ErrorDocument::of(error, request_id))).into_response()
}
