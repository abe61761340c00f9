//! The settings of a server.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::telemetry::Telemetry;

/// The bounds and the behaviour of a server. The defaults are safe on a machine that others can reach.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "they are settings, each by itself")]
pub struct ServerConfig {
    /// Maximum number of open connections; the next one waits until another closes.
    pub max_connections: usize,
    /// Maximum time to the end of a request's headers, counted from the start of the connection or the end of the request
    /// before; it also ends idle connections.
    pub header_timeout: Duration,
    /// Maximum time from the end of the headers to the end of the body.
    pub body_timeout: Duration,
    /// Maximum bytes of a request's body.
    pub max_body_bytes: usize,
    /// The longest silence in a streamed answer, before a comment keeps the connection alive.
    pub keep_alive: Duration,
    /// Maximum time that a connection may take no byte of an answer that waits for it.
    pub write_timeout: Duration,
    /// Maximum time that running requests have after the server was asked to stop.
    pub drain_timeout: Duration,
    /// Maximum time of one generation; `None` is no limit.
    pub request_timeout: Option<Duration>,
    /// Clients must send one of these keys; if it is empty, no key is needed.
    pub api_keys: Vec<String>,
    /// Whether a server without keys may listen on addresses that other machines can reach.
    pub allow_no_keys: bool,
    /// The permissions of a Unix socket.
    pub socket_mode: u32,
    /// Web pages of these origins may call the server; `*` means all.
    pub allowed_origins: Vec<String>,
    /// Names by which clients may call the server, besides addresses and `localhost`; `*` means all.
    pub allowed_hosts: Vec<String>,
    /// Whether `/ws` is served.
    pub websocket: bool,
    /// Whether `/metrics` is served.
    pub metrics: bool,
    /// Whether clients may download models and remove them. Without API keys, only clients on this machine may.
    pub allow_pull: bool,
    /// The certificate chain and the private key, as PEM files; `None` is plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Where the spans of generations go; by default, none are recorded.
    pub telemetry: Telemetry,
}

/// The files of a TLS server.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate chain as PEM, the server's own certificate first.
    pub certificates: PathBuf,
    /// The private key as PEM.
    pub key: PathBuf,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            header_timeout: Duration::from_mins(1),
            body_timeout: Duration::from_mins(1),
            max_body_bytes: 8 << 20,
            keep_alive: Duration::from_secs(10),
            write_timeout: Duration::from_mins(10),
            drain_timeout: Duration::from_secs(30),
            request_timeout: None,
            api_keys: Vec::new(),
            allow_no_keys: false,
            socket_mode: 0o600,
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            websocket: false,
            metrics: true,
            allow_pull: true,
            tls: None,
            telemetry: Telemetry::default(),
        }
    }
}

impl ServerConfig {
    /// # Errors
    /// If other machines could reach this address and would need no key.
    pub(crate) fn check_address(&self, address: SocketAddr) -> io::Result<()> {
        if address.ip().to_canonical().is_loopback() || !self.api_keys.is_empty() || self.allow_no_keys {
            return Ok(());
        }
        let message = format!(
            "other machines can reach {}, so clients need an API key there; set api_keys, or allow_no_keys to let anybody \
             in, or listen on 127.0.0.1",
            address.ip()
        );
        Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
    }
}

impl std::fmt::Debug for ServerConfig {
    /// Everything but the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerConfig")
            .field("max_connections", &self.max_connections)
            .field("max_body_bytes", &self.max_body_bytes)
            .field("api_keys", &self.api_keys.len())
            .field("allowed_origins", &self.allowed_origins)
            .field("allowed_hosts", &self.allowed_hosts)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}
