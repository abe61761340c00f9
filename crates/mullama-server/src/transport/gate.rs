//! Holds an answer back from a peer whose program does not read it.
//!
//! A kernel takes bytes for a program that does not read them: on Linux 64 KiB at first and more later, which are many
//! hundreds of tokens. It tells how many it holds, because the window that it advertises shrinks by them. While that is
//! more than a few kilobytes, only probes are sent; a peer that reads answers one with a window that is wide again.
//!
//! A kernel that has less room than before, as under memory pressure, advertises a smaller window although its program
//! reads. What tells it from one whose program does not read is that bytes do not make its window smaller still. So now
//! and then a trial sends more than single bytes, always several at once: a program that reads slowly has unread bytes
//! before these, and in so short a time it cannot read as many as come.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use mullama_ffi::SendWindow;
use tokio::time::{Instant, Sleep};

/// Bytes that the peer's kernel may hold for its program, besides those that its window does not show yet. A peer that
/// keeps up with tokens holds a few hundred.
const UNREAD: u32 = 4 << 10;
/// The widest window of a peer whose program has not read much yet. Kernels widen it for programs that read fast, and then
/// it also changes for other reasons than unread bytes.
const FIRST_WINDOW: u32 = 96 << 10;
/// The largest packet that TCP knows.
const LARGEST_PACKET: u32 = 64 << 10;
/// The time to the first probe; the next ones take twice as long each, up to the longest time. The answer to a probe is seen
/// at the next one, so a peer that reads again is seen after at most twice the longest time.
const FIRST_PROBE: Duration = Duration::from_millis(1);
const LONGEST_WAIT: Duration = Duration::from_millis(50);
/// The time to the first trial; after one that the peer did not read the next one follows after the same time again, and so on.
const FIRST_TRIAL: Duration = Duration::from_millis(200);
/// The probes of a trial have this many units of the window each, so that one alone makes the window of a peer smaller
/// that does not read.
const PROBE_UNITS: u32 = 2;
/// After this many units that have changed nothing the peer reads.
const TRIAL_UNITS: u32 = 3 * PROBE_UNITS;
/// A trial that has not sent them after this many probes shows nothing: a program that reads slowly keeps up with few bytes.
const TRIAL_PROBES: u32 = 16;

/// How much of an answer a peer may be sent.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// The widest window so far, which is that of a peer that has read all.
    widest: u32,
    /// The largest write so far. The window of a peer that reads lags behind by up to the largest packet that it has got.
    largest: u32,
    /// Set while the answer is held back.
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    since: Instant,
    probe: Pin<Box<Sleep>>,
    wait: Duration,
    /// The window at the last probe.
    window: u32,
    /// When the next trial is due, as a time since the answer is held back.
    next_trial: Duration,
    /// The trial that goes on.
    trial: Option<Trial>,
}

#[derive(Debug, Default)]
struct Trial {
    sent: usize,
    probes: u32,
    /// Whether a single byte is to follow, which is answered after the program has had time to read the larger probe.
    is_unanswered: bool,
}

/// What may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    All,
    /// At most this many bytes.
    Probe(usize),
}

impl Held {
    fn new(window: SendWindow) -> Self {
        let probe = Box::pin(tokio::time::sleep(FIRST_PROBE));
        let (window, next_trial) = (window.bytes, FIRST_TRIAL);
        Self { since: Instant::now(), probe, wait: FIRST_PROBE, window, next_trial, trial: None }
    }

    /// Sets the time of the next probe, and returns the share of this one.
    fn probe(&mut self, window: SendWindow) -> Share {
        let now = Instant::now();
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        self.probe.as_mut().reset(now + self.wait);
        let since = now - self.since;
        if let Some(trial) = self.trial.as_mut().filter(|trial| trial.is_unanswered) {
            trial.is_unanswered = false;
            return Share::Probe(1);
        }
        let is_over = |trial: &Trial| window.bytes < self.window || trial.probes >= TRIAL_PROBES;
        if self.trial.as_ref().is_some_and(is_over) {
            self.next_trial = 2 * since;
        }
        // A window that grows is that of a peer that reads what came before the trial.
        let is_steady = window.bytes == self.window;
        self.window = window.bytes;
        if is_steady && since >= self.next_trial {
            let trial = self.trial.get_or_insert_default();
            trial.probes += 1;
            trial.is_unanswered = true;
            return Share::Probe((PROBE_UNITS * window.unit) as usize);
        }
        self.trial = None;
        Share::Probe(1)
    }

