//! A model's vocabulary: how its tokens are spelled, which of them are special, and what text each stands for.

use std::ffi::{CStr, c_char};
use std::ptr;

use crate::error::{Error, check};
use crate::model::{Model, some_token};
use crate::sys;
use crate::token::TokenId;

// llama_vocab_type.
const KIND_NONE: i32 = 0;
pub(crate) const KIND_SPM: i32 = 1;
pub(crate) const KIND_BPE: i32 = 2;
pub(crate) const KIND_WPM: i32 = 3;
pub(crate) const KIND_RWKV: i32 = 5;

/// Facts about a vocabulary, read once when the model is loaded.
#[derive(Debug)]
pub(crate) struct VocabFacts {
    raw: *const sys::llama_vocab,
    facts: sys::VocabFacts,
    eog: Vec<TokenId>,
    adds_space: bool,
}

impl Default for VocabFacts {
    fn default() -> Self {
        Self { raw: ptr::null(), facts: sys::VocabFacts::default(), eog: Vec::new(), adds_space: false }
    }
}

impl VocabFacts {
    pub(crate) fn of(model: &Model) -> Result<Self, Error> {
        let mut read = Self::default();
        // SAFETY: the model is loaded; the vocabulary is part of it and lives as long.
        let status = unsafe { sys::mullama_vocab_facts(model.raw(), &raw mut read.raw, &raw mut read.facts) };
        check("llama_model_get_vocab", status)?;
        if read.facts.kind != KIND_NONE {
            read.eog = read.read_eog()?;
            // SAFETY: the vocabulary is alive. A vocabulary that has no tokens for a letter adds no space to it.
            let _ = unsafe { sys::mullama_vocab_adds_space(read.raw, &raw mut read.adds_space) };
        }
        Ok(read)
    }

    /// The end-of-generation tokens. There are only a few; if they do not fit the buffer, they are read again.
    fn read_eog(&self) -> Result<Vec<TokenId>, Error> {
        let mut eog = vec![0; 64];
        loop {
            let mut count = 0usize;
            // SAFETY: the vocabulary is alive, and the shim writes at most `eog.len()` ids.
            let status = unsafe { sys::mullama_vocab_eog(self.raw, eog.as_mut_ptr(), eog.len(), &raw mut count) };
            check("llama_vocab_is_eog", status)?;
            let complete = count <= eog.len();
            eog.resize(count, 0);
            if complete {
                return Ok(eog);
            }
        }
    }
}

/// A view of a model's vocabulary.
#[derive(Debug, Clone, Copy)]
pub struct Vocab<'m> {
    model: &'m Model,
}

impl<'m> Vocab<'m> {
    pub(crate) fn new(model: &'m Model) -> Self {
        Self { model }
    }

    pub(crate) fn raw(self) -> *const sys::llama_vocab {
        self.model.vocab_facts().raw
    }

