//! Options of accepted sockets: small buffers, so that a client that does not read is noticed, and probes for dead peers.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
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
