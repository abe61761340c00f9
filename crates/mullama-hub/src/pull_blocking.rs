//! The blocking twin of `pull`: a runtime of its own, and a progress function that can cancel.

use std::panic;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use mullama::{DownloadFailure, MullamaError};
use tokio::runtime::{Builder, Handle};
use tokio::time::MissedTickBehavior;

use crate::pull::{find_or_pull, pull};
use crate::{Hub, LocalModel, Phase, Progress, shown_name};

/// Progress is reported this often, so that a caller can cancel while nothing arrives.
const INTERVAL: Duration = Duration::from_millis(90);
/// Threads for writing, synchronizing and looking up hosts.
const BLOCKING_THREADS: usize = 6;
/// How long a cancelled pull waits for a write that is under way.
const LAST_WRITE: Duration = Duration::from_millis(500);

/// What is done about a model that is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It is used.
    Use,
    /// The server is asked whether it is still the newest.
    Update,
}

/// See [`Hub::pull_blocking`] and [`Hub::find_or_pull_blocking`].
pub(crate) fn pull_blocking<F: FnMut(&Progress) -> bool + Send>(
    hub: &Hub,
    name: &str,
    existing: Existing,
    progress: F,
) -> Result<LocalModel, MullamaError> {
    if Handle::try_current().is_err() {
        return run(hub, name, existing, progress);
    }
    // A runtime cannot be started inside another one.
    thread::scope(|scope| {
        let pulled = thread::Builder::new().spawn_scoped(scope, || run(hub, name, existing, progress));
        let pulled = pulled.map_err(MullamaError::no_thread)?;
        pulled.join().unwrap_or_else(|cause| panic::resume_unwind(cause))
    })
}

fn run<F: FnMut(&Progress) -> bool + Send>(
    hub: &Hub,
    name: &str,
    existing: Existing,
    progress: F,
) -> Result<LocalModel, MullamaError> {
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_THREADS).build();
    let runtime = runtime.map_err(MullamaError::no_thread)?;
    let pulled = runtime.block_on(cancellable(hub, name, existing, progress));
    // Blocking work begins in order, and what has not begun is given up: a last record must have begun.
    let _ = runtime.block_on(runtime.spawn_blocking(|| {}));
    runtime.shutdown_timeout(LAST_WRITE);
    pulled
}

async fn cancellable<F: FnMut(&Progress) -> bool + Send>(
    hub: &Hub,
    name: &str,
    existing: Existing,
    progress: F,
) -> Result<LocalModel, MullamaError> {
    let shown = shown_name(name);
    let first = Progress { phase: Phase::Resolving, file: shown.clone(), done: 0, total: None };
    let caller = Mutex::new(Caller { progress, latest: first, has_cancelled: false });
    let report = |progress: &Progress| caller.lock().unwrap_or_else(PoisonError::into_inner).report(progress);
    let pulling = async {
        match existing {
            Existing::Use => find_or_pull(hub, name, report).await,
            Existing::Update => pull(hub, name, report).await,
        }
    };
    tokio::select! {
        biased;
        pulled = pulling => pulled,
        () = cancelled(&caller) => {
            Err(MullamaError::Download { name: shown, failure: DownloadFailure::Cancelled })
        }
    }
}

/// Whoever is told about the progress.
struct Caller<F> {
    progress: F,
    latest: Progress,
    has_cancelled: bool,
}

impl<F: FnMut(&Progress) -> bool> Caller<F> {
    fn report(&mut self, progress: &Progress) {
        self.latest.clone_from(progress);
        self.repeat();
    }

    fn repeat(&mut self) {
        // After it has cancelled, the caller is not called again.
        self.has_cancelled = self.has_cancelled || !(self.progress)(&self.latest);
    }
}

/// Completes when the caller has cancelled; until then it is told regularly what it may know already.
async fn cancelled<F: FnMut(&Progress) -> bool>(caller: &Mutex<Caller<F>>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut caller = caller.lock().unwrap_or_else(PoisonError::into_inner);
        caller.repeat();
        if caller.has_cancelled {
            return;
        }
    }
}
