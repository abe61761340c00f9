//! Every way a request can fail, with its facts and one stable code.

mod facts;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::chat::TemplateFailure;
use crate::gguf::GgufError;

pub use facts::Fact;

/// The stack of a thread of Rust's standard library.
const DEFAULT_STACK_BYTES: usize = 2 << 20;

/// What went wrong, for one request alone.
///
/// Each variant has a stable [`code`](Self::code) that is the same in every
/// language and over HTTP.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MullamaError {
    /// There is no file at the path.
    #[error("no model at {}", path.display())]
    ModelNotFound {
        /// The path as it was given.
        path: PathBuf,
    },
    /// The file exists but is not a loadable model.
    #[error("cannot load {}: {source}", path.display())]
    ModelLoad {
        /// The path as it was given.
        path: PathBuf,
        /// What is wrong with it, and where.
        source: ModelLoadFailure,
    },
    /// A value of a configuration is outside its range.
    #[error("{field} is {value}, but must be {range}")]
    InvalidConfig {
        /// The field's name, the same in every language.
        field: &'static str,
        /// The value that was given.
        value: String,
        /// The values that are allowed.
        range: String,
    },
    /// The prompt cannot be computed.
    #[error("invalid prompt: {0}")]
    InvalidPrompt(PromptFailure),
    /// The chat's messages could not be rendered to a prompt.
    #[error("chat template: {0}")]
    ChatTemplate(TemplateFailure),
    /// The prompt leaves no room for a completion token.
    #[error(
        "the prompt has {}{prompt_tokens} tokens, but the context holds {context_len} and needs room for at least one more (n_ctx)",
        if *is_lower_bound { "at least " } else { "" }
    )]
    ContextOverflow {
        /// Tokens of the prompt, those that the model adds included.
        prompt_tokens: usize,
        /// Whether the prompt has at least so many tokens: it was not tokenized to its end, as it could not fit.
        is_lower_bound: bool,
        /// Most tokens of one sequence (`n_ctx`).
        context_len: usize,
    },
    /// Too many streams are unfinished; try again when one has ended.
    #[error(
        "{unfinished} streams are unfinished and the limit is {limit} (n_parallel + max_queue); try again when one has ended"
    )]
    Overloaded {
        /// Streams that had not ended when the call came.
        unfinished: usize,
        /// `n_parallel + max_queue`.
        limit: usize,
    },
    /// Too much text waits to become tokens; try again when some of it has.
    #[error(
        "the prompt takes {prompt_bytes} bytes, and {waiting_bytes} bytes of prompts wait to be tokenized; \
         the limit is {limit_bytes} bytes for the process"
    )]
    PromptsOverloaded {
        /// What the prompt takes.
        prompt_bytes: usize,
        /// What the prompts before it take that are not tokenized yet.
        waiting_bytes: usize,
        /// Most bytes of such prompts.
        limit_bytes: usize,
    },
    /// A deadline of the stream passed. What was produced before is delivered first.
    #[error("timed out after {limit_ms} ms with {completion_tokens} tokens generated ({deadline}=0 removes the limit)")]
    StreamTimeout {
        /// Which of the three deadlines.
        deadline: Deadline,
        /// The deadline's length in milliseconds.
        limit_ms: u64,
        /// Tokens computed until then.
        completion_tokens: usize,
    },
    /// The engine could not go on with this stream.
    #[error("generation failed: {0}")]
    StreamingError(StreamFailure),
    /// The engine, context or model was closed.
    #[error("the {what} is closed")]
    Closed {
        /// What was closed.
        what: &'static str,
    },
}

impl MullamaError {
    /// The stable code of this error, the same in every language.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::ModelNotFound { .. } => "MODEL_NOT_FOUND",
            Self::ModelLoad { .. } => "MODEL_LOAD",
            Self::InvalidConfig { .. } => "INVALID_CONFIG",
            Self::InvalidPrompt(_) => "INVALID_PROMPT",
            Self::ChatTemplate(_) => "TEMPLATE_ERROR",
            Self::ContextOverflow { .. } => "CONTEXT_OVERFLOW",
            Self::Overloaded { .. } | Self::PromptsOverloaded { .. } => "OVERLOADED",
            Self::StreamTimeout { .. } => "STREAM_TIMEOUT",
            Self::StreamingError(_) => "GENERATION_ERROR",
            Self::Closed { .. } => "CLOSED",
        }
    }

    /// The system refused a thread of the default size.
    pub fn no_thread(source: std::io::Error) -> Self {
        let error = mullama_ffi::Error::ThreadSpawn { stack_bytes: DEFAULT_STACK_BYTES, source: Arc::new(source) };
        Self::StreamingError(StreamFailure::Thread(Arc::new(error)))
    }

    /// What the tokenizer refuses.
    pub(crate) fn untokenizable(error: mullama_ffi::Error) -> Self {
        Self::InvalidPrompt(PromptFailure::Tokenizer(Arc::new(error)))
    }

    pub(crate) fn invalid(field: &'static str, value: impl std::fmt::Display, range: impl Into<String>) -> Self {
        Self::InvalidConfig { field, value: value.to_string(), range: range.into() }
    }
}

