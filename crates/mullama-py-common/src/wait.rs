//! Blocking waits: without the GIL, in slices, so that Ctrl-C is noticed.

use std::future::Future;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use mullama::{BackgroundWork, MullamaError, StreamFailure, WorkEvent};
use pyo3::prelude::*;
use tokio::task::AbortHandle;

use crate::error::to_py;
use crate::progress::wants_more;
use crate::runtime;

/// How long a wait lasts before signals are checked: half of the 100 ms within which Ctrl-C has to end it.
pub const SLICE: Duration = Duration::from_millis(50);

/// The result of `work`, which runs on a thread of its own. A signal handler that raises gives it up: then `work` hears
/// `false`, and its `None` reaches nobody.
///
/// # Errors
///
/// Those of `work`, as Python's exceptions, and what a signal handler raises.
pub fn for_work<T: Default + Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce(&mut dyn FnMut() -> bool) -> Result<Option<T>, MullamaError> + Send + 'static,
) -> PyResult<T> {
    let started = BackgroundWork::start(false, |report| work(&mut || report(0.0)));
    for_started(py, started.map_err(MullamaError::no_thread), None).map(Option::unwrap_or_default)
}

/// The result of work that has been started. `progress` is called on this thread: if it returns `False` the work is told
/// to end; if it raises, the work is given up.
///
/// # Errors
///
/// Those of `started` and of the work, as Python's exceptions, and what `progress` or a signal handler raises.
pub fn for_started<T: Send + 'static>(
    py: Python<'_>,
    started: Result<BackgroundWork<T>, MullamaError>,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<T> {
    let mut work = started.map_err(|error| to_py(py, &error))?;
    loop {
        match py.detach(|| work.wait(SLICE)) {
            WorkEvent::Done(done) => return done.map_err(|error| to_py(py, &error)),
            WorkEvent::Progress(at) if !goes_on(progress, at)? => work.give_up(),
            WorkEvent::Progress(_) | WorkEvent::Pending => py.check_signals()?,
        }
    }
}

fn goes_on(progress: Option<&Bound<'_, PyAny>>, fraction: f32) -> PyResult<bool> {
    let answer = progress.map(|progress| progress.call1((fraction,))).transpose()?;
    Ok(answer.is_none_or(|answer| wants_more(&answer)))
}

/// The result of a future, which runs on the runtime of asynchronous calls. `look` is called on this thread between
/// slices and before the result is returned; if it or a signal handler raises, the future is dropped.
///
/// # Errors
///
/// Those of the future, as Python's exceptions, and what `look` or a signal handler raises.
pub fn for_future<T: Send + 'static>(
    py: Python<'_>,
    future: impl Future<Output = Result<T, MullamaError>> + Send + 'static,
    mut look: impl FnMut(Python<'_>) -> PyResult<()>,
) -> PyResult<T> {
    let runtime = runtime::started().map_err(|error| to_py(py, &MullamaError::no_thread(error)))?;
    let (done, mut outcome) = sync_channel(1);
    let task = runtime.spawn(async move {
        let _ = done.send(future.await);
    });
    let _aborted_when_left = Aborted(task.abort_handle());
    loop {
        // The receiver of std is not `Sync`, so it is lent and not shared.
        let receiver = &mut outcome;
        match py.detach(move || receiver.recv_timeout(SLICE)) {
            Ok(result) => {
                look(py)?;
                return result.map_err(|error| to_py(py, &error));
            }
            Err(RecvTimeoutError::Timeout) => {
                py.check_signals()?;
                look(py)?;
            }
            // The task has panicked.
            Err(RecvTimeoutError::Disconnected) => {
                return Err(to_py(py, &MullamaError::StreamingError(StreamFailure::EngineEnded)));
            }
        }
    }
}

/// Ends a task when it is dropped.
struct Aborted(AbortHandle);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}
