//! Every error of the core as its Python exception, facts as attributes.

use mullama::{Fact, MullamaError};
use pyo3::prelude::*;

/// The Python exception of an error.
pub(crate) fn to_py(py: Python<'_>, error: &MullamaError) -> PyErr {
    raise(py, error).unwrap_or_else(|failed| failed)
}

fn raise(py: Python<'_>, error: &MullamaError) -> PyResult<PyErr> {
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

/// `StreamBusyError`. The core needs no such error: there the type system allows one reader only.
pub(crate) fn stream_busy(py: Python<'_>) -> PyErr {
    let class = py.import("mullama._exceptions").and_then(|module| module.getattr("StreamBusyError"));
    let message = "another read of this stream is under way; a stream has one reader at a time";
    let raised = class.and_then(|class| class.call1((message,)));
    raised.map_or_else(|failed| failed, PyErr::from_value)
}

/// The class. No `_` arm: a new error does not build until Python has an answer.
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