    /// Whether the trial has shown that the peer has read all, although its window is not wide.
    fn has_read(&self, window: SendWindow) -> bool {
        let enough = (TRIAL_UNITS * window.unit) as usize;
        let is_enough = |trial: &Trial| !trial.is_unanswered && trial.sent >= enough;
        window.bytes == self.window && self.trial.as_ref().is_some_and(is_enough)
    }
}

impl Gate {
    /// How much may be sent to a peer with this window; pending until the next probe is due. Without a window nothing is
    /// held back.
    pub(super) fn poll_share(&mut self, window: Option<SendWindow>, cx: &mut Context<'_>) -> Poll<Share> {
        let Some(window) = window else { return Poll::Ready(Share::All) };
        self.widest = self.widest.max(window.bytes);
        let unread = self.widest - window.bytes;
        if self.widest > FIRST_WINDOW || unread < UNREAD + 2 * self.largest.max(window.unit) {
            self.held = None;
            return Poll::Ready(Share::All);
        }
        let held = self.held.get_or_insert_with(|| Held::new(window));
        ready!(held.probe.as_mut().poll(cx));
        if held.has_read(window) {
            self.widest = window.bytes;
            self.held = None;
            return Poll::Ready(Share::All);
        }
        Poll::Ready(held.probe(window))
    }

