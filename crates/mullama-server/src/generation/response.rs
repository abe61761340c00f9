//! The response of a request: a whole document, or a body that is computed while the client reads it.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body::Frame;
use tokio::time::{Instant, Sleep};

use super::Dialect;
use super::answer::collect;
use super::event::Event;
use super::frames::Frames;
use super::prefill::{self, PrefillReport};
use super::streams::Streams;
use crate::error::ApiError;

/// Most events that one piece of a body holds. A client that keeps up gets each by itself.
const EVENTS_AT_ONCE: usize = 16;
/// A piece of a body has no further event once it has this many bytes.
const PIECE_BYTES: usize = 2048;

/// How long a connection may be silent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeepAlive(pub(crate) Duration);

/// The answer of `streams`, in this dialect: all at once, or streamed.
pub(crate) async fn respond(
    mut streams: Streams,
    mut dialect: impl Dialect,
    is_streamed: bool,
    keep_alive: KeepAlive,
) -> Result<Response, ApiError> {
    let model = std::sync::Arc::clone(streams.model());
    streams.describe(dialect.id(), is_streamed);
    if !is_streamed {
        let count = streams.count();
        let answers = collect(streams, count).await.map_err(|error| model.refused(error))?;
        return Ok(axum::Json(dialect.whole(&answers)).into_response());
    }
    let report = dialect.tells_prefill().then(|| PrefillReport::new(streams.count()));
    let patience = if report.is_some() { prefill::INTERVAL } else { keep_alive.0 };
    // A request that fails before its first token gets a status of its own, not an error inside a stream.
    let first = tokio::time::timeout(patience, poll_fn(|cx| streams.poll_event(cx))).await;
    let first = match first {
        Ok(Some(Event::Failed { error })) => return Err(model.refused(error)),
        Ok(first) => first,
        Err(_) => None,
    };
    let mut frames = Frames::default();
    dialect.used(&streams.progress());
    dialect.start(&mut frames);
    let content_type = HeaderValue::from_static(dialect.content_type());
    let mut body = StreamedBody {
        streams,
        dialect,
        frames,
        report,
        keep_alive: keep_alive.0,
        last_written: Instant::now(),
        silence: Box::pin(tokio::time::sleep(patience)),
        has_ended: false,
    };
    if let Some(event) = first {
        body.write(&event);
    }
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        // nginx would otherwise collect a response before it passes it on.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, Body::new(body)).into_response())
}

/// A body whose pieces are computed when the connection asks for them: a client that does not read pauses its streams.
struct StreamedBody<D> {
    streams: Streams,
    dialect: D,
    frames: Frames,
    /// For a client that wants to be told how far its prompts are computed, until they are.
    report: Option<PrefillReport>,
    keep_alive: Duration,
    last_written: Instant,
    /// Fires when the silence may be too long. It is not set again for each piece: it looks when the last one was.
    silence: Pin<Box<Sleep>>,
    has_ended: bool,
}

impl<D: Dialect> StreamedBody<D> {
    /// Writes the events that are ready into frames, up to the size of one piece. Returns whether the streams have
    /// nothing more at present, and wake the task when they have.
    fn fill(&mut self, cx: &mut Context<'_>) -> bool {
        for _ in 0..EVENTS_AT_ONCE {
            if self.has_ended || self.frames.len() >= PIECE_BYTES {
                return false;
            }
            match self.streams.poll_event(cx) {
                Poll::Pending => return true,
                Poll::Ready(None) => {
                    self.dialect.finish(&mut self.frames);
                    self.has_ended = true;
                }
                Poll::Ready(Some(Event::Failed { error })) => {
                    let error = self.streams.model().refused(error);
                    self.dialect.failed(&error, &mut self.frames);
                    self.has_ended = true;
                }
                Poll::Ready(Some(event)) => self.write(&event),
            }
        }
        false
    }

    /// Writes an event of a choice.
    fn write(&mut self, event: &Event) {
        if let (Some(report), Event::Token { choice, .. } | Event::End { choice, .. }) = (&mut self.report, event) {
            report.end(*choice, &self.streams, &mut self.dialect, &mut self.frames);
            self.report.take_if(|report| !report.goes_on());
        }
        self.dialect.event(event, &mut self.frames);
    }

    /// Breaks a silence that is too long for proxies and clients, and tells how far the prompts are computed.
    fn poll_silence(&mut self, cx: &mut Context<'_>) {
        while self.frames.is_empty() && !self.has_ended && self.silence.as_mut().poll(cx).is_ready() {
            if let Some(report) = &mut self.report {
                report.tell(&self.streams, &mut self.dialect, &mut self.frames);
            }
            let now = Instant::now();
            if self.frames.is_empty() && now >= self.last_written + self.keep_alive {
                self.dialect.keep_alive(&mut self.frames);
            }
            let written = if self.frames.is_empty() { self.last_written } else { now };
            let next = if self.report.is_some() { now + prefill::INTERVAL } else { written + self.keep_alive };
            self.silence.as_mut().reset(next);
        }
    }
}

impl<D: Dialect> http_body::Body for StreamedBody<D> {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let is_pending = !this.frames.is_empty() || this.fill(cx);
        if this.frames.is_empty() {
            this.poll_silence(cx);
        }
        if !this.frames.is_empty() {
            this.last_written = Instant::now();
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from(this.frames.take())))));
        }
        if this.has_ended {
            return Poll::Ready(None);
        }
        if !is_pending {
            // All events so far wrote nothing, such as tokens without text, and further ones may be ready.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
