//! A stream that can be resumed: the body of a response, its latest events, and at most one reader.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http_body::Body as _;

use super::log::{EventLog, Position};
use crate::dialect::WriteError;
use crate::error::ApiError;

/// Bytes that one stream keeps.
const STREAM_BYTES: usize = 128 << 10;
/// A piece of a body has no further event once it has this many bytes.
const PIECE_BYTES: usize = 2048;

/// The body of a dialect's answer, and how the dialect writes errors.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) body: Body,
    pub(super) write_error: WriteError,
}

/// A stream and who reads it. A new reader takes it over from the one before, whose connection may be dead.
#[derive(Debug)]
pub(super) struct Stream {
    inner: Mutex<Inner>,
    write_error: WriteError,
}

#[derive(Debug)]
struct Inner {
    /// `None` after the end.
    source: Option<Body>,
    log: EventLog,
    /// The number of the present reader: a connection, or the task that waits for one.
    reader: u64,
    waker: Option<Waker>,
    is_away: bool,
}

/// What a connection is given.
#[derive(Debug)]
pub(super) enum Piece {
    Bytes(Bytes),
    End,
    /// Another connection reads the stream now.
    TakenOver,
}

impl Stream {
    pub(super) fn new(source: Source) -> Self {
        let Source { body, write_error } = source;
        let log = EventLog::new(STREAM_BYTES);
        let inner = Inner { source: Some(body), log, reader: 0, waker: None, is_away: false };
        Self { inner: Mutex::new(inner), write_error }
    }

    /// An error as the dialect of the stream writes it.
    pub(super) fn error_response(&self, error: &ApiError, request_id: &str) -> Response {
        (self.write_error)(error, request_id)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the stream over; the number is for [`poll_piece`](Self::poll_piece).
    pub(super) fn attach(&self, is_away: bool) -> u64 {
        let mut inner = self.lock();
        inner.reader += 1;
        inner.is_away = is_away;
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
        inner.reader
    }

    /// Whether this reader has not been taken over.
    pub(super) fn is_read_by(&self, reader: u64) -> bool {
        self.lock().reader == reader
    }

    /// Whether it waits for a client, and all of it is computed.
    pub(super) fn is_left_over(&self) -> bool {
        let inner = self.lock();
        inner.is_away && inner.log.has_ended()
    }

    pub(super) fn position(&self, last: u64) -> Position {
        self.lock().log.position(last)
    }

    /// Drops the source, which frees its slot, and wakes the reader to see the end.
    pub(super) fn close(&self) {
        let (source, waker) = {
            let mut inner = self.lock();
            inner.log.end();
            (inner.source.take(), inner.waker.take())
        };
        drop(source);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next events for a connection that has those up to `last`.
    pub(super) fn poll_piece(&self, reader: u64, last: &mut u64, cx: &mut Context<'_>) -> Poll<Piece> {
        let mut inner = self.lock();
        if inner.reader != reader || inner.log.position(*last) == Position::Gone {
            return Poll::Ready(Piece::TakenOver);
        }
        let mut bytes = inner.log.next_piece(last);
        while bytes.is_empty() {
            if inner.log.has_ended() {
                return Poll::Ready(Piece::End);
            }
            match inner.poll_source(cx) {
                Poll::Pending => {
                    inner.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(comments) => {
                    bytes = inner.log.next_piece(last);
                    bytes.extend_from_slice(&comments);
                }
            }
        }
        Poll::Ready(Piece::Bytes(Bytes::from(bytes)))
    }

    /// Computes further events while nobody reads, as far as there is room; ready once another reader came or all is
    /// computed.
    pub(super) fn poll_away(&self, reader: u64, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        loop {
            if inner.reader != reader {
                return Poll::Ready(());
            }
            inner.waker = Some(cx.waker().clone());
            if !inner.log.has_room() || inner.poll_source(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Inner {
    /// Adds the next piece of the source to the log; ready with its comments.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Vec<u8>> {
        let polled = match &mut self.source {
            Some(source) => std::pin::Pin::new(source).poll_frame(cx),
            None => Poll::Ready(None),
        };
        polled.map(|frame| match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
            Some(Ok(Ok(data))) => self.log.push(&data),
            // Trailers do not occur in these bodies, and neither do errors.
            Some(Ok(Err(_))) => Vec::new(),
            Some(Err(_)) | None => {
                self.source = None;
                self.log.end();
                Vec::new()
            }
        })
    }
}

impl EventLog {
    fn next_piece(&mut self, last: &mut u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < PIECE_BYTES
            && let Some(event) = self.next(*last)
        {
            bytes.extend_from_slice(&event);
            *last += 1;
        }
        bytes
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
