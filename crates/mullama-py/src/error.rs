//! Every error of the core as its Python exception, with the facts as attributes.

use std::sync::atomic::{AtomicBool, Ordering};

use mullama::{Fact, MullamaError, StreamFailure};
use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;

/// Whether the interpreter is about to end. All threads that still run Python then are daemons.
static EXITING: AtomicBool = AtomicBool::new(false);

/// Says that the interpreter is about to end.
pub(crate) fn begin_exit() {
    EXITING.store(true, Ordering::Relaxed);
}

/// The Python exception of an error.
pub(crate) fn to_py(py: Python<'_>, error: &MullamaError) -> PyErr {
    raise(py, error).unwrap_or_else(|failed| failed)
}

fn raise(py: Python<'_>, error: &MullamaError) -> PyResult<PyErr> {
    if EXITING.load(Ordering::Relaxed) && is_of_an_ended_engine(error) && is_daemon(py)? {
        // Ends the thread without a traceback: the engine is gone because the program is over.
        return Ok(PySystemExit::new_err(()));
    }
    let raised = py.import("mullama._exceptions")?.getattr(class(error))?.call1((error.message(),))?;
    for (name, fact) in error.facts() {
        match fact {
            Fact::Text(text) => raised.setattr(name, text)?,
            Fact::Number(number) => raised.setattr(name, number)?,
            Fact::Flag(flag) => raised.setattr(name, flag)?,
            Fact::Path(path) => raised.setattr(name, path)?,
            _ => raised.setattr(name, py.None())?,
        }
    }
    Ok(PyErr::from_value(raised))
}

fn is_of_an_ended_engine(error: &MullamaError) -> bool {
    matches!(error, MullamaError::Closed { .. } | MullamaError::StreamingError(StreamFailure::EngineEnded))
}

fn is_daemon(py: Python<'_>) -> PyResult<bool> {
    py.import("threading")?.call_method0("current_thread")?.getattr("daemon")?.extract()
}

/// `StreamBusyError`. The core needs no such error: there the type system allows one reader only.
pub(crate) fn stream_busy(py: Python<'_>) -> PyErr {
    let class = py.import("mullama._exceptions").and_then(|module| module.getattr("StreamBusyError"));
    let message = "another read of this stream is under way; a stream has one reader at a time";
    let raised = class.and_then(|class| class.call1((message,)));
    raised.map_or_else(|failed| failed, PyErr::from_value)
}

/// The name of the class. There is no `_` arm, so a new error does not compile until Python has a class for it.
fn class(error: &MullamaError) -> &'static str {
    use MullamaError as E;
    match error {
        E::ModelNotFound { .. } => "ModelNotFoundError",
        E::ModelLoad { .. } => "ModelLoadError",
        E::InvalidConfig { .. } => "InvalidConfigError",
        E::InvalidPrompt(_) => "InvalidPromptError",
        E::ChatTemplate(_) => "ChatTemplateError",
        E::ContextOverflow { .. } => "ContextOverflowError",
        E::Overloaded { .. } | E::PromptsOverloaded { .. } => "OverloadedError",
        E::StreamTimeout { .. } => "StreamTimeoutError",
        E::StreamingError(_) => "GenerationError",
        E::Closed { .. } => "EngineClosedError",
    }
}
