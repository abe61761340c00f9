//! One WebSocket: a future that writes, reads and polls streams until the connection ends.
//!
//! Streams are polled only while nothing waits for the socket, so a client that does not read pauses its own streams
//! and no others. Dropping the session drops its streams.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, Sleep};

use super::answers;
use super::frame::{Decoder, Incoming, Opcode, Violation, encode, encode_close};
use super::request::{self, Message};
use super::requests::Requests;
use crate::error::ApiError;
use crate::state::State;

/// Largest message of a client.
const MESSAGE_BYTES: usize = 1 << 20;
/// Bytes of incomplete messages that a connection has for itself; more of them count for all connections together.
const OWN_BYTES: usize = 16 << 10;
/// Nothing is read while this many bytes wait for the socket.
const OUT_BYTES: usize = 16 << 10;
const READ_BYTES: usize = 8 << 10;
/// Most rounds of one poll.
const ROUNDS: usize = 32;
/// How long a connection is kept for the peer to read the last frame.
const LINGER: Duration = Duration::from_secs(2);

/// How far a connection is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The client sends nothing more; its texts are still answered.
    Finishing,
    /// The close frame is written, and the peer has until then to end the connection.
    Closing(Instant),
}

/// One connection.
pub(super) struct Session<I> {
    io: I,
    state: State,
    requests: Requests,
    phase: Phase,
    decoder: Decoder,
    /// Room for an incomplete message beyond [`OWN_BYTES`].
    held: Option<(usize, OwnedSemaphorePermit)>,
    out: Vec<u8>,
    written: usize,
    needs_flush: bool,
    is_shut: bool,
    clock: Clock,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_stopping: bool,
}

/// When something is due.
struct Clock {
    sleep: Pin<Box<Sleep>>,
    last_received: Instant,
    last_ping: Instant,
    /// When the message that is incomplete began.
    message_began: Option<Instant>,
}

impl<I: AsyncRead + AsyncWrite + Unpin> Session<I> {
    pub(super) fn new(io: I, state: State, stopping: Option<watch::Receiver<bool>>) -> Self {
        let now = Instant::now();
        let clock = Clock {
            sleep: Box::pin(tokio::time::sleep(LINGER)),
            last_received: now,
            last_ping: now,
            message_began: None,
        };
        Self {
            io,
            requests: Requests::new(state.clone()),
            phase: Phase::Open,
            decoder: Decoder::new(MESSAGE_BYTES.min(state.config().max_body_bytes)),
            held: None,
            out: Vec::new(),
            written: 0,
            needs_flush: false,
            is_shut: false,
            clock,
            stop: Box::pin(stopped(stopping)),
            is_stopping: false,
            state,
        }
    }

