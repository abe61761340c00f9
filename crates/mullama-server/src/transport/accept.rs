//! The accept loop: a bounded number of connections, and an orderly end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::connection::{self, Limits};
use super::listen::Listener;
use crate::config::ServerConfig;

/// How long the loop rests when the system has no descriptors or memory for another connection.
const REST: Duration = Duration::from_millis(50);

/// Accepts connections until `stopping` turns true, then waits for the running requests, at most for the drain timeout.
pub(crate) async fn accept_all(
    listener: Listener,
    tls: Option<TlsAcceptor>,
    router: Router,
    config: &ServerConfig,
    mut stopping: watch::Receiver<bool>,
) {
    let limits = Limits { header_timeout: config.header_timeout, write_timeout: config.write_timeout };
    let open = Arc::new(Semaphore::new(config.max_connections));
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!({
        let mut stopping = stopping.clone();
        async move {
            // The sender lives as long as the server; without it the server ends too.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        }
    });
    loop {
        let permit = tokio::select! {
            () = &mut stop => break,
            permit = Arc::clone(&open).acquire_owned() => permit,
        };
        let Ok(permit) = permit else { break };
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => {
                let served = connection::serve(accepted, tls.clone(), router.clone(), limits.clone(), stopping.clone());
                connections.spawn(async move {
                    served.await;
                    drop(permit);
                });
            }
            Err(error) if is_of_one_peer(&error) => {}
            Err(error) => {
                tracing::warn!("no connection can be accepted now: {error}");
                tokio::time::sleep(REST).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    stopping.mark_unchanged();
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(config.drain_timeout, drained).await.is_err() {
        tracing::warn!("{} connections are closed before their requests have ended", connections.len());
    }
    // Dropping the rest closes the connections, which frees their streams.
    connections.shutdown().await;
}

/// Whether an error of `accept` concerns only the peer that is gone again.
fn is_of_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
