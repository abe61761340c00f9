//! The body of a request, which its handler may leave unread.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;

/// What is read of a body that nobody wants, so that its client reads the answer and not an error of its socket.
const DRAINED_BYTES: usize = 8 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// A body that is lent to a handler, and read to its end afterwards where the handler did not.
#[derive(Debug, Clone)]
pub(super) struct Lent(Arc<Mutex<Body>>);

impl Lent {
    pub(super) fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(body)))
    }

    /// The body for a handler.
    pub(super) fn body(&self) -> Body {
        Body::new(self.clone())
    }

    /// Reads what is left, and has the connection close if that is too much. A client that waits to be told to send its
    /// body has not sent it, and is not asked for it.
    pub(super) async fn settle(self, request: &HeaderMap, response: &mut Response) {
        if self.is_end_stream() {
            return;
        }
        if !request.contains_key(header::EXPECT) {
            drain(self.body()).await;
        }
        if !self.is_end_stream() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}

/// Reads on for a limited time, and forgets what it reads.
pub(crate) async fn drain(mut body: Body) {
    let read = async {
        let mut left = DRAINED_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let count = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(count) else { return };
            left = rest;
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIME, read).await;
}
