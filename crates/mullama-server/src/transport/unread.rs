//! How many bytes the program at the other end of a connection has not read, where that program runs on this machine.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Asks Linux about the TCP sockets of this network namespace, through `NETLINK_SOCK_DIAG` as `ss` does (`sock_diag(7)`).
/// It needs no privileges.
#[derive(Debug)]
pub(super) struct SocketDiag {
    #[cfg(any(target_os = "android", target_os = "linux"))]
    netlink: std::sync::Mutex<netlink::Netlink>,
}

impl SocketDiag {
    /// `None` on systems that do not tell.
    pub(super) fn open() -> Option<Self> {
        #[cfg(any(target_os = "android", target_os = "linux"))]
        return netlink::Netlink::open().ok().map(|netlink| Self { netlink: netlink.into() });
        #[cfg(not(any(target_os = "android", target_os = "linux")))]
        return None;
    }

    /// Bytes that wait in the receive queue of the socket with these addresses.
    #[cfg(any(target_os = "android", target_os = "linux"))]
    fn unread(&self, socket: SocketAddr, peer: SocketAddr) -> io::Result<usize> {
        self.netlink.lock().unwrap_or_else(std::sync::PoisonError::into_inner).unread(socket, peer)
    }

    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    fn unread(&self, _: SocketAddr, _: SocketAddr) -> io::Result<usize> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// The receive queue of a connection's peer.
#[derive(Debug)]
pub(super) struct PeerQueue {
    diag: Arc<SocketDiag>,
    ours: SocketAddr,
    peer: SocketAddr,
}

impl PeerQueue {
    pub(super) fn new(diag: Arc<SocketDiag>, ours: SocketAddr, peer: SocketAddr) -> Self {
        // An IPv4 client of a socket that listens on both has a socket of IPv4.
        let canonical = |address: SocketAddr| match address.ip().to_canonical() {
            ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
            IpAddr::V6(_) => address,
        };
        Self { diag, ours: canonical(ours), peer: canonical(peer) }
    }

    /// Bytes that the peer's program has not read.
    ///
    /// # Errors
    ///
    /// `NotFound` if its socket is not in this network namespace; others if the kernel cannot answer now.
    pub(super) fn unread(&self) -> io::Result<usize> {
        self.diag.unread(self.peer, self.ours)
    }
}

#[cfg(any(target_os = "android", target_os = "linux"))]
mod netlink {
    use std::io::{self, Read, Write};
    use std::net::{IpAddr, SocketAddr};

    use socket2::{Domain, Protocol, Socket, Type};

    const AF_NETLINK: i32 = 16;
    const NETLINK_SOCK_DIAG: i32 = 4;
    /// The type of requests and of their answers.
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    const TCP_LISTEN: u8 = 10;
    /// Bytes of `struct nlmsghdr`.
    const HEADER: usize = 16;
    /// Bytes of `struct inet_diag_req_v2`.
    const REQUEST: usize = 56;
    /// Where `struct inet_diag_msg` has the state of a socket and the bytes that wait in its receive queue.
    const STATE: usize = HEADER + 1;
    const RECEIVE_QUEUE: usize = HEADER + 56;

    /// A socket to the kernel. Answers are there when a request has been written.
    #[derive(Debug)]
    pub(super) struct Netlink {
        socket: Socket,
        sequence: u32,
    }

    impl Netlink {
        pub(super) fn open() -> io::Result<Self> {
            let protocol = Protocol::from(NETLINK_SOCK_DIAG);
            let socket = Socket::new(Domain::from(AF_NETLINK), Type::DGRAM, Some(protocol))?;
            socket.set_nonblocking(true)?;
            Ok(Self { socket, sequence: 0 })
        }

