//! Holds a streamed answer back while the client's program does not read.
//!
//! A client's kernel takes bytes for a program that does not read them: on Linux 64 KiB at first and more later, which are
//! hundreds of tokens. Where the program runs on this machine, the kernel tells how many of them it has not read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::unread::PeerQueue;

/// Bytes that the client's kernel may hold for its program, besides those of one write. A program that keeps up with tokens
/// has a few hundred before it.
const UNREAD: usize = 4 << 10;
/// While an answer is held back, the wait between two questions is a quarter of the time that it has been, within these
/// limits.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// Whether more of an answer may be sent.
#[derive(Debug)]
pub(super) struct Gate {
    /// The client's queue, if it is on this machine.
    queue: Option<PeerQueue>,
    /// Bytes that the client can have unread: those in its queue at the last question, and all that were sent since.
    unread: usize,
    /// Whether the last question found fewer than that.
    has_read: bool,
    /// Set while the answer is held back.
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    since: Instant,
    next: Pin<Box<Sleep>>,
}

impl Gate {
    pub(super) fn new(queue: Option<PeerQueue>) -> Self {
        Self { queue, unread: 0, has_read: false, held: None }
    }

    /// Ready when more may be sent.
    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.unread >= UNREAD {
            let Some(queue) = &self.queue else { break };
            if let Some(held) = &mut self.held {
                ready!(held.next.as_mut().poll(cx));
            }
            match queue.unread() {
                Ok(unread) => {
                    self.has_read = unread < self.unread;
                    self.unread = unread;
                    if unread >= UNREAD {
                        self.wait();
                    }
                }
                Err(error) => {
                    // Other errors are the system's, which may have an answer the next time.
                    if error.kind() == io::ErrorKind::NotFound {
                        self.queue = None;
                    }
                    self.unread = 0;
                }
            }
        }
        self.held = None;
        Poll::Ready(())
    }

    /// Sets the time of the next question.
    fn wait(&mut self) {
        let now = Instant::now();
        let held = self.held.get_or_insert_with(|| Held { since: now, next: Box::pin(tokio::time::sleep_until(now)) });
        let wait = ((now - held.since) / 4).clamp(SHORTEST_WAIT, LONGEST_WAIT);
        held.next.as_mut().reset(now + wait);
    }

    /// Whether the client has read since the last call, while the answer is held back.
    pub(super) fn take_has_read(&mut self) -> bool {
        std::mem::take(&mut self.has_read)
    }

    /// Counts bytes that were sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.unread = self.unread.saturating_add(bytes);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::task::Poll;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::{Gate, UNREAD};
    use crate::transport::unread::{PeerQueue, SocketDiag};

    const LIMIT: Duration = Duration::from_secs(10);

    /// A connection whose answer a gate holds back, and its client.
    async fn connection() -> (Gate, TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("it accepts");
        let (ours, peer) = listener.accept().await.expect("a connection");
        let diag = Arc::new(SocketDiag::open().expect("Linux tells"));
        let gate = Gate::new(Some(PeerQueue::new(diag, ours.local_addr().expect("an address"), peer)));
        (gate, ours, client)
    }

    /// Sends so many bytes, and waits until they are in the client's queue.
    async fn send(gate: &mut Gate, ours: &mut TcpStream, bytes: usize) {
        let unread = |gate: &Gate| gate.queue.as_ref().and_then(|queue| queue.unread().ok());
        let after = unread(gate).expect("the client is on this machine") + bytes;
        ours.write_all(&vec![b'x'; bytes]).await.expect("it is sent");
        gate.sent(bytes);
        let arrives = async {
            while unread(gate) != Some(after) {
                tokio::task::yield_now().await;
            }
        };
        timeout(LIMIT, arrives).await.expect("it arrives");
    }

    async fn is_open(gate: &mut Gate) -> bool {
        poll_fn(|cx| Poll::Ready(gate.poll_open(cx).is_ready())).await
    }

    #[tokio::test]
    async fn a_client_that_reads_all_is_never_held_back() {
        let (mut gate, mut ours, mut client) = connection().await;
        for _ in 0..1000 {
            send(&mut gate, &mut ours, 200).await;
            client.read_exact(&mut [0; 200]).await.expect("it arrives");
            assert!(is_open(&mut gate).await);
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_held_back_until_it_does() {
        let (mut gate, mut ours, mut client) = connection().await;
        send(&mut gate, &mut ours, UNREAD).await;
        assert!(!is_open(&mut gate).await);
        client.read_exact(&mut [0; 1]).await.expect("it arrives");
        timeout(LIMIT, poll_fn(|cx| gate.poll_open(cx))).await.expect("it goes on");
        send(&mut gate, &mut ours, 1).await;
        assert!(!is_open(&mut gate).await, "what was unread before counts");
    }

    #[tokio::test]
    async fn it_is_noticed_that_a_client_which_is_held_back_reads_a_little() {
        let (mut gate, mut ours, mut client) = connection().await;
        send(&mut gate, &mut ours, 3 * UNREAD).await;
        assert!(!is_open(&mut gate).await);
        gate.take_has_read();
        client.read_exact(&mut [0; UNREAD]).await.expect("it arrives");
        let noticed = poll_fn(|cx| {
            assert!(gate.poll_open(cx).is_pending(), "it has too much unread");
            if gate.take_has_read() { Poll::Ready(()) } else { Poll::Pending }
        });
        timeout(LIMIT, noticed).await.expect("it is noticed");
        assert!(!is_open(&mut gate).await);
        assert!(!gate.take_has_read(), "it has read no more");
    }

    #[tokio::test]
    async fn a_client_that_is_gone_or_on_another_machine_is_not_held_back() {
        let (mut gate, mut ours, client) = connection().await;
        send(&mut gate, &mut ours, UNREAD).await;
        assert!(!is_open(&mut gate).await);
        drop(client);
        timeout(LIMIT, poll_fn(|cx| gate.poll_open(cx))).await.expect("it goes on");
        let mut elsewhere = Gate::new(None);
        elsewhere.sent(1 << 20);
        assert!(is_open(&mut elsewhere).await);
    }
}
