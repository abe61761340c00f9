//! A prompt of JavaScript as the core's: text, token ids or messages.

use mullama::{MullamaError, PromptFailure, TokenId};
use napi_derive::napi;

use crate::chat::{self, Written};
use crate::error::Failure;
use crate::model::Model;

/// A prompt that a stream can be opened with, once.
#[napi]
pub(crate) struct Prompt(Option<Asked>);

enum Asked {
    Prompt(mullama::Prompt),
    /// More token ids than any context has room for; they were not converted.
    TooMany(usize),
}

impl Prompt {
    /// The prompt for a context of this length. What is wrong with it is reported by the stream.
    pub(crate) fn take(&mut self, context_len: usize) -> Option<mullama::Prompt> {
        Some(match self.0.take()? {
            Asked::Prompt(prompt) => prompt,
            Asked::TooMany(prompt_tokens) => {
                refused(MullamaError::ContextOverflow { prompt_tokens, is_lower_bound: false, context_len })
            }
        })
    }
}

fn refused(error: MullamaError) -> mullama::Prompt {
    mullama::Prompt::Refused(Box::new(error))
}

fn asked(prompt: impl Into<mullama::Prompt>) -> Prompt {
    Prompt(Some(Asked::Prompt(prompt.into())))
}

#[napi]
impl Prompt {
    /// A text, which has no lone surrogates.
    #[napi(factory)]
    pub fn text(text: String) -> Self {
        asked(text)
    }

    /// A text with a lone surrogate at this index.
    #[napi(factory)]
    pub fn lone_surrogate(position: u32) -> Self {
        let failure = PromptFailure::LoneSurrogate { position: position as usize };
        Self(Some(Asked::Prompt(refused(failure.into()))))
    }

    /// Token ids: whole numbers, which need not be in the vocabulary.
    #[napi(factory)]
    pub fn tokens(model: &Model, ids: &[f64]) -> Result<Self, Failure> {
        let n_vocab = model.get()?.n_vocab();
        Ok(match read_ids(ids, n_vocab) {
            Ok(tokens) => asked(tokens),
            Err(failure) => Self(Some(Asked::Prompt(refused(failure.into())))),
        })
    }

    /// So many token ids that they cannot fit into any context.
    #[napi(factory)]
    pub fn too_many(count: u32) -> Self {
        Self(Some(Asked::TooMany(count as usize)))
    }

    /// Messages for the model's template, as JSON with long texts beside it.
    #[napi(factory)]
    pub fn chat(chat: Written) -> Result<Self, Failure> {
        chat::read(chat).map(asked)
    }

    /// Messages of which one has a lone surrogate.
    #[napi(factory)]
    pub fn surrogate_in_message() -> Self {
        asked(refused(PromptFailure::SurrogateInMessage.into()))
    }
}

impl From<mullama::Prompt> for Prompt {
    fn from(prompt: mullama::Prompt) -> Self {
        asked(prompt)
    }
}

/// The ids of a vocabulary of `n_vocab` tokens.
pub(crate) fn read_ids(ids: &[f64], n_vocab: usize) -> Result<Vec<TokenId>, PromptFailure> {
    let id = |(position, id): (usize, &f64)| {
        #[expect(clippy::cast_possible_truncation, reason = "what does not fit is compared below")]
        let token = *id as TokenId;
        if f64::from(token).to_bits() != id.to_bits() && *id != 0.0 {
            return Err(PromptFailure::HugeToken { token: id.to_string(), position });
        }
        if usize::try_from(token).is_ok_and(|token| token < n_vocab) {
            return Ok(token);
        }
        Err(PromptFailure::UnknownToken { token, position, n_vocab })
    };
    ids.iter().enumerate().map(id).collect()
}
