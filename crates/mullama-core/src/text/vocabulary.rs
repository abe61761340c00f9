//! What the flow needs to know of a model's tokens: llama.cpp's, or a test's.

#![cfg_attr(not(feature = "test-support"), expect(unreachable_pub, reason = "a stage of `testing` shows it"))]

use std::sync::{Arc, OnceLock};

use mullama_ffi::{Error, Model, Sampler, SamplerOptions, Special, TextRules, TokenId};

use crate::chat::dialect::Dialect;
use crate::chat::{Chat, TemplateFailure};
use crate::error::MullamaError;

/// A model's tokens: text to ids, ids to bytes, and the sampler chain over them.
pub trait Vocabulary: Send + Sync + std::fmt::Debug {
    /// How many tokens there are.
    fn n_tokens(&self) -> usize;

    /// Token ids of a raw prompt: BOS as the model says, control tokens parsed. Needs a tokenizer thread.
    ///
    /// # Errors
    /// What the tokenizer refuses.
    fn tokenize(&self, text: &str) -> Result<Vec<TokenId>, Error>;

    /// As [`tokenize`](Self::tokenize), a long text in slices: `go_on` is asked before each with the number of tokens so
    /// far, and ends the work by returning `false`. Then these are all that is returned.
    ///
    /// # Errors
    /// As [`tokenize`](Self::tokenize).
    fn tokenize_while(&self, text: &str, go_on: &mut dyn FnMut(usize) -> bool) -> Result<Vec<TokenId>, Error> {
        if go_on(0) { self.tokenize(text) } else { Ok(Vec::new()) }
    }

    /// Token ids of a chat, through the model's template, with `go_on` as in [`tokenize_while`](Self::tokenize_while).
    /// Needs a tokenizer thread.
    ///
    /// # Errors
    /// [`MullamaError::ChatTemplate`], also without a template, and what the tokenizer refuses.
    fn tokenize_chat(&self, _chat: &Chat, _go_on: &mut dyn FnMut(usize) -> bool) -> Result<Vec<TokenId>, MullamaError> {
        Err(MullamaError::ChatTemplate(TemplateFailure::Missing))
    }

    /// Most bytes of text that one token can stand for; `None` where the tokenizer may drop text.
    fn longest_piece(&self) -> Option<usize> {
        None
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
    /// Read when the first engine starts.
    rules: OnceLock<TextRules>,
}

impl LlamaVocabulary {
    pub(crate) fn new(model: Arc<Model>) -> Self {
        Self { model, dialect: OnceLock::new(), rules: OnceLock::new() }
    }

    /// The weights that the vocabulary is part of.
    pub(crate) fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Where texts may be cut for the tokenizer. If the vocabulary cannot be read, they are not cut.
    fn rules(&self) -> &TextRules {
        self.rules.get_or_init(|| {
            TextRules::of(&self.model).unwrap_or_else(|error| {
                tracing::warn!(target: "mullama", %error, "the vocabulary cannot be read; long texts are not cut");
                TextRules::default()
            })
        })
    }

    /// Token ids of a text, with `go_on` as in [`Vocabulary::tokenize_while`].
    pub(crate) fn tokens(
        &self,
        text: &str,
        special: Special,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<TokenId>, Error> {
        self.model.vocab().tokenize_while(text, special, self.rules(), go_on)
    }

    /// The model's chat templates and how its control tokens are spelled.
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
        self.tokenize_while(text, &mut |_| true)
    }

    fn tokenize_while(&self, text: &str, go_on: &mut dyn FnMut(usize) -> bool) -> Result<Vec<TokenId>, Error> {
        self.tokens(text, Special { add: true, parse: true }, go_on)
    }

    fn tokenize_chat(&self, chat: &Chat, go_on: &mut dyn FnMut(usize) -> bool) -> Result<Vec<TokenId>, MullamaError> {
        self.dialect()?.tokens(chat, self, go_on)
    }

    fn longest_piece(&self) -> Option<usize> {
        self.rules().longest_piece()
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