    /// Counts bytes that were really sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.largest = self.largest.max(u32::try_from(bytes).unwrap_or(u32::MAX).min(LARGEST_PACKET));
        if let Some(trial) = self.held.as_mut().and_then(|held| held.trial.as_mut()) {
            trial.sent += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use mullama_ffi::SendWindow;
    use tokio::time::{Instant, advance};

    use super::{Gate, Share};

    /// One step of a modelled peer.
    const STEP: Duration = Duration::from_millis(10);
    const STEPS_PER_SECOND: usize = 100;
    /// Bytes of an event, and how fast the engine computes them.
    const EVENT: usize = 207;
    const ENGINE: usize = 40_000;
    /// Bytes that wait in the process: the first slices of hyper.
    const WAITING: usize = 8_192;

    /// A peer whose kernel never takes back what it has offered, and tells its window when bytes arrive.
    struct Peer {
        gate: Gate,
        unit: u32,
        /// Bytes for which its kernel has room.
        room: usize,
        /// Bytes that its program reads in a second.
        rate: usize,
        sent: usize,
        read: usize,
        /// Hundredths of bytes that its program could have read besides.
        credit: usize,
        /// How far the kernel has offered to take bytes.
        edge: usize,
        told: u32,
        /// Bytes of the answer that a write finds.
        waiting: usize,
        /// Most bytes that were unread at once.
        ahead: usize,
    }

    impl Peer {
        fn new(room: usize, rate: usize) -> Self {
            let told = u32::try_from(room).expect("a window");
            let (gate, waiting) = (Gate::default(), WAITING);
            Self { gate, unit: 128, room, rate, sent: 0, read: 0, credit: 0, edge: room, told, waiting, ahead: 0 }
        }

        fn poll(&mut self) -> Poll<Share> {
            let window = SendWindow { bytes: self.told, unit: self.unit };
            self.gate.poll_share(Some(window), &mut Context::from_waker(Waker::noop()))
        }

        /// The engine computes, the program reads, and the kernel tells its window; returns whether all was sent that was computed.
        async fn step(&mut self) -> bool {
            let before = self.sent;
            let mut is_open = true;
            while is_open && self.sent - before < ENGINE / STEPS_PER_SECOND && self.sent + EVENT < self.edge {
                let most = match self.poll() {
                    Poll::Ready(Share::All) => EVENT,
                    Poll::Ready(Share::Probe(most)) => most.min(self.waiting),
                    Poll::Pending => 0,
                };
                self.gate.sent(most);
                self.sent += most;
                is_open = most == EVENT;
            }
            self.ahead = self.ahead.max(self.sent - self.read);
            self.credit += self.rate;
            self.read = self.sent.min(self.read + self.credit / STEPS_PER_SECOND);
            self.credit %= STEPS_PER_SECOND;
            if self.sent > before {
                let unit = self.unit as usize;
                let free = self.room.saturating_sub(self.sent - self.read) / unit * unit;
                self.edge = self.edge.max(self.sent + free);
                self.told = u32::try_from((self.edge - self.sent).div_ceil(unit) * unit).expect("a window");
            }
            advance(STEP).await;
            is_open
        }

        async fn run(&mut self, seconds: usize) {
            for _ in 0..seconds * STEPS_PER_SECOND {
                self.step().await;
            }
        }

        /// How long it takes until the peer gets all that is computed.
        async fn until_open(&mut self) -> Duration {
            let start = Instant::now();
            while !self.step().await {
                assert!(start.elapsed() < Duration::from_mins(10), "it is held back for ever");
            }
            start.elapsed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_window_nothing_is_held_back() {
        let unknown = Gate::default().poll_share(None, &mut Context::from_waker(Waker::noop()));
        assert_eq!(unknown, Poll::Ready(Share::All));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_nothing_gets_less_than_a_token_in_five_seconds() {
        for room in [16 << 10, 64 << 10] {
            for waiting in [1, 5, EVENT, WAITING] {
                let mut peer = Peer { waiting, ..Peer::new(room, 0) };
                peer.run(600).await;
                let most = 5_000 + 600 / 5 * EVENT;
                assert!((4_096..most).contains(&peer.sent), "{room} {waiting}: {} bytes", peer.sent);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_slowly_gets_at_most_eight_kilobytes_ahead() {
        for room in [16 << 10, 64 << 10] {
            for rate in [20, 100, 150, 200, 300, 1_000, 3_000, 10_000] {
                for waiting in [5, EVENT, WAITING] {
                    let mut peer = Peer { waiting, ..Peer::new(room, rate) };
                    peer.run(600).await;
                    assert!(peer.ahead <= 8 << 10, "{room} {rate} {waiting}: {} bytes", peer.ahead);
                    assert!(peer.read >= 599 * rate, "{room} {rate} {waiting}: {} bytes are read", peer.read);
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_keeps_up_is_never_held_back() {
        for unit in [1, 128, 1_024, 16_384] {
            let mut peer = Peer { unit, ..Peer::new(64 << 10, 2 * ENGINE) };
            for _ in 0..60 * STEPS_PER_SECOND {
                assert!(peer.step().await, "{unit}: held back after {} bytes", peer.sent);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_again_gets_all_within_a_tenth_of_a_second() {
        for pause in [1, 10, 300] {
            let mut peer = Peer::new(64 << 10, 0);
            peer.run(pause).await;
            peer.rate = 100 * ENGINE;
            let taken = peer.until_open().await;
            assert!(taken <= Duration::from_millis(110), "{pause} s: {taken:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_all_with_less_room_than_before_gets_all_after_two_seconds() {
        for (unit, waiting) in [(128, WAITING), (1_024, WAITING), (128, EVENT)] {
            let mut peer = Peer { unit, waiting, ..Peer::new(64 << 10, 2 * ENGINE) };
            peer.run(1).await;
            let told = peer.sent;
            (peer.room, peer.edge, peer.told) = (16 << 10, told + (16 << 10), 16 << 10);
            let taken = peer.until_open().await;
            assert!(taken < Duration::from_secs(2), "{unit} {waiting}: {taken:?}");
            peer.run(10).await;
            assert!(peer.sent - told > 9 * ENGINE, "{unit} {waiting}: {} bytes", peer.sent - told);
        }
    }
}
