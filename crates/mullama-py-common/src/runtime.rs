//! The tokio runtime of asynchronous calls: one per process, started by the first of them.
//!
//! It has two threads. `mullama-async` drives every future. `mullama-deliver` hands results and progress to event loops, for
//! which it attaches to Python, so no future ever waits for the GIL.

use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread;

use mullama::PerProcess;
use pyo3::Python;
use pyo3_async_runtimes::TaskLocals;
use pyo3_async_runtimes::generic::{self, ContextExt, Runtime};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task;

use crate::exit::Pass;

/// How many deliveries may wait. Each call has one for its result, and at most one for its progress.
const DELIVERIES: usize = 256;

/// The maximum number of threads for blocking work of futures, such as name resolution and disk writes; they end when idle.
const BLOCKING_THREADS: usize = 16;

/// The runtime of this process: after a fork, the child has none of its parent's threads and starts its own.
static STARTED: PerProcess<Mutex<Option<Arc<Started>>>> = PerProcess::new();

/// A running runtime. It is never dropped: the process ends with its threads.
pub(crate) struct Started {
    handle: Handle,
    deliveries: SyncSender<Delivery>,
}

type Delivery = Box<dyn FnOnce() + Send>;

impl Started {
    /// Runs a future on the runtime.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> task::JoinHandle<()> {
        self.handle.spawn(future)
    }
}

/// The runtime of this process, which the first call starts.
///
/// # Errors
///
/// If the system refuses threads or descriptors.
pub(crate) fn started() -> io::Result<Arc<Started>> {
    let mut started = STARTED.get().lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(started) = &*started {
        return Ok(Arc::clone(started));
    }
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_THREADS).build()?;
    let (deliveries, queue) = sync_channel(DELIVERIES);
    let new = Arc::new(Started { handle: runtime.handle().clone(), deliveries });
    thread::Builder::new().name("mullama-deliver".into()).spawn(move || run_deliveries(&queue))?;
    thread::Builder::new()
        .name("mullama-async".into())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    *started = Some(Arc::clone(&new));
    Ok(new)
}

fn run_deliveries(queue: &Receiver<Delivery>) {
    for delivery in queue {
        // Nobody waits for what comes once the interpreter ends.
        if let Some(_pass) = Pass::take() {
            // A delivery that panics must not end the thread, for which every later call would wait.
            let _ = catch_unwind(AssertUnwindSafe(delivery));
        }
    }
}

/// Calls this soon on the thread that may attach to Python. Calls are made in their order.
pub fn deliver(call: impl FnOnce() + Send + 'static) {
    // It can fail only if its thread has ended, and then nobody hears anything any more.
    let _ = running().deliveries.send(Box::new(call));
}

/// The runtime of a future that runs on it.
fn running() -> Arc<Started> {
    started().expect("the caller runs on it, so it was started")
}

/// The runtime, as `pyo3-async-runtimes` uses one.
pub(crate) struct Tokio;

impl Runtime for Tokio {
    type JoinError = JoinError;
    type JoinHandle = JoinHandle;

    fn spawn<F: Future<Output = ()> + Send + 'static>(future: F) -> JoinHandle {
        JoinHandle(running().spawn(async {
            future.await;
            // The future has dropped Python objects on this thread, such as that of the result. PyO3 releases them when a
            // thread attaches, which may otherwise be much later.
            deliver(|| {
                Python::try_attach(|_| ());
            });
        }))
    }

    /// Only results are delivered this way.
    fn spawn_blocking<F: FnOnce() + Send + 'static>(call: F) -> JoinHandle {
        let (done, is_done) = oneshot::channel();
        deliver(move || {
            call();
            let _ = done.send(());
        });
        JoinHandle(running().spawn(async {
            let _ = is_done.await;
        }))
    }
}

impl ContextExt for Tokio {
    /// Futures of ours call no Python, so they need neither loop nor context variables.
    fn scope<F, R>(_: TaskLocals, future: F) -> Pin<Box<dyn Future<Output = R> + Send>>
    where
        F: Future<Output = R> + Send + 'static,
    {
        Box::pin(future)
    }

    fn get_task_locals() -> Option<TaskLocals> {
        None
    }
}

/// Waits for a task.
pub(crate) struct JoinHandle(task::JoinHandle<()>);

impl Future for JoinHandle {
    type Output = Result<(), JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(JoinError)
    }
}

/// Why a task has no result.
pub(crate) struct JoinError(task::JoinError);

impl generic::JoinError for JoinError {
    fn is_panic(&self) -> bool {
        self.0.is_panic()
    }

    fn into_panic(self) -> Box<dyn std::any::Any + Send + 'static> {
        self.0.into_panic()
    }
}
