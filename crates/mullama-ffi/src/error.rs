//! The errors of llama.cpp, and of the checks made before calling it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::sys;
use crate::token::TokenId;

/// An error from llama.cpp, or from a check that prevents an assertion of llama.cpp.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// llama.cpp threw a C++ exception.
    #[error("llama.cpp threw in {call}: {text}")]
    Exception {
        /// The call that failed.
        call: &'static str,
        /// The text of the exception.
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
    /// llama.cpp could not allocate memory.
    #[error("out of memory in {call}")]
    OutOfMemory {
        /// The call that failed.
        call: &'static str,
    },
    /// The folder of llama.cpp's libraries has none for this processor.
    #[error(
        "{} has no code for this processor: none of libggml-cpu-{{{}}}.so is there. Ship the libraries of the build beside \
         each other, or reinstall mullama",
        folder.display(),
        variants.join(",")
    )]
    NoVariant {
        /// The folder of the libraries.
        folder: PathBuf,
        /// The variants that run on this processor.
        variants: Vec<&'static str>,
    },
    /// A library belongs to another build of mullama, or is none of its libraries.
    #[error(
        "{} was not loaded: it belongs to {}, and this is {expected}. Install packages of the same version; another llama.cpp \
         in this process must be loaded after mullama's",
        path.display(),
        found.as_deref().unwrap_or("no build of mullama")
    )]
    ForeignLibrary {
        /// The library.
        path: PathBuf,
        /// The build that it states.
        found: Option<String>,
        /// The build that was required.
        expected: &'static str,
    },
    /// This build of mullama takes no plug-ins.
    #[error("{} was not loaded: only a build of mullama with the feature `portable`, like the released wheels, takes plug-ins", path.display())]
    NotPortable {
        /// The library.
        path: PathBuf,
    },
    /// A library cannot be read.
    #[error("the library {} cannot be read: {source}", path.display())]
    LibraryUnreadable {
        /// The library.
        path: PathBuf,
        /// The error of the system.
        source: Arc<io::Error>,
    },
    /// A text that must end at a NUL byte contains one.
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
    /// The progress callback returned `false`.
    #[error("loading the model was cancelled")]
    ModelCancelled,
    /// A context on this model could not generate text.
    #[error("the model cannot generate text: {reason}")]
    ModelUnsuited {
        /// The property that is unsuitable or missing.
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
        /// The requested number of threads.
        n_threads: u32,
    },
    /// A token id that is not in the vocabulary.
    #[error("token {token} is not in the vocabulary of {n_vocab} tokens")]
    TokenOutOfRange {
        /// The id.
        token: TokenId,
        /// Valid ids are below this.
        n_vocab: usize,
    },
    /// A sequence id that the context does not have.
    #[error("sequence {seq} is not one of the context's {n_seq_max}")]
    SequenceOutOfRange {
        /// The id.
        seq: i32,
        /// Valid ids are below this.
        n_seq_max: u32,
    },
    /// A negative position, or a range whose end is before its start.
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
        /// The position in the batch.
        position: i32,
        /// The required position.
        expected: i32,
    },
    /// The batch is full.
    #[error("the batch is full at {capacity} tokens")]
    BatchFull {
        /// Its capacity.
        capacity: usize,
    },
    /// The batch has more tokens than the context accepts at once.
    #[error("the batch has {tokens} tokens, but the context takes {n_batch} at once")]
    BatchTooLarge {
        /// Number of tokens in the batch.
        tokens: usize,
        /// The context's limit.
        n_batch: u32,
    },
    /// The batch is empty.
    #[error("the batch is empty")]
    EmptyBatch,
    /// The batch requests more rows of logits than the context keeps.
    #[error("the batch asks for {outputs} rows of logits, but the context keeps {max}")]
    TooManyOutputs {
        /// Number of requested rows.
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
    /// The number of logits differs from the number of tokens in the vocabulary.
    #[error("{logits} logits do not fit a vocabulary of {n_vocab} tokens")]
    LogitsLength {
        /// Number of logits.
        logits: usize,
        /// The required number.
        n_vocab: usize,
    },
    /// The logits contain a NaN or an infinity, or no token is possible.
    #[error("the logits contain NaN or infinity, or allow no token at all")]
    NonFiniteLogits,
    /// The KV pool has no free cells for the batch; the pool is unchanged.
    #[error("the KV pool has no free cells for the batch")]
    NoKvSlot,
    /// The abort flag ended the decode; positions computed before it are kept.
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
    /// The text is longer than the tokenizer accepts.
    #[error("the text has {bytes} bytes, but the tokenizer takes {limit}")]
    TextTooLong {
        /// Its length in bytes.
        bytes: usize,
        /// The maximum length in bytes.
        limit: usize,
    },
    /// A run of the text is longer than the tokenizer's stack allows.
    #[error("{chars} characters from byte {at} on have no line break, but the tokenizer takes {limit}")]
    RunTooLong {
        /// The byte at which the run begins.
        at: usize,
        /// Its length in characters.
        chars: usize,
        /// The maximum length in characters.
        limit: usize,
    },
    /// A part of the text is too long for one call of the tokenizer, and cannot be cut without changing its tokens.
    #[error(
        "the {bytes} bytes from byte {at} on can only be tokenized at once, but the tokenizer takes {limit} at once"
    )]
    StretchTooLong {
        /// The byte at which the part begins.
        at: usize,
        /// Its length in bytes.
        bytes: usize,
        /// The maximum length in bytes.
        limit: usize,
    },
    /// The system refused to start a thread.
    #[error("could not start a thread with a stack of {stack_bytes} bytes")]
    ThreadSpawn {
        /// The smallest stack that was tried, in bytes.
        stack_bytes: usize,
        /// The error of the system.
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
    /// The sampler chose no token, or has failed before and is not used again.
    #[error("the sampler failed")]
    SamplerFailed,
    /// Positions of this model cannot be shifted.
    #[error("positions of this model cannot be shifted")]
    CannotShift,
    /// The bytes are not a sequence state that this context can restore.
    #[error("the context rejected {bytes} bytes of sequence state: {}", said.join("; "))]
    StateRefused {
        /// Number of bytes.
        bytes: usize,
        /// The last lines that llama.cpp logged about it.
        said: Vec<String>,
    },
    /// The context failed before and must be replaced.
    #[error("the context failed before and must be replaced")]
    Poisoned,
}

impl Error {
    /// The same error for a text that begins this many bytes earlier.
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
