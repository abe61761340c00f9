//! Every request: counted when it is answered, and written to the log when its answer ends.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State as Shared};
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::trim;
use crate::logging::{Access, Outcome};
use crate::state::State;

tokio::task_local! {
    static TALLY: Arc<Tally>;
}

/// The tokens that one request has generated, and the code of its first error.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    tokens: AtomicU64,
    error: OnceLock<&'static str>,
}

impl Tally {
    /// The tally of the request that the current task handles.
    pub(super) fn of_this_request() -> Option<Arc<Self>> {
        TALLY.try_with(Arc::clone).ok()
    }

    pub(super) fn add(&self, tokens: u64) {
        self.tokens.fetch_add(tokens, Ordering::Relaxed);
    }

    pub(super) fn fail(&self, code: &'static str) {
        let _ = self.error.set(code);
    }
}

/// The request that the current task handles is answered with an error.
pub(crate) fn refused(code: &'static str) {
    if let Some(tally) = Tally::of_this_request() {
        tally.fail(code);
    }
}

/// Bodies of requests from this size on leave the heap with much that is free.
const LARGE_BODY: u64 = 1 << 20;

/// Methods outside of this list count as one, so that clients cannot make labels.
const METHODS: &[&str] = &["GET", "POST", "HEAD", "DELETE", "OPTIONS", "PUT", "PATCH"];

/// Counts a request by its route, and logs it when the last byte of its answer is written or the client has left.
pub(crate) async fn observed(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let known = METHODS.iter().find(|method| **method == request.method().as_str());
    let method = known.copied().unwrap_or("other");
    // The id of a stream is what lets a client read it.
    let has_id = |route: &&String| route.ends_with("/{id}");
    let path = route.as_ref().filter(has_id).cloned().unwrap_or_else(|| request.uri().path().to_owned());
    let read = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&read);
    let request = request.map(|body| Body::new(CountedBody { body, read: counted }));
    let tally = Arc::new(Tally::default());
    let response = TALLY.scope(Arc::clone(&tally), next.run(request)).await;
    let status = response.status().as_u16();
    state.models().metrics().count_request(route.as_deref().unwrap_or("other"), method, status);
    let request_id = response.headers().get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let line = Line { access: Access { method, path, status, request_id }, started, tally, has_ended: false, read };
    response.map(|body| Body::new(ObservedBody { body, line }))
}

/// A line of the log that is written when it is dropped.
struct Line {
    access: Access,
    started: Instant,
    tally: Arc<Tally>,
    /// Whether the answer was written to its end.
    has_ended: bool,
    /// The bytes of the request's body that were read.
    read: Arc<AtomicU64>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.access.log(Outcome {
            took: self.started.elapsed(),
            tokens: self.tally.tokens.load(Ordering::Relaxed),
            has_ended: self.has_ended,
            error: self.tally.error.get().copied(),
        });
        if self.read.load(Ordering::Relaxed) >= LARGE_BODY {
            trim::soon();
        }
    }
}

/// The body of a request, whose bytes are counted as they are read.
struct CountedBody {
    body: Body,
    read: Arc<AtomicU64>,
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            this.read.fetch_add(frame.data_ref().map_or(0, Bytes::len) as u64, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, with the line that is logged at its end.
struct ObservedBody {
    /// Dropped before the line is, with the last of what the request has kept in memory.
    body: Body,
    line: Line,
}

impl Drop for ObservedBody {
    fn drop(&mut self) {
        // A body of known length is not polled again after its last byte, and an empty one never.
        self.line.has_ended |= self.body.is_end_stream();
    }
}

impl HttpBody for ObservedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        this.line.has_ended |= matches!(polled, Poll::Ready(None));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use axum::body::{Body, Bytes};
    use futures_util::stream;
    use http_body_util::BodyExt;

    use super::CountedBody;

    #[tokio::test]
    async fn the_bytes_of_a_body_of_unknown_length_are_counted_as_they_are_read() {
        let pieces = stream::iter(["a", "bcd"].map(|piece| Ok::<_, axum::Error>(Bytes::from(piece))));
        let read = Arc::new(AtomicU64::new(0));
        let mut body = CountedBody { body: Body::from_stream(pieces), read: Arc::clone(&read) };
        for bytes in [0, 1, 4] {
            assert_eq!(read.load(Ordering::Relaxed), bytes);
            drop(body.frame().await);
        }
        assert_eq!(read.load(Ordering::Relaxed), 4);
    }
}
