//! Where a server listens: an address, a Unix socket, or a socket that systemd opened.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::ServerConfig;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address; port 0 lets the system choose one.
    Tcp(String, u16),
    /// A Unix socket at this path. A socket that nobody listens on is replaced.
    Unix(PathBuf),
    /// The first socket that systemd passed (`LISTEN_FDS`).
    Systemd,
}

/// A socket that is listened on.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// `None` if another process owns the path.
        _file: Option<SocketFile>,
    },
}

/// The file of a Unix socket, which is removed in the end.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// The device and the number of the file: another server may have put its own there.
    identity: (u64, u64),
}

/// A connection that was accepted.
#[derive(Debug)]
pub(crate) enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    pub(crate) async fn bind(listen: &Listen, config: &ServerConfig) -> io::Result<Self> {
        match listen {
            Listen::Tcp(host, port) => {
                let mut refused = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
                let found = tokio::net::lookup_host((host.as_str(), *port)).await;
                for address in found.map_err(|error| explained(host, &error))? {
                    config.check_address(address)?;
                    match bind_tcp(address) {
                        Ok(listener) => return Ok(Self::Tcp(listener)),
                        Err(error) => refused = explained(&address, &error),
                    }
                }
                Err(refused)
            }
            Listen::Unix(path) => bind_unix(path, config.socket_mode).await,
            Listen::Systemd => {
                let listener = from_systemd()?;
                listener.address().map_or(Ok(()), |address| config.check_address(address))?;
                Ok(listener)
            }
        }
    }

    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Accepted::Tcp(stream)),
            Self::Unix { listener, .. } => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
        }
    }

    /// The address of a TCP socket.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix { .. } => None,
        }
    }

    /// The address as a URL.
    pub(crate) fn url(&self, has_tls: bool) -> String {
        match self {
            Self::Tcp(listener) => {
                let scheme = if has_tls { "https" } else { "http" };
                listener
                    .local_addr()
                    .map_or_else(|_| format!("{scheme}://?"), |address| format!("{scheme}://{address}"))
            }
            Self::Unix { listener, .. } => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname()).unwrap_or(Path::new("?"));
                format!("unix:{}", path.display())
            }
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // The next server replaces what is left.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

async fn bind_unix(path: &Path, mode: u32) -> io::Result<Listener> {
    remove_stale(path).await?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let bound = SockAddr::unix(path).and_then(|address| socket.bind(&address));
    bound.map_err(|error| explained(&path.display(), &error))?;
    let file = SocketFile { path: path.to_owned(), identity: identity(path)? };
    // Nobody can connect before the socket is listened on.
    std::fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)?;
    Ok(Listener::Unix { listener: UnixListener::from_std(socket.into())?, _file: Some(file) })
}

/// Removes a socket that nobody listens on, and nothing else.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is not a socket", path.display())));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{} is in use", path.display()))),
    }
}

/// An error of the system with what it is about, which the system does not say.
fn explained(what: &dyn std::fmt::Display, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {what}: {error}"))
}

fn from_systemd() -> io::Result<Listener> {
    let mut sockets = listenfd::ListenFd::from_env();
    if let Ok(Some(listener)) = sockets.take_tcp_listener(0) {
        listener.set_nonblocking(true)?;
        return TcpListener::from_std(listener).map(Listener::Tcp);
    }
    if let Ok(Some(listener)) = sockets.take_unix_listener(0) {
        listener.set_nonblocking(true)?;
        return UnixListener::from_std(listener).map(|listener| Listener::Unix { listener, _file: None });
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "systemd passed no socket (LISTEN_FDS)"))
}
