//! Sockets of accepted connections: small buffers, so that a client that does not read is noticed, and ways to notice
//! one that is gone.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::fd::AsFd;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// Bytes of the kernel's send buffer; with its default a client that never reads would be sent thousands of tokens.
const SEND_BUFFER: usize = 16 << 10;
/// Bytes that may wait in the kernel for a client that is not ready for them.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNSENT: u32 = 2 << 10;
/// Silence after which a peer is probed.
const PROBE_AFTER: Duration = Duration::from_secs(15);
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// A peer that acknowledges nothing for `silence` counts as dead. Linux counts a peer without room for more bytes as one, so
/// this must be as long as a reader may pause.
pub(super) fn set_tcp_options(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY))?;
    #[cfg(any(target_os = "android", target_os = "linux"))]
    {
        socket.set_tcp_notsent_lowat(UNSENT)?;
        socket.set_tcp_user_timeout(Some(silence))?;
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
