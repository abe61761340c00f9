//! One connection: HTTP/1.1 with limits.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Response;
use http_body::Body as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tower_service::Service;

use super::gate::Gate;
use super::listen::Accepted;
use super::paced::{Paced, Streaming};
use super::requests::Requests;
use super::socket::{self, Socket};
use super::unread::{PeerQueue, SocketDiag};
use super::upgrades::Upgrades;

/// Most bytes that wait in the process for one connection: hyper's minimum.
const BUFFER_BYTES: usize = 8 << 10;
/// Maximum time of a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection without a request stays open when the server stops, for what it still has to write.
const GRACE: Duration = Duration::from_secs(1);
/// How often a connection is polled after its peer has closed its side, so that requests that need no model are
/// answered to clients that close it early. Such requests wait only for other tasks, which run between two polls; a few
/// dozen are more than any of them needs. A limit in time would either let a stream go on for a client that is gone or,
/// on a busy machine, pass before those tasks have run.
const LAST_POLLS: usize = 64;

/// What connections share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) header_timeout: Duration,
    pub(super) write_timeout: Duration,
    /// Tells what clients on this machine have not read.
    pub(super) diag: Option<Arc<SocketDiag>>,
}

/// Who sent a request: an extension of each request that came over this crate's own connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Tcp(SocketAddr),
    Unix,
}

impl Peer {
    /// Whether the request came over a network inside this machine, as web pages can send them too.
    pub(crate) fn is_loopback(self) -> bool {
        matches!(self, Self::Tcp(address) if address.ip().to_canonical().is_loopback())
    }
}

/// What serves the requests of a connection.
#[derive(Debug)]
struct Served {
    router: Router,
    peer: Peer,
    shared: Shared,
    stopping: watch::Receiver<bool>,
}

/// Serves a connection until it closes, or until `stopping` says that its current request is the last.
pub(super) async fn serve(
    accepted: Accepted,
    tls: Option<TlsAcceptor>,
    router: Router,
    shared: Shared,
    stopping: watch::Receiver<bool>,
) {
    match accepted {
        Accepted::Tcp(stream) => {
            let (Ok(ours), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else { return };
            // A peer that is gone already has no options.
            let _ = socket::set_tcp_options(&stream, shared.write_timeout);
            let queue = shared.diag.clone().map(|diag| PeerQueue::new(diag, ours, peer));
            let served = Served { router, peer: Peer::Tcp(peer), shared, stopping };
            serve_socket(Arc::new(stream), Gate::new(queue), tls, served).await;
        }
        Accepted::Unix(stream) => {
            let _ = socket::set_unix_options(&stream);
            // What a client has not read counts in the send buffer of a Unix socket.
            let served = Served { router, peer: Peer::Unix, shared, stopping };
            serve_socket(Arc::new(stream), Gate::new(None), None, served).await;
        }
    }
}

async fn serve_socket<S: Socket>(stream: Arc<S>, gate: Gate, tls: Option<TlsAcceptor>, served: Served) {
    let streaming = Streaming::default();
    let paced = Paced::new(Arc::clone(&stream), gate, streaming.clone(), served.shared.write_timeout);
    let Some(tls) = tls else { return serve_http(paced, streaming, served, stream.closed()).await };
    // What is encrypted already waits in a buffer of its own.
    let accepting = tls.accept_with(paced, |connection| connection.set_buffer_limit(Some(BUFFER_BYTES)));
    let mut stopping = served.stopping.clone();
    // Until the handshake is over nothing has been asked for.
    let stop = async move { drop(stopping.wait_for(|stopping| *stopping).await) };
    let accepted = tokio::select! {
        accepted = tokio::time::timeout(HANDSHAKE, accepting) => accepted,
        () = stop => return,
    };
    if let Ok(Ok(encrypted)) = accepted {
        serve_http(encrypted, streaming, served, stream.closed()).await;
    }
}

/// Serves requests until the connection ends. hyper does not read while it computes an answer, so it would not see the
/// end of a client that has sent further bytes; `closed` does.
async fn serve_http<I: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    io: I,
    streaming: Streaming,
    served: Served,
    closed: impl Future<Output = ()>,
) {
    let Served { router, peer, shared, mut stopping } = served;
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(shared.header_timeout).max_buf_size(BUFFER_BYTES);
    // Where `closed` sees the end of the peer's side, hyper need not drop an answer that is ready.
    builder.half_close(cfg!(any(target_os = "android", target_os = "linux")));
    let upgrades = Upgrades::new(stopping.clone());
    let requests = Requests::default();
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(upgrades.clone());
        let counted = requests.count();
        // A router is always ready.
        let answering = router.clone().call(request);
        let streaming = streaming.clone();
        async move {
            let response = answering.await?;
            streaming.set(is_streamed(&response));
            Ok::<_, Infallible>(response.map(|body| counted.until_read(body)))
        }
    });
    {
        let connection = builder.serve_connection(TokioIo::new(io), service).with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let mut closed = std::pin::pin!(closed);
        let stop = async move {
            // The sender lives as long as the server; without it the server ends too.
            let _ = stopping.wait_for(|stopping| *stopping).await;
        };
        let is_stopping = tokio::select! {
            biased;
            ended = connection.as_mut() => { report(ended); false }
            () = closed.as_mut() => { poll_last(connection.as_mut()).await; false }
            () = stop => true,
        };
        if is_stopping {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                ended = connection.as_mut() => report(ended),
                () = closed => poll_last(connection).await,
                // A request that has not arrived whole is not waited for.
                () = requests.none_for(GRACE) => {}
            }
        }
    }
    if let Some(successor) = upgrades.take() {
        successor.await;
    }
}

/// Whether an answer is computed while its client reads it.
fn is_streamed(response: &Response) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS || response.body().size_hint().exact().is_none()
}

/// Polls a connection a few more times.
async fn poll_last(mut connection: Pin<&mut impl Future<Output = hyper::Result<()>>>) {
    for _ in 0..LAST_POLLS {
        let polled = poll_fn(|cx| Poll::Ready(connection.as_mut().poll(cx))).await;
        if let Poll::Ready(ended) = polled {
            return report(ended);
        }
        tokio::task::yield_now().await;
    }
}

/// Peers that leave are the normal end of a connection; nobody needs to be told above the level of debugging.
fn report(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!("a connection ended: {error}");
    }
}
