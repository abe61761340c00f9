//! The body of one connection to a stream that can be resumed.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;

use super::registry::Registry;
use super::stream::{Piece, Stream};

/// How long a stream waits for its client to come back.
const KEPT: Duration = Duration::from_mins(1);

/// Reads a stream for one connection. When the connection ends, the stream waits for the next.
#[derive(Debug)]
pub(super) struct ReaderBody {
    stream: Arc<Stream>,
    registry: Arc<Registry>,
    reader: u64,
    /// The latest event that this connection has.
    last: u64,
}

impl ReaderBody {
    pub(super) fn new(stream: Arc<Stream>, last: u64, registry: Arc<Registry>) -> Self {
        let reader = stream.attach(false);
        Self { stream, registry, reader, last }
    }
}

impl http_body::Body for ReaderBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        this.stream.poll_piece(this.reader, &mut this.last, cx).map(|piece| match piece {
            Piece::Bytes(bytes) => Some(Ok(Frame::data(bytes))),
            Piece::End => None,
            // The connection is cut, so that no client takes it for the end of the answer.
            Piece::TakenOver => Some(Err(io::Error::other("another connection continues the stream"))),
        })
    }
}

impl Drop for ReaderBody {
    fn drop(&mut self) {
        if !self.stream.is_read_by(self.reader) {
            return;
        }
        let reader = self.stream.attach(true);
        let (stream, registry) = (Arc::clone(&self.stream), Arc::clone(&self.registry));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(wait(stream, registry, reader))),
            // The runtime is gone, and with it whoever could come back.
            Err(_) => stream.close(),
        }
    }
}

/// Keeps a stream for its client, which may come back, and lets it compute ahead until its memory is full.
async fn wait(stream: Arc<Stream>, registry: Arc<Registry>, reader: u64) {
    let other = poll_fn(|cx| stream.poll_away(reader, cx));
    if tokio::time::timeout(KEPT, other).await.is_err() && registry.remove_unread(&stream, reader) {
        stream.close();
    }
}
