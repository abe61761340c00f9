//! One WebSocket: a future that writes, reads and polls streams until the connection ends.
//!
//! Streams are polled only while nothing waits for the socket, so a client that does not read pauses its own streams
//! and no others. Requests that wait for a model go on meanwhile, because other clients wait behind them. Dropping the
//! session drops its streams.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Duration, Instant, Sleep};

use super::answers;
use super::frame::{Decoder, Incoming, Opcode, Violation, encode, encode_close};
use super::request::{self, Message, Refusal};
use super::requests::Requests;
use crate::json::sized;
use crate::state::State;
use crate::stop::stopping;

/// Largest message of a client.
const MESSAGE_BYTES: usize = 1 << 20;
/// Bytes of incomplete messages that a connection has for itself; more of them count for all connections together.
const OWN_BYTES: usize = 16 << 10;
/// Bytes of memory that the unfinished requests of a connection have for themselves; more of them count likewise.
const OWN_REQUEST_BYTES: usize = 64 << 10;
/// The memory of frames that were written is kept up to this size.
const OUT_BYTES: usize = 16 << 10;
/// A connection ends when this many bytes wait for it. Tokens are computed only while far fewer wait, so these answer
/// messages of a client that sends on and reads nothing. To read no further would mean not to see its end.
const MOST_OUT_BYTES: usize = 64 << 10;
const READ_BYTES: usize = 8 << 10;
/// Most rounds of one poll.
const ROUNDS: usize = 32;
/// How long a connection is kept for the peer to close it, once everything was written.
const LINGER: Duration = Duration::from_secs(2);

/// How far a connection is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The client sends nothing more; its texts are still answered.
    Finishing,
    /// The close frame is the last one. Once it is written, the peer has until then to end the connection.
    Closing(Option<Instant>),
}

/// A message that is being read.
type Reading = Pin<Box<dyn Future<Output = Result<Message, Box<Refusal>>> + Send>>;

/// One connection.
pub(super) struct Session<I> {
    io: I,
    state: State,
    requests: Requests,
    phase: Phase,
    decoder: Decoder,
    /// The present message. A large one is read on another thread, and later ones wait for it.
    reading: Option<Reading>,
    /// Room for an incomplete message beyond [`OWN_BYTES`].
    held: Option<(usize, OwnedSemaphorePermit)>,
    /// Room for its requests, up to [`OWN_REQUEST_BYTES`].
    own: Arc<Semaphore>,
    out: Vec<u8>,
    written: usize,
    needs_flush: bool,
    clock: Clock,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_stopping: bool,
}

