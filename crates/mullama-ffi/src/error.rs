//! The errors of llama.cpp, and of the checks made before calling it.

use std::io;
use std::sync::Arc;

use crate::sys;
use crate::token::TokenId;

/// An error from llama.cpp, or from a check made before llama.cpp would have asserted the same thing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// llama.cpp threw a C++ exception.
    #[error("llama.cpp threw in {call}: {text}")]
    Exception {
        /// The call that failed.
        call: &'static str,
        /// What the exception says.
        text: String,
    },
    /// An assertion of llama.cpp failed on the calling thread.
    #[error("an assertion of llama.cpp failed in {call}: {text}")]
    Assertion {
        /// The call that failed.
        call: &'static str,
        /// File, line and condition.
        text: String,
    },
    /// llama.cpp could not allocate.
    #[error("out of memory in {call}")]
    OutOfMemory {
        /// The call that failed.
        call: &'static str,
    },
    /// A text that has to end at a NUL byte contains one.
    #[error("{what} contains a NUL byte")]
    NulByte {
        /// Which text.
        what: &'static str,
    },
    /// llama.cpp did not load the file.
    #[error("llama.cpp could not load the model: {}", said.join("; "))]
    ModelRefused {
        /// The last lines that llama.cpp logged about it.
        said: Vec<String>,
    },
    /// The progress callback asked to stop loading.
    #[error("loading the model was cancelled")]
    ModelCancelled,
    /// A context on this model could not generate text.
    #[error("the model cannot generate text: {reason}")]
    ModelUnsuited {
        /// What it is or lacks.
        reason: &'static str,
    },
    /// llama.cpp failed to create the context.
    #[error("failed to create the context: {}", said.join("; "))]
    ContextRefused {
        /// The last lines that llama.cpp logged about it.
        said: Vec<String>,
    },
    /// A context option is out of range.
    #[error("{field} is {value}, but must be {range}")]
    ContextField {
        /// The option.
        field: &'static str,
        /// Its value.
        value: u32,
        /// The allowed range.
        range: &'static str,
    },
    /// llama.cpp did not start its compute threads.
    #[error("llama.cpp did not start {n_threads} compute threads")]
    PoolRefused {
        /// How many were asked for.
        n_threads: u32,
    },
    /// A token id that the vocabulary does not have.
    #[error("token {token} is not in the vocabulary of {n_vocab} tokens")]
    TokenOutOfRange {
        /// The id.
        token: TokenId,
        /// Ids run from 0 to below this.
        n_vocab: usize,
    },
    /// A sequence id that the context does not have.
    #[error("sequence {seq} is not one of the context's {n_seq_max}")]
    SequenceOutOfRange {
        /// The id.
        seq: i32,
        /// Ids run from 0 to below this.
        n_seq_max: u32,
    },
    /// A position below zero, or an end before its start.
    #[error("position {position} is out of range")]
    PositionOutOfRange {
        /// The position.
        position: i32,
    },
    /// The positions of a sequence in a batch do not continue what the context holds.
    #[error("sequence {seq} continues at position {position}, but its next one is {expected}")]
    PositionGap {
        /// The sequence.
        seq: i32,
        /// Where the batch puts its token.
        position: i32,
        /// Where it has to be.
        expected: i32,
    },
    /// The batch has no room for another token.
    #[error("the batch is full at {capacity} tokens")]
    BatchFull {
        /// What it was made for.
        capacity: usize,
    },
    /// The batch has more tokens than the context takes at once.
    #[error("the batch has {tokens} tokens, but the context takes {n_batch} at once")]
    BatchTooLarge {
        /// Tokens in the batch.
        tokens: usize,
        /// The context's limit.
        n_batch: u32,
    },
    /// The batch has no token.
    #[error("the batch is empty")]
    EmptyBatch,
    /// The batch asks for more rows of logits than the context keeps.
    #[error("the batch asks for {outputs} rows of logits, but the context keeps {max}")]
    TooManyOutputs {
        /// Rows asked for.
        outputs: usize,
        /// The context's limit.
        max: u32,
    },
    /// The last decode has no logits for this row.
    #[error("the last decode has no logits for row {row}")]
    NoLogits {
        /// The index of the token in the batch.
        row: usize,
    },
    /// The logits have another length than the vocabulary.
    #[error("{logits} logits do not fit a vocabulary of {n_vocab} tokens")]
    LogitsLength {
        /// How many there are.
        logits: usize,
        /// How many there have to be.
        n_vocab: usize,
    },
    /// A NaN or an infinity among the logits, or no token that is possible at all.
    #[error("the logits contain NaN or infinity, or allow no token at all")]
    NonFiniteLogits,
    /// The KV pool has no free cells for the batch; the pool is unchanged.
    #[error("the KV pool has no free cells for the batch")]
    NoKvSlot,
    /// The abort flag ended the decode; positions computed before it stay.
    #[error("the decode was aborted")]
    Aborted,
    /// llama.cpp found the batch invalid; the pool is unchanged.
    #[error("llama.cpp refused the batch: {}", said.join("; "))]
    InvalidBatch {
        /// The last lines that llama.cpp logged about it.
        said: Vec<String>,
    },
    /// The computation failed.
    #[error("the decode failed with status {status}: {}", said.join("; "))]
    DecodeFailed {
        /// llama.cpp's status, below -1.
        status: i32,
        /// The last lines that llama.cpp logged about it.
        said: Vec<String>,
    },
    /// The model file has no vocabulary.
    #[error("the model has no vocabulary")]
    NoVocabulary,
    /// The text is longer than the tokenizer takes.
    #[error("the text has {bytes} bytes, but the tokenizer takes {limit}")]
    TextTooLong {
        /// Its bytes.
        bytes: usize,
        /// The most it takes.
        limit: usize,
    },
    /// A part of the text runs on for longer than the tokenizer's stack holds.
    #[error("{chars} characters from byte {at} on have no line break, but the tokenizer takes {limit}")]
    RunTooLong {
        /// The byte at which the run begins.
        at: usize,
        /// Its characters.
        chars: usize,
        /// The most it takes.
        limit: usize,
    },
    /// A part of the text is too long for one call of the tokenizer, and cannot be cut without changing its tokens.
    #[error(
        "the {bytes} bytes from byte {at} on can only be tokenized at once, but the tokenizer takes {limit} at once"
    )]
    StretchTooLong {
        /// The byte at which the part begins.
        at: usize,
        /// Its bytes.
        bytes: usize,
        /// The most it takes.
        limit: usize,
    },
    /// The system did not start a thread.
    #[error("could not start a thread with a stack of {stack_bytes} bytes")]
    ThreadSpawn {
        /// The smallest stack that was tried.
        stack_bytes: usize,
        /// Why.
        source: Arc<io::Error>,
    },
    /// A sampler option is out of range.
    #[error("{field} is {value}, but must be {range}")]
    SamplerField {
        /// The option.
        field: &'static str,
        /// Its value.
        value: f64,
        /// The allowed range.
        range: &'static str,
    },
    /// The sampler chose no token, or failed before and is not used again.
    #[error("the sampler failed")]
    SamplerFailed,
    /// Positions of this model cannot be shifted.
    #[error("positions of this model cannot be shifted")]
    CannotShift,
    /// The bytes are not the state of a sequence that this context can restore.
    #[error("the context rejected {bytes} bytes of sequence state: {}", said.join("; "))]
    StateRefused {
        /// How many there were.
        bytes: usize,
        /// The last lines that llama.cpp logged about it.
        said: Vec<String>,
    },
    /// The context failed before and must be replaced.
    #[error("the context failed before and must be replaced")]
    Poisoned,
}

impl Error {
    /// The same error about a text that begins so many bytes earlier.
    pub(crate) fn behind(mut self, bytes: usize) -> Self {
        if let Self::RunTooLong { at, .. } | Self::StretchTooLong { at, .. } = &mut self {
            *at += bytes;
        }
        self
    }

    /// Whether a context that returned this error is in an unknown state and must be replaced.
    pub fn poisons(&self) -> bool {
        matches!(
            self,
            Self::Exception { .. }
                | Self::Assertion { .. }
                | Self::OutOfMemory { .. }
                | Self::DecodeFailed { .. }
                | Self::Poisoned
        )
    }
}

/// Converts the status of a shim call into a result.
pub(crate) fn check(call: &'static str, status: i32) -> Result<(), Error> {
    match status {
        sys::ML_OK => Ok(()),
        sys::ML_OUT_OF_MEMORY => Err(Error::OutOfMemory { call }),
        sys::ML_ASSERTION => Err(Error::Assertion { call, text: sys::last_error() }),
        _ => Err(Error::Exception { call, text: sys::last_error() }),
    }
}
