//! Sockets of accepted connections: small buffers, so that a client that does not read is noticed, and ways to notice
//! one that is gone.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
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

pub(super) fn set_tcp_options(stream: &TcpStream) -> io::Result<()> {
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

/// What the sockets of all families can do.
pub(super) trait Socket: AsFd + Send + Sync + 'static {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize>;
    fn write_now(&self, write: impl FnOnce() -> io::Result<usize>) -> io::Result<usize>;
    /// Completes once the peer has closed its side, also while bytes from it are unread.
    fn closed(&self) -> impl Future<Output = ()> + Send;
}

macro_rules! socket {
    ($stream:ty) => {
        impl Socket for $stream {
            fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_read_ready(cx)
            }

            fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.poll_write_ready(cx)
            }

            fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
                self.try_read(buffer)
            }

            fn write_now(&self, write: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
                self.try_io(Interest::WRITABLE, write)
            }

            async fn closed(&self) {
                // No data is out of band here, so that only the end of the peer's side completes this.
                #[cfg(any(target_os = "android", target_os = "linux"))]
                drop(self.ready(Interest::PRIORITY).await);
                // Elsewhere the end is seen when all bytes before it are read.
                #[cfg(not(any(target_os = "android", target_os = "linux")))]
                std::future::pending::<()>().await;
            }
        }
    };
}

socket!(TcpStream);
socket!(UnixStream);

/// A connection that takes bytes only while the kernel has few that wait for the peer.
///
/// Linux appends to the last packet of a queue without looking at the limits of the socket, up to tens of kilobytes; only
/// `poll` looks at them, so each write asks it first.
#[derive(Debug)]
pub(super) struct Paced<S>(pub(super) Arc<S>);

impl<S: Socket> Paced<S> {
    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        send: impl Fn(&SockRef<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_writable(cx))?;
            let written = self.0.write_now(|| {
                if !is_writable(&*self.0) {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                send(&SockRef::from(&*self.0))
            });
            match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
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
            ready!(self.0.poll_readable(cx))?;
            match self.0.read_now(buffer.initialize_unfilled()) {
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

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.0).shutdown(std::net::Shutdown::Write))
    }
}
