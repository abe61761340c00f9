//! Options of accepted sockets: small buffers, so that a client that does not read is noticed, and probes for dead peers.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Bytes of the kernel's send buffer; with its default a client that never reads would be sent thousands of tokens.
const SEND_BUFFER: usize = 16 << 10;
/// Bytes that may wait in the kernel for a client that is not ready for them.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNSENT: u32 = 2 << 10;
/// Time without an acknowledgement after which a peer counts as dead.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Silence after which a peer is probed.
const PROBE_AFTER: Duration = Duration::from_secs(15);
const PROBE_EVERY: Duration = Duration::from_secs(5);

fn set_tcp_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY))?;
    #[cfg(any(target_os = "android", target_os = "linux"))]
    {
        socket.set_tcp_notsent_lowat(UNSENT)?;
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    }
    Ok(())
}

pub(super) fn set_unix_options(stream: &UnixStream) -> io::Result<()> {
    SockRef::from(stream).set_send_buffer_size(SEND_BUFFER)
}

/// A TCP connection that takes bytes only while the kernel has few that wait for the peer.
///
/// Linux appends to the last packet of a queue without looking at the limits of the socket, up to tens of kilobytes; only
/// `poll` looks at them, so each write asks it first.
#[derive(Debug)]
pub(super) struct PacedTcp(TcpStream);

impl PacedTcp {
    pub(super) fn new(stream: TcpStream) -> Self {
        // A peer that is gone already has no options.
        let _ = set_tcp_options(&stream);
        Self(stream)
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        send: impl Fn(&SockRef<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            let sent = self.0.try_io(Interest::WRITABLE, || {
                if !is_writable(&self.0) {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                send(&SockRef::from(&self.0))
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

/// Whether few enough bytes wait; a connection that has failed is writable, and the write says why.
fn is_writable(stream: &TcpStream) -> bool {
    let mut events = [PollFd::new(stream, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut events, Some(&now)).map_or(true, |ready| ready > 0)
}

impl AsyncRead for PacedTcp {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for PacedTcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, |socket| socket.send(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, |socket| socket.send_vectored(buffers))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
