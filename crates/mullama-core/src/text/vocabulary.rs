//! The vocabulary that the flow needs: llama.cpp's, or a test's.

#![cfg_attr(not(feature = "test-support"), expect(unreachable_pub, reason = "a stage of `testing` shows it"))]

use std::sync::{Arc, OnceLock};

use mullama_ffi::{Error, Model, Sampler, SamplerOptions, Special, TextRules, TokenId};

use crate::chat::dialect::Dialect;
use crate::chat::{Chat, TemplateFailure};
use crate::error::MullamaError;

/// Whether anybody still waits for a prompt. Once it says no, it never says yes again.
pub(crate) type IsWanted = Arc<dyn Fn() -> bool + Send + Sync>;

/// A model's tokens: text to ids, ids to bytes, and the sampler chain over them.
pub trait Vocabulary: Send + Sync + std::fmt::Debug {
    /// Number of tokens.
    fn n_tokens(&self) -> usize;

    /// Tokenizes a text prompt: BOS as the model requires, control tokens parsed. Needs a tokenizer thread.
    ///
    /// # Errors
    /// The error of the tokenizer.
    fn tokenize(&self, text: &str) -> Result<Vec<TokenId>, Error>;

    /// Like [`tokenize`](Self::tokenize), with long text in slices: `go_on` is called before each slice with the number
    /// of tokens so far, and stops the work by returning `false`. Then only the tokens so far are returned.
    ///
    /// # Errors
    /// Those of [`tokenize`](Self::tokenize).
    fn tokenize_while(&self, text: &str, go_on: &mut dyn FnMut(usize) -> bool) -> Result<Vec<TokenId>, Error> {
        if go_on(0) { self.tokenize(text) } else { Ok(Vec::new()) }
    }

    /// Token ids of a chat, through the model's template. While the template renders, `is_wanted` is asked about once per
    /// millisecond whether to go on; `go_on` is asked as in [`tokenize_while`](Self::tokenize_while) afterwards. Needs a
    /// tokenizer thread.
    ///
    /// # Errors
    /// [`MullamaError::ChatTemplate`], also without a template or if nobody wants the rendering any more, and what the
    /// tokenizer refuses.
    fn tokenize_chat(
        &self,
        _chat: &Chat,
        _is_wanted: &IsWanted,
        _go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<TokenId>, MullamaError> {
        Err(MullamaError::ChatTemplate(TemplateFailure::Missing))
    }

    /// Maximum bytes of text that one token can stand for; `None` if the tokenizer may drop text.
    fn longest_piece(&self) -> Option<usize> {
        None
    }

    /// Appends the bytes of a token; a control token has none.
    ///
    /// # Errors
    /// If the token is not in this vocabulary.
    fn piece(&self, token: TokenId, bytes: &mut Vec<u8>) -> Result<(), Error>;

    /// The end-of-generation tokens.
    fn end_tokens(&self) -> Vec<TokenId>;

    /// Creates a sampler chain over this vocabulary.
    ///
    /// # Errors
    /// The error of llama.cpp.
    fn sampler(&self, options: &SamplerOptions) -> Result<Sampler, Error>;
}

/// The vocabulary of a loaded model.
#[derive(Debug)]
pub(crate) struct LlamaVocabulary {
    model: Arc<Model>,
    /// Read with the first chat, because most programs have none.
    dialect: OnceLock<Dialect>,
    /// Read when the first engine starts.
    rules: OnceLock<TextRules>,
}

impl LlamaVocabulary {
    pub(crate) fn new(model: Arc<Model>) -> Self {
        Self { model, dialect: OnceLock::new(), rules: OnceLock::new() }
    }

    /// The model that the vocabulary is part of.
    pub(crate) fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Where texts may be cut into slices for the tokenizer. If the vocabulary cannot be read, they are not cut.
    fn rules(&self) -> &TextRules {
        self.rules.get_or_init(|| {
            TextRules::of(&self.model).unwrap_or_else(|error| {
                tracing::warn!(target: "mullama", %error, "the vocabulary cannot be read; long texts are not cut");
                TextRules::default()
            })
        })
    }

    /// Tokenizes a text, with `go_on` as in [`Vocabulary::tokenize_while`].
    pub(crate) fn tokens(
        &self,
        text: &str,
        special: Special,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<TokenId>, Error> {
        self.model.vocab().tokenize_while(text, special, self.rules(), go_on)
    }

    /// The model's chat templates and the spelling of its control tokens.
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

    fn tokenize_chat(
        &self,
        chat: &Chat,
        is_wanted: &IsWanted,
        go_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<TokenId>, MullamaError> {
        self.dialect()?.tokens(chat, self, is_wanted, go_on)
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