    /// Writes what waits; ready once all of it is with the kernel.
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out[self.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
            self.needs_flush = true;
        }
        if self.written > OUT_BYTES {
            self.out = Vec::new();
        }
        self.out.clear();
        self.written = 0;
        if self.needs_flush {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.needs_flush = false;
        }
        if matches!(self.phase, Phase::Closing(_)) && !self.is_shut {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.is_shut = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once; ready with false at the end of the connection.
    fn poll_read_in(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.out.len() - self.written >= OUT_BYTES {
            return Poll::Pending;
        }
        let mut bytes = [std::mem::MaybeUninit::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut bytes);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
        if buffer.filled().is_empty() {
            return Poll::Ready(Ok(false));
        }
        self.clock.last_received = Instant::now();
        if self.phase == Phase::Open {
            self.decoder.extend(buffer.filled());
            if let Err(violation) = self.take_messages() {
                self.close(Some(violation.code), violation.reason);
            }
        }
        Poll::Ready(Ok(true))
    }

    fn take_messages(&mut self) -> Result<(), Violation> {
        while self.phase == Phase::Open {
            match self.decoder.next()? {
                None => break,
                Some(Incoming::Ping(payload)) => encode(Opcode::Pong, &payload, &mut self.out),
                Some(Incoming::Pong) => {}
                Some(Incoming::Text(text)) => self.text(text),
                Some(Incoming::Close(code)) => self.peer_closed(code),
            }
        }
        self.hold_memory()
    }

    /// Counts the bytes of an incomplete message among those of all connections.
    fn hold_memory(&mut self) -> Result<(), Violation> {
        let held = self.decoder.held();
        self.clock.message_began = (held > 0).then(|| self.clock.message_began.unwrap_or_else(Instant::now));
        if held <= OWN_BYTES {
            self.held = None;
            return Ok(());
        }
        let counted = self.held.as_ref().map_or(0, |(bytes, _)| *bytes);
        if held > counted {
            let busy = Violation { code: 1013, reason: "other requests take the memory; try again later" };
            let more = self.state.bodies().hold(held - counted).ok_or(busy)?;
            match &mut self.held {
                Some((bytes, permit)) => {
                    permit.merge(more);
                    *bytes = held;
                }
                none => *none = Some((held, more)),
            }
        }
        Ok(())
    }

    fn text(&mut self, text: String) {
        let held = self.held.take().map(|(_, permit)| permit);
        self.clock.message_began = None;
        let result = match request::read(text) {
            Ok(Message::Generate(request)) if self.is_stopping => Err(Box::new((request.id, stops()))),
            Ok(Message::Generate(mut request)) => {
                request.held = held;
                self.requests.add(request)
            }
            Ok(Message::Cancel(id)) => {
                self.requests.cancel(&id, &mut self.out);
                Ok(())
            }
            Ok(Message::Grant(id, tokens)) => self.requests.grant(&id, tokens).map_err(|error| Box::new((id, error))),
            Err(error) => Err(error),
        };
        if let Err(refusal) = result {
            answers::error(&refusal.0, &refusal.1, &mut self.out);
        }
    }

    /// A client that gives no reason may only have come to the end of its input, as `websocat` does: texts are answered
    /// before the connection closes, as long as it stays. With a reason, or for requests that are objects, it has left.
    fn peer_closed(&mut self, code: Option<u16>) {
        self.requests.keep_texts();
        if code.is_some() || self.requests.is_empty() {
            self.close(code, "");
        } else {
            self.phase = Phase::Finishing;
        }
    }

    /// Ends all streams, and closes the connection once the close frame is written.
    fn close(&mut self, code: Option<u16>, reason: &str) {
        self.requests.clear();
        self.held = None;
        encode_close(code, reason, &mut self.out);
        self.phase = Phase::Closing(Instant::now() + LINGER);
    }

    /// Does what is due; ready if the connection must end.
    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let config = self.state.config();
        let (keep_alive, silence, message) = (config.keep_alive, config.write_timeout, config.body_timeout);
        loop {
            let clock = &self.clock;
            let due = if let Phase::Closing(end) = self.phase {
                end
            } else {
                let ping = clock.last_ping.max(clock.last_received) + keep_alive;
                let began = clock.message_began.map(|began| began + message);
                ping.min(clock.last_received + silence).min(began.unwrap_or(ping))
            };
            if clock.sleep.deadline() != due {
                self.clock.sleep.as_mut().reset(due);
            }
            ready!(self.clock.sleep.as_mut().poll(cx));
            let now = Instant::now();
            if matches!(self.phase, Phase::Closing(_)) || now >= self.clock.last_received + silence {
                return Poll::Ready(());
            }
            if self.clock.message_began.is_some_and(|began| now >= began + message) {
                self.close(Some(1008), "the message did not arrive in time");
                continue;
            }
            self.clock.last_ping = now;
            if self.out.is_empty() {
                encode(Opcode::Ping, b"", &mut self.out);
            }
        }
    }

    /// What happens once no request is left.
    fn end_if_done(&mut self) {
        if !self.requests.is_empty() {
            return;
        }
        match self.phase {
            Phase::Finishing => self.close(None, ""),
            Phase::Open if self.is_stopping => self.close(Some(1001), "the server stops"),
            _ => {}
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Future for Session<I> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        for _ in 0..ROUNDS {
            if !this.is_stopping && this.stop.as_mut().poll(cx).is_ready() {
                this.is_stopping = true;
            }
            this.end_if_done();
            let (mut has_moved, is_blocked) = match this.poll_write_out(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) => (this.requests.poll(cx, &mut this.out), false),
                Poll::Pending => (false, true),
            };
            match this.poll_read_in(cx) {
                Poll::Ready(Ok(true)) => has_moved = true,
                Poll::Ready(Ok(false) | Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            if this.poll_clock(cx).is_ready() {
                return Poll::Ready(());
            }
            // What was written into `out` just now needs another round, unless the socket takes nothing.
            if !has_moved && (is_blocked || this.out.is_empty()) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Completes when the server was asked to stop.
async fn stopped(stopping: Option<watch::Receiver<bool>>) {
    match stopping {
        // Without its sender the server is gone.
        Some(mut stopping) => drop(stopping.wait_for(|stopping| *stopping).await),
        None => std::future::pending().await,
    }
}

fn stops() -> ApiError {
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "CLOSED", "the server stops")
}