        pub(super) fn unread(&mut self, socket: SocketAddr, peer: SocketAddr) -> io::Result<usize> {
            self.sequence = self.sequence.wrapping_add(1);
            (&self.socket).write_all(&request(self.sequence, socket, peer))?;
            let mut answer = [0; 512];
            // An answer to an earlier request, whose reading failed, may come first.
            while {
                let length = (&self.socket).read(&mut answer)?;
                answer[length..].fill(0);
                answer[8..12] != self.sequence.to_ne_bytes()
            } {}
            let is_found = answer[4..6] == SOCK_DIAG_BY_FAMILY.to_ne_bytes();
            // The kernel answers with a listener where nothing is connected.
            if !is_found || answer[STATE] == TCP_LISTEN {
                return Err(io::ErrorKind::NotFound.into());
            }
            let bytes = answer[RECEIVE_QUEUE..].first_chunk().copied().map_or(0, u32::from_ne_bytes);
            Ok(bytes as usize)
        }
    }

    fn request(sequence: u32, socket: SocketAddr, peer: SocketAddr) -> Vec<u8> {
        /// Matches sockets in any state, and with any cookie.
        const ANY: [u8; 4] = [0xff; 4];
        // An address of a single link belongs to an interface.
        let interface = if let SocketAddr::V6(address) = socket { address.scope_id() } else { 0 };
        let length = u32::try_from(HEADER + REQUEST).unwrap_or(u32::MAX);
        let (family, tcp) = (if socket.is_ipv4() { 2 } else { 10 }, 6);
        let mut bytes = Vec::with_capacity(HEADER + REQUEST);
        bytes.extend(length.to_ne_bytes());
        bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        bytes.extend(NLM_F_REQUEST.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend([family, tcp, 0, 0]);
        bytes.extend(ANY);
        bytes.extend(socket.port().to_be_bytes());
        bytes.extend(peer.port().to_be_bytes());
        for address in [socket, peer] {
            let mut field = [0; 16];
            match address.ip() {
                IpAddr::V4(ip) => field[..4].copy_from_slice(&ip.octets()),
                IpAddr::V6(ip) => field = ip.octets(),
            }
            bytes.extend(field);
        }
        bytes.extend(interface.to_ne_bytes());
        bytes.extend([ANY, ANY].concat());
        bytes
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::{PeerQueue, SocketDiag};

    fn queue(ours: SocketAddr, peer: SocketAddr) -> PeerQueue {
        PeerQueue::new(Arc::new(SocketDiag::open().expect("Linux tells")), ours, peer)
    }

    #[test]
    fn the_unread_bytes_of_a_peer_on_this_machine_are_known() {
        for (listening, connecting) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1"), ("::", "::1")]
        {
            let listener = match TcpListener::bind((listening, 0)) {
                Ok(listener) => listener,
                // A machine may have IPv4 alone.
                Err(error) => {
                    assert!(listening.contains(':'), "{error}");
                    continue;
                }
            };
            let port = listener.local_addr().expect("an address").port();
            let mut peer = TcpStream::connect((connecting, port)).expect("it accepts");
            let (mut ours, address) = listener.accept().expect("a connection");
            let queue = queue(ours.local_addr().expect("an address"), address);
            for (sent, read) in [(0, 0), (1000, 0), (20_000, 500), (0, 20_500)] {
                let before = queue.unread().expect("the peer is on this machine");
                ours.write_all(&vec![b'x'; sent]).expect("it is sent");
                peer.read_exact(&mut vec![0; read]).expect("it arrives");
                let deadline = Instant::now() + Duration::from_secs(10);
                while queue.unread().expect("it still is") != before + sent - read {
                    assert!(Instant::now() < deadline, "{:?} of {}", queue.unread(), before + sent - read);
                }
            }
        }
    }

    #[test]
    fn a_socket_that_is_not_on_this_machine_or_only_listens_is_unknown() {
        let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let ours = SocketAddr::from(([127, 0, 0, 1], 1));
        for peer in [([127, 0, 0, 1], port), ([192, 0, 2, 1], 40_000)] {
            let unread = queue(ours, SocketAddr::from(peer)).unread();
            assert_eq!(unread.map_err(|error| error.kind()), Err(ErrorKind::NotFound), "{peer:?}");
        }
    }
}
