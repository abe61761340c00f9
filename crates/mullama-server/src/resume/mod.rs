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

use axum::body::Body;
use axum::extract::{Path, Request, State as Shared};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};

use crate::dialect::{RequestId, WriteError, openai, with_errors};
use crate::error::ApiError;
use crate::state::State;
use body::ReaderBody;
use log::Position;
use registry::{Credential, Inserted};
use stream::{Source, Stream};

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
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "HEAD is not supported for streams; use GET")
}

/// Makes the streamed answer of a request that asks for it resumable. It belongs to each dialect's routes, so that errors
/// have its shape, and runs after the guard.
pub(crate) async fn layer(write_error: WriteError, request: Request, next: Next) -> Response {
    let credential = match request.headers().get(RESUME).map(HeaderValue::as_bytes) {
        None | Some(b"0") => return next.run(request).await,
        Some(b"1") => Credential::of(request.headers()),
        Some(_) => return ApiError::invalid("the header x-stream-resume must be 0 or 1").into_response(),
    };
    let Some(registry) = request.extensions().get::<Arc<Registry>>().cloned() else { return next.run(request).await };
    let response = next.run(request).await;
    let is_stream = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == EVENT_STREAM);
    let is_resumed = response.headers().contains_key(STREAM_ID);
    if !is_stream || is_resumed || response.status() != StatusCode::OK {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    match registry.insert(credential, Source { body, write_error }) {
        Ok(Inserted::Stream(id, stream)) => {
            parts.headers.insert(STREAM_ID, id);
            Response::from_parts(parts, Body::new(ReaderBody::new(stream, 0, registry)))
        }
        Ok(Inserted::Full(body)) => Response::from_parts(parts, body),
        Err(error) => error.into_response(),
    }
}

/// Continues a stream after the client's latest event.
async fn resume(
    Shared(state): Shared<State>,
    Path(id): Path<String>,
    Extension(request_id): Extension<RequestId>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let stream = state.resumable().find(&id, &Credential::of(&headers)).ok_or_else(unknown)?;
    let last = match next_event(&stream, &headers) {
        Ok(Some(last)) => last,
        // What tells a browser's EventSource not to come back.
        Ok(None) => return Ok(StatusCode::NO_CONTENT.into_response()),
        Err(error) => return Ok(stream.error_response(&error, &request_id.0)),
    };
    let body = ReaderBody::new(stream, last, Arc::clone(state.resumable()));
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
        (STREAM_ID, HeaderValue::from_str(&id).map_err(|_| unknown())?),
    ];
    Ok((headers, Body::new(body)).into_response())
}

/// The event after which a client reads on; `None` if it has all of them.
fn next_event(stream: &Stream, headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let wrong = || ApiError::invalid("the header last-event-id must be the id of an event of this stream");
    let last = match headers.get(LAST_EVENT) {
        None => 0,
        Some(value) => value.to_str().ok().and_then(|value| value.parse().ok()).ok_or_else(wrong)?,
    };
    match stream.position(last) {
        Position::Kept => Ok(Some(last)),
        Position::End => Ok(None),
        Position::Future => Err(ApiError::invalid("the header last-event-id names an event that was not sent")),
        Position::Gone => {
            let message = "the events after this id are no longer kept; send the request again";
            Err(ApiError::new(StatusCode::GONE, "STREAM_GONE", message))
        }
    }
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
