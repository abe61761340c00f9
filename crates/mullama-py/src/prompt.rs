//! A Python prompt as the core's: text, token ids or messages.

use mullama::{Chat as CoreChat, Context, DynamicValue, MullamaError, Numeral, Prompt, PromptFailure, TokenId};
use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

use mullama_py_common::settings::Value;

/// How many token ids are converted between two checks for signals, which also let other threads run.
const IDS_PER_SLICE: usize = 16_384;

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

/// The prompt. A wrong type is a `TypeError`; the stream reports a wrong value of the right type.
pub(crate) fn read(value: &Value<'_>, context: &Context) -> PyResult<Prompt> {
    let refused = |error: MullamaError| Prompt::Refused(Box::new(error));
    if let Ok(chat) = value.0.cast::<Chat>() {
        return Ok(chat.get().0.clone().map_or_else(|failure| refused(failure.into()), Prompt::from));
    }
    if let Ok(string) = value.0.cast::<PyString>() {
        return Ok(text(string).map_or_else(|failure| refused(failure.into()), Prompt::from));
    }
    if value.items()?.is_none() {
        return Err(value.mistyped("prompt", "a str or a sequence of token ids"));
    }
    let context_len = context.context_len().map_err(|error| value.raised(error))?;
    let ids = Ids { name: "prompt", n_vocab: context.model().n_vocab(), context_len: Some(context_len) };
    Ok(ids.read(value)?.map_or_else(refused, Prompt::from))
}

/// The text of a string.
pub(crate) fn text<'a>(string: &'a Bound<'_, PyString>) -> Result<&'a str, PromptFailure> {
    string.to_str().map_err(|error| {
        let position = error.value(string.py()).getattr("start").and_then(|start| start.extract());
        PromptFailure::LoneSurrogate { position: position.unwrap_or(0) }
    })
}

/// An argument that holds token ids.
pub(crate) struct Ids {
    pub(crate) name: &'static str,
    pub(crate) n_vocab: usize,
    /// As many tokens or more are a [`MullamaError::ContextOverflow`]. `None` if they are to be detokenized.
    pub(crate) context_len: Option<usize>,
}

impl Ids {
    /// The ids of a sequence. Its length is checked first, and the first wrong id ends the conversion.
    pub(crate) fn read(&self, value: &Value<'_>) -> PyResult<Result<Vec<TokenId>, MullamaError>> {
        let items = value.items()?.ok_or_else(|| value.mistyped(self.name, "a sequence of token ids"))?;
        if let Some(error) = value.count()?.and_then(|prompt_tokens| self.overflow(prompt_tokens)) {
            return Ok(Err(error));
        }
        let mut tokens = Vec::new();
        for (position, item) in items.enumerate() {
            if position % IDS_PER_SLICE == IDS_PER_SLICE - 1 {
                value.0.py().check_signals()?;
                value.0.py().detach(|| ());
            }
            match self.id(&item?, position)? {
                Ok(token) => {
                    tokens.try_reserve(1).map_err(|error| PyMemoryError::new_err(error.to_string()))?;
                    tokens.push(token);
                }
                Err(failure) => return Ok(Err(failure.into())),
            }
            // A sequence may hold more than its length says.
            if let Some(error) = self.overflow(tokens.len()) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(tokens))
    }

    fn overflow(&self, prompt_tokens: usize) -> Option<MullamaError> {
        let Some(context_len) = self.context_len else { return mullama::Model::check_detokenized(prompt_tokens).err() };
        let overflow = MullamaError::ContextOverflow { prompt_tokens, is_lower_bound: false, context_len };
        (prompt_tokens >= context_len).then_some(overflow)
    }

    fn id(&self, item: &Value<'_>, position: usize) -> PyResult<Result<TokenId, PromptFailure>> {
        match item.number()? {
            Numeral::Value(token) if usize::try_from(token).is_ok_and(|token| token < self.n_vocab) => Ok(Ok(token)),
            Numeral::Value(token) => Ok(Err(PromptFailure::UnknownToken { token, position, n_vocab: self.n_vocab })),
            Numeral::TooLarge => Ok(Err(PromptFailure::HugeToken { token: item.shown()?, position })),
            Numeral::NotANumber => Err(item.mistyped(&format!("{}[{position}]", self.name), "an int token id")),
        }
    }
}
