//! Every error of the core as its Python exception, facts as attributes.

use std::error::Error;

use mullama::{MullamaError, PromptFailure};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};

/// The Python exception of an error.
pub(crate) fn to_py(py: Python<'_>, error: &MullamaError) -> PyErr {
    let raised = facts(py, error).and_then(|(class, facts)| raise(class, &told(error), &facts));
    raised.unwrap_or_else(|failed| failed)
}

/// `InvalidPromptError` for what the core's types cannot even hold.
pub(crate) fn invalid_prompt(py: Python<'_>, reason: &str, position: usize) -> PyErr {
    let facts = [("reason", reason)].into_py_dict(py);
    let facts = facts.and_then(|facts| facts.set_item("position", position).map(|()| facts));
    let raised = facts.and_then(|facts| raise("InvalidPromptError", &format!("invalid prompt: {reason}"), &facts));
    raised.unwrap_or_else(|failed| failed)
}

fn raise(class: &str, message: &str, facts: &Bound<'_, PyDict>) -> PyResult<PyErr> {
    let raised = facts.py().import("mullama._exceptions")?.getattr(class)?.call1((message,))?;
    raised.getattr("__dict__")?.call_method1("update", (facts,))?;
    Ok(PyErr::from_value(raised))
}

/// Class and attributes. No `_` arm: a new error does not build until Python has an answer.
fn facts<'py>(py: Python<'py>, error: &MullamaError) -> PyResult<(&'static str, Bound<'py, PyDict>)> {
    use MullamaError as E;
    Ok(match error {
        E::ModelNotFound { path } => ("ModelNotFoundError", [("path", path)].into_py_dict(py)?),
        E::ModelLoad { path, source } => {
            let facts = [("path", path)].into_py_dict(py)?;
            facts.set_item("reason", told(source))?;
            ("ModelLoadError", facts)
        }
        E::InvalidConfig { field, value, range } => {
            ("InvalidConfigError", [("field", *field), ("value", value), ("range", range)].into_py_dict(py)?)
        }
        E::InvalidPrompt(failure) => {
            let facts = [("reason", told(failure))].into_py_dict(py)?;
            if let PromptFailure::UnknownToken { token, position, .. } = failure {
                facts.set_item("token", token)?;
                facts.set_item("position", position)?;
            }
            ("InvalidPromptError", facts)
        }
        E::ChatTemplate(failure) => {
            let facts = [("reason", told(failure))].into_py_dict(py)?;
            facts.set_item("line", failure.line())?;
            ("ChatTemplateError", facts)
        }
        E::ContextOverflow { prompt_tokens, context_len } => {
            let facts = [("prompt_tokens", prompt_tokens), ("context_len", context_len)];
            ("ContextOverflowError", facts.into_py_dict(py)?)
        }
        E::Overloaded { unfinished, limit } => {
            ("OverloadedError", [("unfinished", unfinished), ("limit", limit)].into_py_dict(py)?)
        }
        E::StreamTimeout { deadline, limit_ms, completion_tokens } => {
            let facts = [("deadline", deadline.to_string())].into_py_dict(py)?;
            facts.set_item("limit_ms", limit_ms)?;
            facts.set_item("completion_tokens", completion_tokens)?;
            ("StreamTimeoutError", facts)
        }
        E::StreamingError(failure) => ("GenerationError", [("reason", told(failure))].into_py_dict(py)?),
        E::Closed { what } => ("EngineClosedError", [("what", *what)].into_py_dict(py)?),
    })
}

/// An error in words, with the words of its sources where it does not repeat them itself.
fn told(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        source = error.source();
    }
    words
}
