//! A server that listens: binds, serves, and stops in order.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

pub use crate::transport::Listen;

use crate::router::router;
use crate::state::State;
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
    /// What the system answers to the address, and what is wrong with the files of TLS.
    pub async fn bind(listen: &Listen, state: State) -> io::Result<Self> {
        let tls = state.config().tls.as_ref().map(transport::acceptor).transpose()?;
        Ok(Self { listener: Listener::bind(listen).await?, tls, state })
    }

    /// The address of a TCP socket, with the port that the system chose.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.address()
    }

    /// The address as a URL; `unix:` and the path for a Unix socket.
    pub fn url(&self) -> String {
        self.listener.url(self.tls.is_some())
    }

    /// Serves until `shutdown` completes; then running requests may end, at most for the drain timeout. Dropping the
    /// future closes everything at once.
    ///
    /// # Errors
    /// None at present; an error of one connection ends that connection.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let Self { listener, tls, state } = self;
        let (stop, stopping) = watch::channel(false);
        let accept = transport::accept_all(listener, tls, router(state.clone()), state.config(), stopping);
        let mut accept = std::pin::pin!(accept);
        tokio::select! {
            () = accept.as_mut() => return Ok(()),
            () = shutdown => {}
        }
        stop.send_replace(true);
        accept.await;
        Ok(())
    }
}
