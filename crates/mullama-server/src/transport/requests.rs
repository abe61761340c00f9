//! The requests of a connection that are being answered.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::watch;

/// Counts the requests of a connection from their headers to the end of their answers.
#[derive(Debug, Clone)]
pub(super) struct Requests(Arc<watch::Sender<usize>>);

impl Default for Requests {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Requests {
    /// Counts a request until this is dropped.
    pub(super) fn count(&self) -> Counted {
        self.0.send_modify(|count| *count += 1);
        Counted(Arc::clone(&self.0))
    }

    /// Completes when there has been no request for this time.
    pub(super) async fn none_for(&self, time: Duration) {
        let mut counts = self.0.subscribe();
        loop {
            // The sender lives as long as this.
            let _ = counts.wait_for(|count| *count == 0).await;
            if tokio::time::timeout(time, counts.changed()).await.is_err() {
                return;
            }
        }
    }
}

/// A request that counts.
#[derive(Debug)]
pub(super) struct Counted(Arc<watch::Sender<usize>>);

impl Counted {
    /// Counts the request until the body of its answer is dropped.
    pub(super) fn until_read(self, body: Body) -> Body {
        Body::new(CountedBody { body, _counted: self })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// The body of an answer whose request counts.
struct CountedBody {
    body: Body,
    _counted: Counted,
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
