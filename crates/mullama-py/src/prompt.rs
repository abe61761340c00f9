//! A Python prompt as the core's: text or token ids.

use mullama::{Chat as CoreChat, Prompt, PromptFailure, TokenId};
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString};

use crate::settings::{items, mistyped, shown};

/// Messages for a model's template, as JSON that the package has made.
#[pyclass(frozen)]
pub(crate) struct Chat(pub(crate) Result<CoreChat, PromptFailure>);

#[pymethods]
impl Chat {
    #[new]
    fn new(json: &Bound<'_, PyString>) -> PyResult<Self> {
        let Ok(json) = json.to_str() else { return Ok(Self(Err(PromptFailure::SurrogateInMessage))) };
        let chat = serde_json::from_str(json).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self(Ok(chat)))
    }
}

/// The prompt. A value of the right type that is none all the same is told by the stream; a wrong type is a `TypeError`.
pub(crate) fn read(value: &Bound<'_, PyAny>) -> PyResult<Prompt> {
    if let Ok(chat) = value.cast::<Chat>() {
        return Ok(chat.get().0.clone().map_or_else(refused, Prompt::from));
    }
    let prompt = match value.cast::<PyString>() {
        Ok(string) => text(string).map(Prompt::from),
        Err(_) if items(value).is_none() => return Err(mistyped("prompt", "a str or a sequence of token ids", value)),
        Err(_) => token_ids("prompt", value)?.map(Prompt::from),
    };
    Ok(prompt.unwrap_or_else(refused))
}

fn refused(failure: PromptFailure) -> Prompt {
    Prompt::Refused(Box::new(failure.into()))
}

/// The text of a string.
pub(crate) fn text<'a>(string: &'a Bound<'_, PyString>) -> Result<&'a str, PromptFailure> {
    string.to_str().map_err(|error| {
        let position = error.value(string.py()).getattr("start").and_then(|start| start.extract());
        PromptFailure::LoneSurrogate { position: position.unwrap_or(0) }
    })
}

/// Token ids of a sequence of integers.
pub(crate) fn token_ids(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Result<Vec<TokenId>, PromptFailure>> {
    let items = items(value).ok_or_else(|| mistyped(name, "a sequence of token ids", value))?;
    let mut tokens = Vec::new();
    for (position, item) in items.enumerate() {
        let item = item?;
        let token: PyResult<TokenId> = item.extract();
        match token {
            Ok(token) if !item.is_instance_of::<PyBool>() => tokens.push(token),
            Err(error) if error.is_instance_of::<PyOverflowError>(item.py()) => {
                return Ok(Err(PromptFailure::HugeToken { token: shown(&item), position }));
            }
            _ => return Err(mistyped(&format!("{name}[{position}]"), "an int token id", &item)),
        }
    }
    Ok(Ok(tokens))
}
