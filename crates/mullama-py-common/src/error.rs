//! Turns every error of the core into its Python exception, with the facts as attributes.

use std::sync::atomic::{AtomicBool, Ordering};

use mullama::{Fact, MullamaError as E, StreamFailure};
use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

/// Whether the interpreter is about to end. All threads that still run Python then are daemons.
static EXITING: AtomicBool = AtomicBool::new(false);

/// Says that the interpreter is about to end: nothing can be imported later.
pub(crate) fn begin_exit(py: Python<'_>) {
    let _ = exception(py, "MullamaError", "");
    EXITING.store(true, Ordering::Relaxed);
}

/// The Python exception of an error.
pub fn to_py(py: Python<'_>, error: &E) -> PyErr {
    raise(py, error).unwrap_or_else(|failed| failed)
}

fn raise(py: Python<'_>, error: &E) -> PyResult<PyErr> {
    let is_daemon = || py.import("threading")?.call_method0("current_thread")?.getattr("daemon")?.extract();
    let engine_ended = matches!(error, E::Closed { .. } | E::StreamingError(StreamFailure::EngineEnded));
    if EXITING.load(Ordering::Relaxed) && engine_ended && is_daemon().unwrap_or(false) {
        // Ends the thread without a traceback: the engine is gone because the program is over.
        return Ok(PySystemExit::new_err(()));
    }
    let raised = exception(py, error.class(), &error.message())?;
    for (name, fact) in error.facts() {
        match fact {
            Fact::Text(text) => raised.setattr(name, text)?,
            Fact::Texts(texts) => raised.setattr(name, PyTuple::new(py, texts)?)?,
            Fact::Number(number) => raised.setattr(name, number)?,
            Fact::Flag(flag) => raised.setattr(name, flag)?,
            Fact::Path(path) => raised.setattr(name, path)?,
            _ => raised.setattr(name, py.None())?,
        }
    }
    Ok(PyErr::from_value(raised))
}

/// An exception of the package.
fn exception<'py>(py: Python<'py>, class: &str, message: &str) -> PyResult<Bound<'py, PyAny>> {
    static CLASSES: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    CLASSES.import(py, "mullama._exceptions", "CLASSES")?.get_item(class)?.call1((message,))
}

/// `StreamBusyError`. The core needs no such error: there the type system allows one reader only.
pub fn stream_busy(py: Python<'_>) -> PyErr {
    let message = "another read of this stream is under way; a stream has one reader at a time";
    exception(py, "StreamBusyError", message).map_or_else(|failed| failed, PyErr::from_value)
}
