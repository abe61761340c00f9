//! A Python prompt as the core's: text or token ids.

use mullama::{Chat as CoreChat, Prompt, TokenId};
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString};

use crate::error::invalid_prompt;
use crate::settings::{items, mistyped, shown};

/// Messages for a model's template, as JSON that the package has made.
#[pyclass(frozen)]
pub(crate) struct Chat(pub(crate) CoreChat);

#[pymethods]
impl Chat {
    #[new]
    fn new(json: &Bound<'_, PyString>) -> PyResult<Self> {
        let chat = serde_json::from_str(text(json)?);
        chat.map(Self).map_err(|error| PyValueError::new_err(error.to_string()))
    }
}

/// The prompt, or the `InvalidPromptError` that says why a value of the right type is none: a lone surrogate is no
/// text, and a huge number no token id. A wrong type is a `TypeError` at once.
pub(crate) fn read(value: &Bound<'_, PyAny>) -> PyResult<Result<Prompt, PyErr>> {
    if let Ok(chat) = value.cast::<Chat>() {
        return Ok(Ok(chat.get().0.clone().into()));
    }
    match value.cast::<PyString>() {
        Ok(string) => Ok(text(string).map(Prompt::from)),
        Err(_) if items(value).is_none() => Err(mistyped("prompt", "a str or a sequence of token ids", value)),
        Err(_) => Ok(token_ids("prompt", value)?.map(Prompt::from)),
    }
}

/// The text of a string.
pub(crate) fn text<'a>(string: &'a Bound<'_, PyString>) -> PyResult<&'a str> {
    string.to_str().map_err(|error| {
        let py = string.py();
        match error.value(py).getattr("start").and_then(|start| start.extract()) {
            Ok(at) => invalid_prompt(py, &format!("character {at} is a lone surrogate, which is no text"), at),
            Err(error) => error,
        }
    })
}

/// Token ids of a sequence of integers.
pub(crate) fn token_ids(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Result<Vec<TokenId>, PyErr>> {
    let items = items(value).ok_or_else(|| mistyped(name, "a sequence of token ids", value))?;
    let mut tokens = Vec::new();
    for (position, item) in items.enumerate() {
        let item = item?;
        let token: PyResult<TokenId> = item.extract();
        match token {
            Ok(token) if !item.is_instance_of::<PyBool>() => tokens.push(token),
            Err(error) if error.is_instance_of::<PyOverflowError>(item.py()) => {
                let reason = format!("token {} at position {position} is outside every vocabulary", shown(&item));
                return Ok(Err(invalid_prompt(item.py(), &reason, position)));
            }
            _ => return Err(mistyped(&format!("{name}[{position}]"), "an int token id", &item)),
        }
    }
    Ok(Ok(tokens))
}
