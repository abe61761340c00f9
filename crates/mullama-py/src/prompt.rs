//! A Python prompt as the core's: text or token ids.

use mullama::{Prompt, TokenId};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString};

use crate::error::invalid_prompt;
use crate::settings::{items, shown};

/// Why a value of the right type is no prompt: a lone surrogate is no text, and a huge number no token id.
#[derive(Debug)]
pub(crate) struct Refusal {
    reason: String,
    position: usize,
}

impl Refusal {
    /// The `InvalidPromptError` that tells it.
    pub(crate) fn to_py(&self, py: Python<'_>) -> PyErr {
        invalid_prompt(py, &self.reason, self.position)
    }
}

/// The prompt, or why it is none. A wrong type is a `TypeError`.
pub(crate) fn read(value: &Bound<'_, PyAny>) -> PyResult<Result<Prompt, Refusal>> {
    match value.cast::<PyString>() {
        Ok(string) => Ok(text(string)?.map(Prompt::from)),
        Err(_) => Ok(token_ids("prompt", value)?.map(Prompt::from)),
    }
}

/// The text of a string, unless it has a lone surrogate.
pub(crate) fn text<'a>(string: &'a Bound<'_, PyString>) -> PyResult<Result<&'a str, Refusal>> {
    let error = match string.to_str() {
        Ok(text) => return Ok(Ok(text)),
        Err(error) => error,
    };
    let position = error.value(string.py()).getattr("start")?.extract()?;
    Ok(Err(Refusal { reason: format!("character {position} is a lone surrogate, which is no text"), position }))
}

/// Token ids of a sequence of integers, unless one does not fit an id.
pub(crate) fn token_ids(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Result<Vec<TokenId>, Refusal>> {
    let text = if name == "prompt" { "a str or " } else { "" };
    let Some(items) = items(value) else {
        return Err(mistyped(name, &format!("{text}a sequence of int token ids"), value));
    };
    let mut tokens = Vec::new();
    for (position, item) in items.enumerate() {
        let item = item?;
        match item.extract() {
            Ok(token) if !item.is_instance_of::<PyBool>() => tokens.push(token),
            Err(error) if error.is_instance_of::<PyOverflowError>(item.py()) => {
                let reason = format!("token {} at position {position} is outside every vocabulary", shown(&item));
                return Ok(Err(Refusal { reason, position }));
            }
            _ => return Err(mistyped(&format!("{name}[{position}]"), "an int token id", &item)),
        }
    }
    Ok(Ok(tokens))
}

fn mistyped(name: &str, wanted: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let kind = value.get_type().name();
    kind.map_or_else(|error| error, |kind| PyTypeError::new_err(format!("{name} must be {wanted}, not {kind}")))
}
