//! The accept loop: a bounded number of connections, and an orderly end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::connection::{self, Shared};
use super::listen::Listener;
use super::unread::SocketDiag;
use crate::router::router;
use crate::state::State;
use crate::stop::Phase;

/// How long the loop rests when the system has no descriptors or memory for another connection.
const REST: Duration = Duration::from_millis(50);

/// How long streams that the server ends have to tell their clients.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Accepts connections until `stopping` turns true, then waits for the running requests, at most for the drain timeout.
/// Streams that still run then end with an error.
pub(crate) async fn accept_all(
    listener: Listener,
    tls: Option<TlsAcceptor>,
    state: &State,
    stopping: watch::Receiver<bool>,
) {
    let (config, router) = (state.config(), router(state.clone()));
    let shared = Shared {
        header_timeout: config.header_timeout,
        write_timeout: config.write_timeout,
        diag: SocketDiag::open().map(Arc::new),
    };
    let open = Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS)));
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!({
        let mut stopping = stopping.clone();
        async move {
            // The sender lives as long as the server; without it the server ends too.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        }
    });
    let mut is_short = false;
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
                is_short = false;
                let served = connection::serve(accepted, tls.clone(), router.clone(), shared.clone(), stopping.clone());
                let open = state.models().metrics().connection();
                connections.spawn(async move {
                    served.await;
                    drop(open);
                    drop(permit);
                });
            }
            Err(error) if is_of_one_peer(&error) => {}
            Err(error) => {
                if !std::mem::replace(&mut is_short, true) {
                    tracing::warn!("no connection can be accepted now: {error}");
                }
                tokio::time::sleep(REST).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    if !drain(&mut connections, config.drain_timeout).await {
        tracing::warn!("{} connections are closed before their requests have ended", connections.len());
        state.stop().set(Phase::Ending);
        drain(&mut connections, LAST_WORDS).await;
    }
    // Dropping the rest closes the connections, which frees their streams.
    connections.shutdown().await;
}

/// Waits until all connections have ended, and returns whether they have.
async fn drain(connections: &mut JoinSet<()>, limit: Duration) -> bool {
    let drained = async { while connections.join_next().await.is_some() {} };
    tokio::time::timeout(limit, drained).await.is_ok()
}

/// Whether an error of `accept` concerns only the peer that is gone again.
fn is_of_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
