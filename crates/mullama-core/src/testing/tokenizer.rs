//! The byte vocabulary with a tokenizer that a test scripts: it can wait, count, or panic.

use std::fmt;

use mullama_ffi::{Error, Sampler, SamplerOptions, TokenId};

use crate::kv::scripted::ByteVocabulary;
use crate::text::vocabulary::Vocabulary;

type Tokenize = dyn Fn(&str, &mut dyn FnMut(usize) -> bool) -> Vec<TokenId> + Send + Sync;

/// [`ByteVocabulary`] with another tokenizer.
pub struct ScriptedTokenizer {
    tokenize: Box<Tokenize>,
    longest_piece: Option<usize>,
}

impl ScriptedTokenizer {
    /// Creates a vocabulary whose tokenizer is the script; the script passes the number of tokens so far to its
    /// callback, which decides whether to continue.
    pub fn new(tokenize: impl Fn(&str, &mut dyn FnMut(usize) -> bool) -> Vec<TokenId> + Send + Sync + 'static) -> Self {
        Self { tokenize: Box::new(tokenize), longest_piece: None }
    }

    /// Sets the maximum number of bytes of text that a token stands for.
    #[must_use]
    pub fn longest_piece(mut self, bytes: usize) -> Self {
        self.longest_piece = Some(bytes);
        self
    }
}

impl fmt::Debug for ScriptedTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedTokenizer").field("longest_piece", &self.longest_piece).finish_non_exhaustive()
    }
}

impl Vocabulary for ScriptedTokenizer {
    fn n_tokens(&self) -> usize {
        ByteVocabulary.n_tokens()
    }

    fn tokenize(&self, text: &str) -> Result<Vec<TokenId>, Error> {
        self.tokenize_while(text, &mut |_| true)
    }

    fn tokenize_while(&self, text: &str, go_on: &mut dyn FnMut(usize) -> bool) -> Result<Vec<TokenId>, Error> {
        Ok((self.tokenize)(text, go_on))
    }

    fn longest_piece(&self) -> Option<usize> {
        self.longest_piece
    }

    fn piece(&self, token: TokenId, bytes: &mut Vec<u8>) -> Result<(), Error> {
        ByteVocabulary.piece(token, bytes)
    }

    fn end_tokens(&self) -> Vec<TokenId> {
        ByteVocabulary.end_tokens()
    }

    fn sampler(&self, options: &SamplerOptions) -> Result<Sampler, Error> {
        ByteVocabulary.sampler(options)
    }
}