/// Why a model file does not become a model.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ModelLoadFailure {
    /// The file cannot be opened or read.
    #[error("{0}")]
    Io(#[source] Arc<std::io::Error>),
    /// Our reader refused the file before llama.cpp saw it.
    #[error("{0}")]
    Gguf(#[source] Arc<GgufError>),
    /// llama.cpp refused the file, its context or its vocabulary.
    #[error("{0}")]
    LlamaCpp(#[source] Arc<mullama_ffi::Error>),
    /// The progress callback asked to stop.
    #[error("loading was cancelled by the progress callback")]
    Cancelled,
    /// Somebody wrote to the file while it was read.
    #[error("the file was changed while it was being loaded; load it again when it is complete")]
    ChangedWhileLoading,
    /// The model has no decoder that could generate text.
    #[error("the model has no text decoder (architecture {architecture})")]
    NoDecoder {
        /// `general.architecture` of the file.
        architecture: String,
    },
    /// The system refused a thread for the work.
    #[error("no thread could be started: {0}")]
    Thread(#[source] Arc<std::io::Error>),
}

/// Why a prompt cannot be computed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PromptFailure {
    /// There is no text and no token; a token that the model adds by itself is not a prompt.
    #[error("the prompt is empty")]
    Empty,
    /// A token id that the model does not have.
    #[error("token {token} at position {position} is outside 0..{n_vocab}")]
    UnknownToken {
        /// The id.
        token: i32,
        /// Where it stands in the prompt.
        position: usize,
        /// Size of the vocabulary.
        n_vocab: usize,
    },
    /// A token id that no vocabulary has, too large for a number of 32 bits.
    #[error("token {token} at position {position} is outside every vocabulary")]
    HugeToken {
        /// The id in words.
        token: String,
        /// Where it stands in the prompt.
        position: usize,
    },
    /// Half of a surrogate pair, which is not valid Unicode. Strings of Python and JavaScript can contain it.
    #[error("character {position} is a lone surrogate (not valid Unicode)")]
    LoneSurrogate {
        /// Which character of the prompt, from 0.
        position: usize,
    },
    /// The same, somewhere in a chat.
    #[error("a message contains a lone surrogate (not valid Unicode)")]
    SurrogateInMessage,
    /// The tokenizer refused the text.
    #[error("{0}")]
    Tokenizer(#[source] Arc<mullama_ffi::Error>),
}

impl PromptFailure {
    /// Where in the prompt, if it is one place: a character of text, or a token.
    pub fn position(&self) -> Option<usize> {
        match self {
            Self::UnknownToken { position, .. }
            | Self::HugeToken { position, .. }
            | Self::LoneSurrogate { position } => Some(*position),
            Self::Empty | Self::SurrogateInMessage | Self::Tokenizer(_) => None,
        }
    }
}

impl From<PromptFailure> for MullamaError {
    fn from(failure: PromptFailure) -> Self {
        Self::InvalidPrompt(failure)
    }
}

/// Why the engine could not go on with a stream.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StreamFailure {
    /// The decode that this stream was part of failed.
    #[error("decode: {0}")]
    Decode(#[source] Arc<mullama_ffi::Error>),
    /// The stream's own sampler failed.
    #[error("sample: {0}")]
    Sample(#[source] Arc<mullama_ffi::Error>),
    /// The stream does not fit into the KV pool even alone.
    #[error("the KV pool has no cells left for {rows} more tokens")]
    NoCells {
        /// Tokens for which there was no cell.
        rows: usize,
    },
    /// The system refused a thread.
    #[error("no thread could be started: {0}")]
    Thread(#[source] Arc<mullama_ffi::Error>),
    /// The tokenizer panicked on the prompt.
    #[error("the tokenizer panicked on the prompt")]
    TokenizerPanicked,
    /// Somebody wrote to the model's file, which is mapped into memory, after it was loaded.
    #[error(
        "{} was changed on disk while it was in use (it had {len} bytes when it was loaded); load the model again, \
         with use_mmap off if its file must be written to while it is in use", path.display()
    )]
    ModelFileChanged {
        /// The file; of a model in several files, the one that was changed.
        path: PathBuf,
        /// Its size in bytes when it was loaded.
        len: u64,
    },
    /// The engine stopped while the stream was open.
    #[error("the engine stopped unexpectedly")]
    EngineEnded,
}

/// Which deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Deadline {
    /// `timeout_ms`: from the call to the last token.
    Total,
    /// `ttft_timeout_ms`: from the call to the first token.
    FirstToken,
    /// `queue_timeout_ms`: from the call until the stream gets a slot.
    Queue,
}

impl std::fmt::Display for Deadline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Total => "timeout_ms",
            Self::FirstToken => "ttft_timeout_ms",
            Self::Queue => "queue_timeout_ms",
        })
    }
}

/// How long a deadline is, from the millisecond fields of a config: `None` and 0 are no limit.
pub(crate) fn limit(milliseconds: Option<u64>) -> Option<Duration> {
    milliseconds.filter(|&ms| ms > 0).map(Duration::from_millis)
}
