//! Calls that an event loop awaits.

use std::future::Future;

use mullama::{BackgroundWork, MullamaError, StreamFailure};
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;
use pyo3_async_runtimes::{TaskLocals, generic};
use tokio::sync::oneshot;

use crate::runtime::{self, Tokio};

/// A future of this event loop for `work`, whose result `convert` makes a Python object of. Cancelling the future drops `work`.
///
/// The loop is an object with `create_future` and `call_soon_threadsafe`.
///
/// # Errors
///
/// What the loop raises; [`refused`](crate::to_py) if the system refuses the threads or descriptors of the runtime.
pub fn awaitable<'py, T: Send + 'static>(
    event_loop: &Bound<'py, PyAny>,
    work: impl Future<Output = Result<T, MullamaError>> + Send + 'static,
    convert: impl FnOnce(Python<'_>, Result<T, MullamaError>) -> PyResult<Py<PyAny>> + Send + 'static,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    runtime::started().map_err(|error| crate::to_py(py, &MullamaError::no_thread(error)))?;
    let future = async move {
        let outcome = work.await;
        Ok(Late(move |py: Python<'_>| convert(py, outcome)))
    };
    generic::future_into_py_with_locals::<Tokio, _, _>(py, TaskLocals::new(event_loop.clone()), future)
}

/// A Python object that is made when it is delivered, by a thread that is attached.
struct Late<F>(F);

impl<'py, F: FnOnce(Python<'py>) -> PyResult<Py<PyAny>>> IntoPyObject<'py> for Late<F> {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        (self.0)(py).map(|object| object.into_bound(py)).map_err(|error| settable(py, error))
    }
}

/// No future can raise `StopIteration`.
fn settable(py: Python<'_>, error: PyErr) -> PyErr {
    if !error.is_instance_of::<PyStopIteration>(py) {
        return error;
    }
    let raised = PyRuntimeError::new_err("the progress callback raised StopIteration");
    raised.set_cause(py, Some(error));
    raised
}

/// The result of blocking work on a thread of its own. Dropping the future gives the work up: then it hears `false`.
///
/// # Errors
///
/// If the system refuses a thread.
pub fn in_background<T: Send + 'static>(
    work: impl FnOnce(&mut dyn FnMut(f32) -> bool) -> Result<T, MullamaError> + Send + 'static,
) -> std::io::Result<impl Future<Output = Result<T, MullamaError>> + Send + 'static> {
    let (done, outcome) = oneshot::channel();
    let work = BackgroundWork::start(false, move |report| {
        // Nobody listens if the work was given up; its result is dropped here then.
        let _ = done.send(work(report));
        Ok(())
    })?;
    Ok(async move {
        let _given_up_when_dropped = work;
        // A thread that panics sends nothing.
        outcome.await.unwrap_or(Err(MullamaError::StreamingError(StreamFailure::EngineEnded)))
    })
}
