//! A connection that takes bytes only as fast as its peer reads them, and fails if that takes too long.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::gate::Gate;
use super::socket::Socket;

/// Whether the bytes that are written are computed while the peer reads. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Streaming(Arc<AtomicBool>);

impl Streaming {
    pub(super) fn set(&self, is_streaming: bool) {
        self.0.store(is_streaming, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection that takes bytes only while few wait in either kernel for the peer's program.
///
/// Linux appends to the last packet of a queue without looking at the limits of the socket, up to tens of kilobytes; only
/// `poll` looks at them, so each write asks it first. Answers that are computed already are not [held back](Gate).
#[derive(Debug)]
pub(super) struct Paced<S> {
    socket: Arc<S>,
    streaming: Streaming,
    gate: Gate,
    /// How long a write may wait.
    limit: Duration,
    /// Set while a write waits.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S: Socket> Paced<S> {
    pub(super) fn new(socket: Arc<S>, gate: Gate, streaming: Streaming, limit: Duration) -> Self {
        Self { socket, streaming, gate, limit, deadline: None }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.streaming.get() && self.gate.poll_open(cx).is_pending() {
            // A client that reads slowly takes bytes too.
            if self.gate.take_has_read() {
                self.deadline = None;
            }
            return self.poll_deadline(cx);
        }
        loop {
            match self.socket.poll_writable(cx) {
                Poll::Ready(writable) => writable?,
                Poll::Pending => return self.poll_deadline(cx),
            }
            let written = self.socket.write_now(|| {
                if !is_writable(&*self.socket) {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                SockRef::from(&*self.socket).send_vectored(buffers)
            });
            match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => {
                    self.gate.sent(*written.as_ref().unwrap_or(&0));
                    self.deadline = None;
                    return Poll::Ready(written);
                }
            }
        }
    }

    fn poll_deadline<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let limit = self.limit;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Whether few enough bytes wait; a connection that has failed is writable, and the write says why.
fn is_writable(stream: &impl AsFd) -> bool {
    let mut events = [PollFd::new(stream, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut events, Some(&now)).map_or(true, |ready| ready > 0)
}

impl<S: Socket> AsyncRead for Paced<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_readable(cx))?;
            match self.socket.read_now(buffer.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl<S: Socket> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Called when all is written, as at the end of each answer: no write waits any more.
    fn poll_flush(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.deadline = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.socket).shutdown(std::net::Shutdown::Write))
    }
}
