//! Creates a second context on a thread of its own: llama.cpp allocates and clears its KV, which for a large model takes
//! seconds, and running streams must not wait for that.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;

use mullama_ffi::Error;

use super::inbox::Inbox;
use crate::in_flight::InFlightGuard;
use crate::stream::EngineInbox;

/// How long the refusal of a context also applies to later streams, so that each of them does not try to allocate it.
const REFUSAL_HOLDS: Duration = Duration::from_secs(1);

/// The stack of a thread that creates a context, in bytes.
const STACK_BYTES: usize = 2 << 20;

/// Work that runs on another thread.
pub(crate) type Work = Box<dyn FnOnce() + Send>;

/// Starts work beside the engine's thread.
#[derive(Clone)]
pub(crate) struct Workers(Arc<dyn Fn(Work) -> io::Result<()> + Send + Sync>);

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Workers")
    }
}

impl Workers {
    /// A thread for each piece of work. The end of the process waits for it for a moment.
    pub(crate) fn threads() -> Self {
        Self::new(|work| {
            let in_flight = InFlightGuard::begin();
            let body = move || {
                let _in_flight = in_flight;
                work();
            };
            std::thread::Builder::new().name("mullama-context".into()).stack_size(STACK_BYTES).spawn(body).map(drop)
        })
    }

    /// Work that `start` starts.
    pub(crate) fn new(start: impl Fn(Work) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(start))
    }
}

/// Wakes the engine when the work is over, also if it panicked.
struct WakeWhenOver(Arc<Inbox>);

impl Drop for WakeWhenOver {
    fn drop(&mut self) {
        self.0.capacity_freed();
    }
}

/// A context that is created when it is first needed.
#[derive(Debug)]
pub(super) struct Creation<B> {
    workers: Workers,
    /// Woken when a creation is over.
    inbox: Arc<Inbox>,
    state: State<B>,
}

#[derive(Debug)]
enum State<B> {
    Absent,
    /// The system refused it at this time.
    Refused(Duration, Error),
    Running(Receiver<Result<B, Error>>),
    Done(B),
}

impl<B: Send + 'static> Creation<B> {
    /// Creates nothing yet.
    pub(super) fn new(workers: Workers, inbox: Arc<Inbox>) -> Self {
        Self { workers, inbox, state: State::Absent }
    }

    /// Starts the creation if it has not been started, or was refused long ago; wakes the engine when it is over.
    pub(super) fn start(
        &mut self,
        now: Duration,
        create: impl FnOnce() -> Box<dyn FnOnce() -> Result<B, Error> + Send>,
    ) {
        match &self.state {
            State::Absent => {}
            State::Refused(at, _) if now.saturating_sub(*at) >= REFUSAL_HOLDS => {}
            _ => return,
        }
        let (send, receive) = sync_channel(1);
        let (create, wake) = (create(), WakeWhenOver(Arc::clone(&self.inbox)));
        let work = move || {
            // Dropped in the reverse order: the engine is woken after there is something to receive.
            let (_wake, send) = (wake, send);
            let _ = send.send(create());
        };
        self.state = match (self.workers.0)(Box::new(work)) {
            Ok(()) => State::Running(receive),
            Err(error) => State::Refused(now, Error::ThreadSpawn { stack_bytes: STACK_BYTES, source: Arc::new(error) }),
        };
    }

    /// Whether the creation is over, for better or worse.
    pub(super) fn is_over(&mut self, now: Duration) -> bool {
        let State::Running(receive) = &self.state else { return !matches!(self.state, State::Absent) };
        self.state = match receive.try_recv() {
            Ok(Ok(context)) => State::Done(context),
            Ok(Err(error)) => State::Refused(now, error),
            Err(TryRecvError::Empty) => return false,
            Err(TryRecvError::Disconnected) => State::Refused(now, Error::Poisoned),
        };
        true
    }

    /// The context, or why there is none.
    pub(super) fn get(&mut self) -> Result<&mut B, Error> {
        match &mut self.state {
            State::Done(context) => Ok(context),
            State::Refused(_, error) => Err(error.clone()),
            State::Absent | State::Running(_) => Err(Error::Poisoned),
        }
    }

    /// The context, if there is one.
    pub(super) fn done(&self) -> Option<&B> {
        if let State::Done(context) = &self.state { Some(context) } else { None }
    }

    /// Drops the context; the next stream gets a new one. A refusal is remembered.
    pub(super) fn lose(&mut self) {
        if !matches!(self.state, State::Refused(..)) {
            self.state = State::Absent;
        }
    }
}
