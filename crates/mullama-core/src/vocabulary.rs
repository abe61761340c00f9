//! What the flow needs to know of a model's tokens, be it llama.cpp's or a test's.

#![cfg_attr(not(feature = "test-support"), expect(unreachable_pub, reason = "a stage of `testing` shows it"))]

use std::sync::Arc;

use mullama_ffi::{Error, Model, Sampler, SamplerOptions, TokenId};

/// A model's tokens: text to ids, ids to bytes, and the sampler chain over them.
pub trait Vocabulary: Send + Sync + std::fmt::Debug {
    /// How many tokens there are.
    fn n_tokens(&self) -> usize;

    /// Token ids of a raw prompt: BOS as the model says, control tokens parsed. Needs a big stack.
    ///
    /// # Errors
    /// What the tokenizer refuses.
    fn tokenize(&self, text: &str) -> Result<Vec<TokenId>, Error>;

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
pub(crate) struct LlamaVocabulary(pub(crate) Arc<Model>);

impl Vocabulary for LlamaVocabulary {
    fn n_tokens(&self) -> usize {
        self.0.vocab().n_tokens()
    }

    fn tokenize(&self, text: &str) -> Result<Vec<TokenId>, Error> {
        self.0.vocab().tokenize_on_this_thread(text, true, true)
    }

    fn piece(&self, token: TokenId, bytes: &mut Vec<u8>) -> Result<(), Error> {
        self.0.vocab().piece(token, false, bytes)
    }

    fn end_tokens(&self) -> Vec<TokenId> {
        self.0.vocab().eog_tokens()
    }

    fn sampler(&self, options: &SamplerOptions) -> Result<Sampler, Error> {
        Sampler::new(options, &self.0)
    }
}
