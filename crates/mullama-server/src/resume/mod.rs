//! Streams that outlive their connection: a client that comes back within a minute continues where it was.
//!
//! Flow: a dialect's response → **event log** → connection. It works on the server-sent events of any dialect, because
//! it sees only where they end. `x-stream-resume: 1` asks for it; the response's `x-stream-id` names the stream, which
//! `GET /v1/streams/{id}` continues after the event of `Last-Event-ID`.

mod body;
mod log;
mod registry;
mod stream;

pub(crate) use registry::Registry;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State as Shared};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::dialect::{openai, with_errors};
use crate::error::ApiError;
use crate::guard;
use crate::state::State;
use body::ReaderBody;
use log::Position;
use registry::Credential;

/// Asks for a stream that can be resumed.
const RESUME: HeaderName = HeaderName::from_static("x-stream-resume");
/// Names the stream of a response.
const STREAM_ID: HeaderName = HeaderName::from_static("x-stream-id");
/// The latest event that a client has.
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
const EVENT_STREAM: &str = "text/event-stream";

/// The routes of streams that can be resumed.
pub(crate) fn routes() -> Router<State> {
    // Axum answers HEAD as GET, which would take the stream from its reader.
    let methods = get(resume).head(no_head).delete(close);
    with_errors(Router::new().route("/v1/streams/{id}", methods), openai::error_response)
}

async fn no_head() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "a stream has no HEAD; use GET to continue it")
}

/// Makes the streamed answer of a request that asks for it resumable.
pub(crate) async fn layer(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    let credential = match request.headers().get(RESUME).map(HeaderValue::as_bytes) {
        None | Some(b"0") => return next.run(request).await,
        Some(b"1") => Credential::of(request.headers()),
        Some(_) => return refused(&ApiError::invalid("the header x-stream-resume must be 0 or 1")),
    };
    let response = next.run(request).await;
    let is_stream = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == EVENT_STREAM);
    if !is_stream || response.status() != StatusCode::OK {
        return response;
    }
    let (mut parts, source) = response.into_parts();
    match state.resumable().insert(credential, source) {
        Ok((id, stream)) => {
            parts.headers.insert(STREAM_ID, id);
            Response::from_parts(parts, Body::new(ReaderBody::new(stream, 0, Arc::clone(state.resumable()))))
        }
        Err(error) => refused(&error),
    }
}

fn refused(error: &ApiError) -> Response {
    let mut response = guard::unguarded(openai::error_response(error, ""));
    if let Some(seconds) = error.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Continues a stream after the client's latest event.
async fn resume(
    Shared(state): Shared<State>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let stream = state.resumable().find(&id, &Credential::of(&headers)).ok_or_else(unknown)?;
    let last =
        match headers.get(LAST_EVENT) {
            None => 0,
            Some(value) => value.to_str().ok().and_then(|value| value.parse().ok()).ok_or_else(|| {
                ApiError::invalid("the header last-event-id must be the id of an event of this stream")
            })?,
        };
    match stream.position(last) {
        Position::Kept => {}
        // What tells a browser's EventSource not to come back.
        Position::End => return Ok(StatusCode::NO_CONTENT.into_response()),
        Position::Future => return Err(ApiError::invalid("the header last-event-id names an event that was not sent")),
        Position::Gone => {
            let message = "the events after this id are no longer kept; send the request again";
            return Err(ApiError::new(StatusCode::GONE, "STREAM_GONE", message));
        }
    }
    let body = ReaderBody::new(stream, last, Arc::clone(state.resumable()));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
        (STREAM_ID, HeaderValue::from_str(&id).map_err(|_| unknown())?),
    ];
    Ok((headers, Body::new(body)).into_response())
}

/// Ends a stream at once, for a client that will not come back.
async fn close(Shared(state): Shared<State>, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    let stream = state.resumable().find(&id, &Credential::of(&headers)).ok_or_else(unknown)?;
    state.resumable().remove(&id);
    stream.close();
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn unknown() -> ApiError {
    ApiError::not_found("there is no such stream; streams are kept for a minute after their client has left")
}
