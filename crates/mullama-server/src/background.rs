//! A server on threads of its own, for programs that are not written for tokio.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::mpsc::sync_channel;
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::watch;

use crate::limits::check_number;
use crate::server::Server;
use crate::state::State;
use crate::transport::Listen;

/// The maximum number of threads for blocking work, such as reading a large body; they end when idle. Work that may take
/// long, such as loading a model, is limited to a few of them.
const BLOCKING_THREADS: usize = 16;
/// The numbers of threads for connections.
const THREADS: RangeInclusive<usize> = 1..=1024;

/// How far a server is told to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
enum Order {
    Serve,
    /// Accept nothing more, and let running requests end.
    Drain,
    /// Close everything.
    Abort,
}

/// A server that runs on threads of its own. Dropping it closes everything at once.
#[derive(Debug)]
pub struct RunningServer {
    url: String,
    address: Option<SocketAddr>,
    order: watch::Sender<Order>,
    ended: watch::Receiver<bool>,
}

impl RunningServer {
    /// Binds the socket and starts to serve, with this many threads for connections.
    ///
    /// # Errors
    /// Those of [`Server::bind`], a number of threads outside 1 to 1024, and if the system refuses threads.
    pub fn start(listen: Listen, state: State, threads: usize) -> io::Result<Self> {
        check_number("threads", threads, &THREADS)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("mullama-server")
            .enable_all()
            .build()?;
        let (order, orders) = watch::channel(Order::Serve);
        let (end, ended) = watch::channel(false);
        let (report, bound) = sync_channel(1);
        let body = move || {
            runtime.block_on(async {
                let server = match Server::bind(&listen, state).await {
                    Ok(server) => server,
                    Err(error) => return drop(report.send(Err(error))),
                };
                // The caller waits for this.
                let _ = report.send(Ok((server.url(), server.address())));
                serve(server, orders).await;
            });
            // Loads of models may take long, and nobody waits for them.
            runtime.shutdown_background();
            end.send_replace(true);
        };
        thread::Builder::new().name("mullama-serve".into()).spawn(body)?;
        let gone = || Err(io::Error::other("the thread of the server has ended"));
        let (url, address) = bound.recv().unwrap_or_else(|_| gone())?;
        Ok(Self { url, address, order, ended })
    }

    /// The address as a URL; `unix:` and the path for a Unix socket.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address of a TCP socket, with the port that the system chose.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Accepts nothing more, and lets running requests end, at most for the drain timeout. Does not wait.
    pub fn drain(&self) {
        self.tell(Order::Drain);
    }

    /// Closes everything at once. Does not wait.
    pub fn abort(&self) {
        self.tell(Order::Abort);
    }

    fn tell(&self, order: Order) {
        self.order.send_if_modified(|told| {
            let is_new = *told < order;
            if is_new {
                *told = order;
            }
            is_new
        });
    }

    /// Completes when the server has ended.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut ended = self.ended.clone();
        async move {
            // A thread that is gone has ended too.
            let _ = ended.wait_for(|ended| *ended).await;
        }
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        self.abort();
    }
}

async fn serve(server: Server, orders: watch::Receiver<Order>) {
    let until = |order: Order| {
        let mut orders = orders.clone();
        async move {
            if orders.wait_for(|told| *told >= order).await.is_err() {
                // The handle is gone, which has told to abort before.
                pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = server.run(until(Order::Drain)) => {}
        () = until(Order::Abort) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::RunningServer;
    use crate::{Listen, LoadOptions, ServerConfig, State};

    #[test]
    fn a_server_without_threads_or_with_too_many_is_refused() {
        for threads in [0, usize::MAX] {
            let state = State::new(Vec::new(), LoadOptions::default(), ServerConfig::default(), None).expect("valid");
            let listen = Listen::Tcp("127.0.0.1".to_owned(), 0);
            let error = RunningServer::start(listen, state, threads).expect_err("out of range");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains("threads is "), "{error}");
        }
    }
}
