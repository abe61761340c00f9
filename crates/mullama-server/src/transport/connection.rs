//! One connection: HTTP/1.1 with limits.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::listen::Accepted;
use super::socket;
use super::timed_io::TimedIo;

/// Most bytes that wait in the process for one connection: hyper's minimum.
const BUFFER_BYTES: usize = 8 << 10;
/// Maximum time of a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What connections share.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub(super) header_timeout: Duration,
    pub(super) write_timeout: Duration,
}

/// Serves a connection until it closes, or until `stopping` says that its current request is the last.
pub(super) async fn serve(
    accepted: Accepted,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: Limits,
    stopping: watch::Receiver<bool>,
) {
    match (accepted, tls) {
        (Accepted::Tcp(stream), tls) => {
            let stream = socket::PacedTcp::new(stream);
            match tls {
                None => serve_http(stream, router, limits, stopping).await,
                Some(tls) => {
                    if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                        serve_http(stream, router, limits, stopping).await;
                    }
                }
            }
        }
        (Accepted::Unix(stream), _) => {
            let _ = socket::set_unix_options(&stream);
            serve_http(stream, router, limits, stopping).await;
        }
    }
}

async fn serve_http<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    io: I,
    router: Router,
    limits: Limits,
    mut stopping: watch::Receiver<bool>,
) {
    let io = TokioIo::new(TimedIo::new(io, limits.write_timeout));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout).max_buf_size(BUFFER_BYTES);
    let connection = builder.serve_connection(io, TowerToHyperService::new(router)).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return report(ended),
        _ = stopping.wait_for(|stopping| *stopping) => connection.as_mut().graceful_shutdown(),
    }
    report(connection.await);
}

/// Peers that leave are the normal end of a connection; nobody needs to be told above the level of debugging.
fn report(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!("a connection ended: {error}");
    }
}