/// When something is due.
struct Clock {
    sleep: Pin<Box<Sleep>>,
    last_received: Instant,
    /// When the socket last took bytes, or when the connection began to close.
    last_written: Instant,
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
            last_written: now,
            last_ping: now,
            message_began: None,
        };
        Self {
            io,
            requests: Requests::new(state.clone()),
            phase: Phase::Open,
            decoder: Decoder::new(MESSAGE_BYTES.min(state.config().max_body_bytes)),
            reading: None,
            held: None,
            own: Arc::new(Semaphore::new(OWN_REQUEST_BYTES)),
            out: Vec::new(),
            written: 0,
            needs_flush: false,
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
            self.clock.last_written = Instant::now();
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
        if self.phase == Phase::Closing(None) {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.phase = Phase::Closing(Some(Instant::now() + LINGER));
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once; ready with false at the end of the connection.
    fn poll_read_in(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.out.len() - self.written > MOST_OUT_BYTES {
            return Poll::Ready(Ok(false));
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
            self.take_messages();
        }
        Poll::Ready(Ok(true))
    }

    /// Takes messages up to the next one that has to be read.
    fn take_messages(&mut self) {
        if let Err(violation) = self.take_some().and_then(|()| self.hold_memory()) {
            self.close(Some(violation.code), violation.reason);
        }
    }

    fn take_some(&mut self) -> Result<(), Violation> {
        while self.phase == Phase::Open && self.reading.is_none() {
            match self.decoder.next()? {
                None => break,
                Some(Incoming::Ping(payload)) => encode(Opcode::Pong, &payload, &mut self.out),
                Some(Incoming::Pong) => {}
                Some(Incoming::Text(text)) => self.text(text),
                Some(Incoming::Close(code)) => self.peer_closed(code),
            }
        }
        Ok(())
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
        let (held, own, state) = (self.held.take(), Arc::clone(&self.own), self.state.clone());
        self.clock.message_began = None;
        let bytes = text.len();
        let read = move || {
            // From here on its bytes count with what they are parsed to.
            drop(held);
            Ok(request::read(text, |bytes| room(own, &state, bytes)))
        };
        self.reading = Some(Box::pin(async move {
            let read = sized(bytes, read).await;
            read.unwrap_or_else(|error| Err(Refusal::of(None, error)))
        }));
    }

    /// Does what a message asks for that has been read; false if there is none.
    fn poll_reading(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(reading) = &mut self.reading else { return false };
        let Poll::Ready(read) = reading.as_mut().poll(cx) else { return false };
        self.reading = None;
        self.act(read);
        self.take_messages();
        true
    }

    fn act(&mut self, read: Result<Message, Box<Refusal>>) {
        let result = match read {
            Ok(Message::Generate(request)) if self.is_stopping => Err(Refusal::of(request.id, stopping())),
            Ok(Message::Generate(request)) => self.requests.add(request),
            Ok(Message::Cancel(id)) => self.requests.cancel(&id, &mut self.out),
            Ok(Message::Grant(id, tokens)) => self.requests.grant(&id, tokens),
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = result {
            let write = if refusal.request_continues { answers::refusal } else { answers::error };
            write(&refusal.id, &refusal.error, &mut self.out);
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
        self.reading = None;
        self.held = None;
        encode_close(code, reason, &mut self.out);
        self.phase = Phase::Closing(None);
        self.clock.last_written = Instant::now();
    }

    /// Since when the client shows no sign of life. One that sends nothing more may still read.
    fn silent_since(&self) -> Instant {
        match self.phase {
            Phase::Open => self.clock.last_received,
            Phase::Finishing => self.clock.last_received.max(self.clock.last_written),
            Phase::Closing(_) => self.clock.last_written,
        }
    }

    /// Does what is due; ready if the connection must end.
    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let config = self.state.config();
        let (keep_alive, silence, message) = (config.keep_alive, config.write_timeout, config.body_timeout);
        loop {
            let (clock, silent) = (&self.clock, self.silent_since() + silence);
            let due = match self.phase {
                Phase::Closing(Some(end)) => end,
                Phase::Closing(None) => silent,
                Phase::Open | Phase::Finishing => {
                    let ping = clock.last_ping.max(clock.last_received) + keep_alive;
                    let began = clock.message_began.map(|began| began + message);
                    ping.min(silent).min(began.unwrap_or(ping))
                }
            };
            if clock.sleep.deadline() != due {
                self.clock.sleep.as_mut().reset(due);
            }
            ready!(self.clock.sleep.as_mut().poll(cx));
            let now = Instant::now();
            if matches!(self.phase, Phase::Closing(_)) || now >= silent {
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
        if !self.requests.is_empty() || self.reading.is_some() {
            return;
        }
        match self.phase {
            Phase::Finishing => self.close(None, ""),
            Phase::Open if self.is_stopping => self.close(Some(1001), "the server is stopping"),
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
                Poll::Pending => {
                    this.requests.poll_unwritten(cx);
                    (false, true)
                }
            };
            has_moved |= this.poll_reading(cx);
            if this.reading.is_none() {
                match this.poll_read_in(cx) {
                    Poll::Ready(Ok(true)) => has_moved = true,
                    Poll::Ready(Ok(false) | Err(_)) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
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

/// Memory for a request: the connection's own, or else of what all requests share.
fn room(own: Arc<Semaphore>, state: &State, bytes: usize) -> Option<OwnedSemaphorePermit> {
    let own = own.try_acquire_many_owned(u32::try_from(bytes).ok()?);
    own.ok().or_else(|| state.bodies().hold(bytes))
}

/// Completes when the server was asked to stop.
async fn stopped(stopping: Option<watch::Receiver<bool>>) {
    match stopping {
        // Without its sender the server is gone.
        Some(mut stopping) => drop(stopping.wait_for(|stopping| *stopping).await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
