//! The settings of a server.

use std::path::PathBuf;
use std::time::Duration;

/// The bounds and the behaviour of a server. The defaults are safe on a machine that others can reach.
#[derive(Debug, Clone)]
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
    /// Web pages of these origins may call the server; `*` means all.
    pub allowed_origins: Vec<String>,
    /// Names by which clients may call the server, besides addresses and `localhost`; `*` means all.
    pub allowed_hosts: Vec<String>,
    /// Whether `/ws` is served.
    pub websocket: bool,
    /// Whether `/metrics` is served.
    pub metrics: bool,
    /// Whether `/slots` shows prompts.
    pub show_prompts: bool,
    /// The certificate chain and the private key, as PEM files; `None` is plain HTTP.
    pub tls: Option<TlsFiles>,
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
            max_connections: 512,
            header_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            max_body_bytes: 8 << 20,
            keep_alive: Duration::from_secs(10),
            write_timeout: Duration::from_secs(600),
            drain_timeout: Duration::from_secs(30),
            request_timeout: None,
            api_keys: Vec::new(),
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            websocket: false,
            metrics: true,
            show_prompts: false,
            tls: None,
        }
    }
}
