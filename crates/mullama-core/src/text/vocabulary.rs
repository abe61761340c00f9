//! What the flow needs to know of a model's tokens, be it llama.cpp's or a test's.

#![cfg_attr(not(feature = "test-support"), expect(unreachable_pub, reason = "a stage of `testing` shows it"))]

use std::sync::{Arc, OnceLock};

use mullama_ffi::{Error, Model, Sampler, SamplerOptions, TokenId};

use crate::chat::dialect::Dialect;
use crate::chat::{Chat, TemplateFailure};
use crate::error::MullamaError;

/// A model's tokens: text to ids, ids to bytes, and the sampler chain over them.
pub trait Vocabulary: Send + Sync + std::fmt::Debug {
    /// How many tokens there are.
    fn n_tokens(&self) -> usize;

    /// Token ids of a raw prompt: BOS as the model says, control tokens parsed. Needs a big stack.
    ///
    /// # Errors
    /// What the tokenizer refuses.
    fn tokenize(&self, text: &str) -> Result<Vec<TokenId>, Error>;

    /// Token ids of a chat, through the model's template. Needs a big stack.
    ///
    /// # Errors
    /// [`MullamaError::ChatTemplate`], also without a template, and what the tokenizer refuses.
    fn tokenize_chat(&self, _chat: &Chat) -> Result<Vec<TokenId>, MullamaError> {
        Err(MullamaError::ChatTemplate(TemplateFailure::Missing))
    }

    /// Appends the bytes of a token; a control token has none.
    ///
    /// # Errors
    /// If the token is not of this vocabulary.
    fn piece(&self, token: TokenId, bytes: &mut Vec<u8>) -> Result<(), Error>;

    /// The tokens that end a generation.
    fn end_tokens(&self) -> Vec<TokenId>;

    /// A sampler chain over this vocabulary.
    ///
    /// # Errors
    /// What llama.cpp refuses.
    fn sampler(&self, options: &SamplerOptions) -> Result<Sampler, Error>;
}

/// The vocabulary inside a loaded model.
#[derive(Debug)]
pub(crate) struct LlamaVocabulary {
    model: Arc<Model>,
    /// Read when the first chat comes: most programs have none.
    dialect: OnceLock<Dialect>,
}

impl LlamaVocabulary {
    pub(crate) fn new(model: Arc<Model>) -> Self {
        Self { model, dialect: OnceLock::new() }
    }

    /// The weights that the vocabulary is part of.
    pub(crate) fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// How the model talks.
    pub(crate) fn dialect(&self) -> Result<&Dialect, MullamaError> {
        if let Some(dialect) = self.dialect.get() {
            return Ok(dialect);
        }
        let dialect = Dialect::of(&self.model)?;
        Ok(self.dialect.get_or_init(|| dialect))
    }
}

impl Vocabulary for LlamaVocabulary {
    fn n_tokens(&self) -> usize {
        self.model.vocab().n_tokens()
    }

    fn tokenize(&self, text: &str) -> Result<Vec<TokenId>, Error> {
        self.model.vocab().tokenize_on_this_thread(text, true, true)
    }

    fn tokenize_chat(&self, chat: &Chat) -> Result<Vec<TokenId>, MullamaError> {
        self.dialect()?.tokens(chat, &self.model)
    }

    fn piece(&self, token: TokenId, bytes: &mut Vec<u8>) -> Result<(), Error> {
        self.model.vocab().piece(token, false, bytes)
    }

    fn end_tokens(&self) -> Vec<TokenId> {
        self.model.vocab().eog_tokens()
    }

    fn sampler(&self, options: &SamplerOptions) -> Result<Sampler, Error> {
        Sampler::new(options, &self.model)
    }
}