    fn facts(self) -> &'m sys::VocabFacts {
        &self.model.vocab_facts().facts
    }

    /// Number of tokens; valid ids are below it.
    pub fn n_tokens(self) -> usize {
        usize::try_from(self.facts().n_tokens).unwrap_or(0)
    }

    /// Whether the file has a vocabulary at all.
    pub fn has_vocabulary(self) -> bool {
        self.facts().kind != KIND_NONE
    }

    /// Which of llama.cpp's tokenizers the vocabulary is for.
    pub(crate) fn kind(self) -> i32 {
        self.facts().kind
    }

    /// llama.cpp's flags of a token of the vocabulary.
    pub(crate) fn attributes(self, token: TokenId) -> Result<i32, Error> {
        self.check(token)?;
        let mut attributes = 0;
        // SAFETY: the id is in range, which llama.cpp does not check here.
        let status = unsafe { sys::mullama_vocab_attr(self.raw(), token, &raw mut attributes) };
        check("llama_vocab_get_attr", status)?;
        Ok(attributes)
    }

    /// Whether llama.cpp splits text with regular expressions before it merges pairs.
    pub(crate) fn splits_by_regex(self) -> bool {
        self.facts().kind == KIND_BPE
    }

    /// Returns the id if it is in the vocabulary.
    ///
    /// # Errors
    ///
    /// [`Error::TokenOutOfRange`] if it is not.
    pub fn check(self, token: TokenId) -> Result<TokenId, Error> {
        check_token(token, self.n_tokens())
    }

    /// Appends the bytes that the token stands for; they may be only a part of a character. A control token has none
    /// unless
    /// `special` is set.
    ///
    /// # Errors
    ///
    /// [`Error::TokenOutOfRange`], [`Error::NoVocabulary`], or an error from C++.
    pub fn piece(self, token: TokenId, special: bool, out: &mut Vec<u8>) -> Result<(), Error> {
        // Most pieces fit, so one call is enough.
        const ROOM_BYTES: usize = 32;
        self.check(token)?;
        if !self.has_vocabulary() {
            return Err(Error::NoVocabulary);
        }
        let mut room = ROOM_BYTES;
        loop {
            out.reserve(room);
            let spare = out.spare_capacity_mut();
            let capacity = i32::try_from(spare.len()).unwrap_or(i32::MAX);
            let mut length = 0;
            // SAFETY: the id is in range, and llama.cpp writes at most `capacity` bytes into the spare room.
            let status = unsafe {
                sys::mullama_vocab_piece(
                    self.raw(),
                    token,
                    special,
                    spare.as_mut_ptr().cast::<c_char>(),
                    capacity,
                    &raw mut length,
                )
            };
            check("llama_token_to_piece", status)?;
            if let Ok(written) = usize::try_from(length) {
                // SAFETY: llama.cpp wrote that many bytes into the spare room, so they are initialised.
                unsafe { out.set_len(out.len() + written) };
                return Ok(());
            }
            room = length.unsigned_abs() as usize;
        }
    }

    /// The joined bytes that the tokens stand for, the reverse of [`tokenize`](Self::tokenize). Control tokens
    /// have none.
    ///
    /// If the model's tokenizer puts a space before each text ([`adds_space`](Self::adds_space)), the space before the
    /// first token that stands for any text is removed, as by Hugging Face's tokenizers.
    ///
    /// # Errors
    ///
    /// As [`piece`](Self::piece).
    pub fn detokenize(self, tokens: &[TokenId]) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        for &token in tokens {
            self.piece(token, false, &mut bytes)?;
        }
        if self.adds_space() && bytes.first() == Some(&b' ') {
            bytes.remove(0);
        }
        Ok(bytes)
    }

    /// The token as the file spells it, with the marks of its tokenizer: `Ġhello`, `▁hello`, `<|im_end|>`.
    ///
    /// # Errors
    ///
    /// [`Error::TokenOutOfRange`], [`Error::NoVocabulary`], or an error from C++.
    pub fn text(self, token: TokenId) -> Result<String, Error> {
        self.check(token)?;
        if !self.has_vocabulary() {
            return Err(Error::NoVocabulary);
        }
        let mut text = ptr::null();
        // SAFETY: the id is in range.
        let status = unsafe { sys::mullama_vocab_text(self.raw(), token, &raw mut text) };
        check("llama_vocab_get_text", status)?;
        if text.is_null() {
            return Err(Error::NoVocabulary);
        }
        // SAFETY: not null, ends in NUL, and belongs to the vocabulary, which outlives this call.
        Ok(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
    }

    /// Whether text becomes this token only if special tokens are parsed: it is a control token or the unknown token.
    ///
    /// # Errors
    ///
    /// [`Error::TokenOutOfRange`], [`Error::NoVocabulary`], or an error from C++.
    pub fn is_control(self, token: TokenId) -> Result<bool, Error> {
        self.check(token)?;
        if !self.has_vocabulary() {
            return Err(Error::NoVocabulary);
        }
        let mut control = false;
        // SAFETY: the id is in range, which llama.cpp does not check here.
        let status = unsafe { sys::mullama_vocab_is_control(self.raw(), token, &raw mut control) };
        check("llama_vocab_is_control", status)?;
        Ok(control)
    }

    /// Whether the tokenizer puts a space before a text that does not begin with one, as `SentencePiece` does.
    pub fn adds_space(self) -> bool {
        self.model.vocab_facts().adds_space
    }

    /// Whether the token ends the generation; `false` for an id out of range.
    pub fn is_eog(self, token: TokenId) -> bool {
        self.model.vocab_facts().eog.binary_search(&token).is_ok()
    }

    /// The end-of-generation tokens, in ascending order.
    pub fn eog_tokens(self) -> Vec<TokenId> {
        self.model.vocab_facts().eog.clone()
    }

    /// The token at the start of a text (BOS).
    pub fn bos(self) -> Option<TokenId> {
        some_token(self.facts().bos)
    }

    /// The token at the end of a text (EOS).
    pub fn eos(self) -> Option<TokenId> {
        some_token(self.facts().eos)
    }

    /// The token at the end of a chat turn (EOT).
    pub fn eot(self) -> Option<TokenId> {
        some_token(self.facts().eot)
    }

    /// The token of a line break.
    pub fn nl(self) -> Option<TokenId> {
        some_token(self.facts().nl)
    }

    /// The padding token.
    pub fn pad(self) -> Option<TokenId> {
        some_token(self.facts().pad)
    }

    /// Whether tokenizing with `add_special` adds [`bos`](Self::bos) at the start.
    pub fn add_bos(self) -> bool {
        self.facts().add_bos
    }

    /// Whether tokenizing with `add_special` adds [`eos`](Self::eos) at the end.
    pub fn add_eos(self) -> bool {
        self.facts().add_eos
    }
}

/// Returns the id if it is in a vocabulary of `n_vocab` tokens.
pub(crate) fn check_token(token: TokenId, n_vocab: usize) -> Result<TokenId, Error> {
    match usize::try_from(token) {
        Ok(index) if index < n_vocab => Ok(token),
        _ => Err(Error::TokenOutOfRange { token, n_vocab }),
    }
}
