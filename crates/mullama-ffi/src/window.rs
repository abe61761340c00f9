//! The window of a TCP connection, which none of our dependencies exposes.

use std::os::fd::BorrowedFd;

/// How many bytes the peer's kernel is ready to take. It shrinks by what the peer's program has not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendWindow {
    /// Bytes after those that the peer has acknowledged.
    pub bytes: u32,
    /// The window is advertised in multiples of this many bytes.
    pub unit: u32,
}

/// The window of a TCP socket as the peer advertised it last; `None` for other sockets, and where the system does not
/// expose it.
pub fn send_window(socket: BorrowedFd<'_>) -> Option<SendWindow> {
    #[cfg(any(target_os = "android", target_os = "linux"))]
    return of_tcp_info(socket);
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    {
        let _ = socket;
        None
    }
}

#[cfg(any(target_os = "android", target_os = "linux"))]
fn of_tcp_info(socket: BorrowedFd<'_>) -> Option<SendWindow> {
    use std::os::fd::AsRawFd;

    /// Bytes of the kernel's `tcp_info` up to `tcpi_snd_wnd`, its last field of interest (Linux 5.4).
    const INFO_BYTES: usize = 232;
    /// Where `tcpi_snd_wscale` is, which shares its byte with the scale of the other direction.
    const SCALES: usize = 6;

    let mut info = [0u8; INFO_BYTES];
    let mut len = libc::socklen_t::try_from(INFO_BYTES).ok()?;
    let (fd, value) = (socket.as_raw_fd(), info.as_mut_ptr().cast());
    // SAFETY: the descriptor is open as long as it is borrowed, and the kernel writes at most `len` bytes to `info`.
    let status = unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, value, &raw mut len) };
    if status != 0 || usize::try_from(len).ok()? < INFO_BYTES {
        return None;
    }
    let (_, bytes) = info.split_last_chunk()?;
    let scale = if cfg!(target_endian = "little") { info[SCALES] & 0xf } else { info[SCALES] >> 4 };
    Some(SendWindow { bytes: u32::from_ne_bytes(*bytes), unit: 1 << scale })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use super::send_window;

    #[test]
    fn the_window_of_a_peer_shrinks_while_it_reads_nothing_and_widens_when_it_does() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut peer = TcpStream::connect(listener.local_addr().expect("an address")).expect("it listens");
        let (socket, _) = listener.accept().expect("a connection");
        let window = || send_window(socket.as_fd()).expect("a TCP socket");
        let widest = window();
        assert!(widest.unit.is_power_of_two() && widest.bytes >= 16 << 10, "{widest:?}");
        let deadline = Instant::now() + Duration::from_secs(10);
        let wait = || {
            assert!(Instant::now() < deadline, "{:?}", window());
            std::thread::sleep(Duration::from_millis(1));
        };
        let mut sent = Vec::new();
        while window().bytes + (8 << 10) > widest.bytes {
            (&socket).write_all(&[0; 1024]).expect("the kernel takes it");
            sent.extend([0; 1024]);
            wait();
        }
        peer.read_exact(&mut sent).expect("it was sent");
        // The window is advertised with the next acknowledgement.
        (&socket).write_all(&[0]).expect("the kernel takes it");
        while window().bytes + (1 << 10) < widest.bytes {
            wait();
        }
    }

    #[test]
    fn other_sockets_have_no_window() {
        let (one, _other) = UnixStream::pair().expect("sockets");
        assert_eq!(send_window(one.as_fd()), None);
    }
}
