//! A server that listens: binds, serves, and stops in order.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

pub use crate::transport::Listen;

use crate::state::State;
use crate::stop::Phase;
use crate::transport::{self, Listener};

/// A server that is bound to its socket and not yet serving.
pub struct Server {
    listener: Listener,
    tls: Option<TlsAcceptor>,
    state: State,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl Server {
    /// Binds the socket, so that its errors come before any model is loaded.
    ///
    /// # Errors
    /// What the system answers to the address, what is wrong with the files of TLS, and settings that would let anybody
    /// in: an address beyond this machine needs API keys.
    pub async fn bind(listen: &Listen, state: State) -> io::Result<Self> {
        if matches!(listen, Listen::Unix(_)) && state.config().tls.is_some() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a Unix socket is served without TLS; remove the certificate",
            ));
        }
        let tls = state.config().tls.as_ref().map(transport::acceptor).transpose()?;
        Ok(Self { listener: Listener::bind(listen, state.config()).await?, tls, state })
    }

    /// The address of a TCP socket, with the port that the system chose.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.address()
    }

    /// The address as a URL; `unix:` and the path for a Unix socket.
    pub fn url(&self) -> String {
        self.listener.url(self.tls.is_some())
    }

    /// Serves until `shutdown` completes; then running requests may end, at most for the drain timeout, after which
    /// their streams end with an error. Dropping the future closes everything at once.
    /// An error of one connection ends that connection.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, tls, state } = self;
        let _ending = EndsResumable(state.clone());
        let (stop, stopping) = watch::channel(false);
        state.stop().set(Phase::Serving);
        let accept = transport::accept_all(listener, tls, &state, stopping);
        let mut accept = std::pin::pin!(accept);
        tokio::select! {
            () = accept.as_mut() => return,
            () = shutdown => {}
        }
        state.stop().set(Phase::Draining);
        stop.send_replace(true);
        accept.await;
        state.config().telemetry.flush().await;
    }
}

/// Ends the streams that wait for clients to come back, however the server ends.
struct EndsResumable(State);

impl Drop for EndsResumable {
    fn drop(&mut self) {
        self.0.resumable().clear();
    }
}
