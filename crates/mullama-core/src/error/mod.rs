//! Every way in which a request can fail, with its facts and a stable code.

mod download;
mod facts;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::chat::TemplateFailure;
use crate::gguf::GgufError;

pub use download::DownloadFailure;
pub use facts::Fact;

/// The default stack size of a thread of Rust's standard library.
const DEFAULT_STACK_BYTES: usize = 2 << 20;

/// What is closed in a forked child, which has no thread of its parent's engine.
pub(crate) const ENGINE_BEFORE_FORK: &str = "engine of the process before the fork";

/// An error of one request; other requests are not affected.
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
    /// No model has this name, neither on this machine nor where it could be downloaded from.
    #[error("no model named {name}: {}; {advice}", tried.join("; "))]
    UnknownModel {
        /// The name as it was given.
        name: String,
        /// What was looked at, and what was found there; at least one.
        tried: Vec<String>,
        /// What to do.
        advice: String,
    },
    /// A model could not be downloaded. What has arrived is kept where it can be continued.
    #[error("cannot {} {name}: {failure}", failure.action())]
    Download {
        /// The name as it was given.
        name: String,
        /// What went wrong.
        failure: DownloadFailure,
    },
    /// The file exists but is not a loadable model.
    #[error("cannot load {}: {source}", path.display())]
    ModelLoad {
        /// The path as it was given.
        path: PathBuf,
        /// What is wrong with the file, and where.
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
    /// The prompt cannot be used.
    #[error("invalid prompt: {0}")]
    InvalidPrompt(PromptFailure),
    /// The messages of the chat could not be rendered to a prompt.
    #[error("{0}")]
    ChatTemplate(TemplateFailure),
    /// The prompt leaves no space for a completion token.
    #[error(
        "the prompt has {}{}, but the context holds {context_len} and needs room for at least one more (n_ctx)",
        if *is_lower_bound { "at least " } else { "" },
        counted(*prompt_tokens, "token")
    )]
    ContextOverflow {
        /// Tokens of the prompt, including those that the model adds.
        prompt_tokens: usize,
        /// Whether the prompt has at least this many tokens: tokenization stopped early, because the prompt could not
        /// fit.
        is_lower_bound: bool,
        /// Maximum number of tokens of one sequence (`n_ctx`).
        context_len: usize,
    },
    /// Too many streams run or wait for a slot; try again after one has ended.
    #[error(
        "{} for a slot and the limit is {limit} (n_parallel + max_queue); try again when one has ended",
        if *unfinished == 1 { "1 stream runs or waits".into() } else { format!("{unfinished} streams run or wait") }
    )]
    Overloaded {
        /// Number of unfinished streams at the time of the call, without those that are paused.
        unfinished: usize,
        /// `n_parallel + max_queue`.
        limit: usize,
    },
    /// Too many streams run, wait or are paused; read one to its end, or close one.
    #[error(
        "{}{} and the limit is {limit} (max_paused); read one to its end, close one, or raise max_paused",
        if *paused == 1 { "1 stream is paused".into() } else { format!("{paused} streams are paused") },
        match *active {
            0 => String::new(),
            1 => ", 1 runs or waits".into(),
            more => format!(", {more} run or wait"),
        }
    )]
    PausedOverloaded {
        /// Number of paused streams at the time of the call.
        paused: usize,
        /// Number of streams that run or wait for a slot.
        active: usize,
        /// `max_paused`, or `n_parallel + max_queue` if that is more.
        limit: usize,
    },
    /// The stream had been paused longest when a new one was opened by
    /// [`stream_displacing`](crate::Context::stream_displacing) and too many ran, waited or were paused.
    #[error(
        "the limit of {limit} streams (max_paused) was reached and this one had been paused longest, so it ended for a \
         new one; read without long breaks, or raise max_paused"
    )]
    Displaced {
        /// `max_paused`, or `n_parallel + max_queue` if that is more.
        limit: usize,
    },
    /// Too many bytes of text are waiting to be tokenized; try again later.
    #[error(
        "the prompt takes {prompt_bytes} bytes, and {waiting_bytes} bytes of prompts wait to be tokenized; \
         the limit is {limit_bytes} bytes for the process"
    )]
    PromptsOverloaded {
        /// Bytes that this prompt counts.
        prompt_bytes: usize,
        /// Bytes of the earlier prompts that are not tokenized yet.
        waiting_bytes: usize,
        /// Maximum bytes of all such prompts.
        limit_bytes: usize,
    },
    /// A deadline of the stream passed. Everything that was produced before it is delivered first.
    #[error(
        "timed out after {limit_ms} ms with {} generated ({deadline}=0 removes the limit)",
        counted(*completion_tokens, "token")
    )]
    StreamTimeout {
        /// The deadline that passed.
        deadline: Deadline,
        /// The length of the deadline in milliseconds.
        limit_ms: u64,
        /// Number of tokens computed until then.
        completion_tokens: usize,
    },
    /// The engine could not continue this stream.
    #[error("generation failed: {0}")]
    StreamingError(StreamFailure),
    /// The engine, context or model is closed.
    #[error("the {what} is closed{}", if *what == ENGINE_BEFORE_FORK { "; load the model in this process too" } else { "" })]
    Closed {
        /// What is closed.
        what: &'static str,
    },
}

/// Classes of errors with their codes, and the variants that belong to each.
macro_rules! classes {
    ($($variants:pat => $class:literal, $code:literal;)*) => {
        impl MullamaError {
            /// The name of each class with its code.
            pub const CLASSES: &[(&str, &str)] = &[$(($class, $code)),*];

            /// The name of this error's class, in the languages that have classes.
            pub const fn class(&self) -> &'static str {
                match self {
                    $($variants => $class),*
                }
            }

            /// The stable code of this error, the same in every language.
            pub const fn code(&self) -> &'static str {
                match self {
                    $($variants => $code),*
                }
            }
        }
    };
}

classes! {
    Self::ModelNotFound { .. } | Self::UnknownModel { .. } => "ModelNotFoundError", "MODEL_NOT_FOUND";
    Self::Download { .. } => "DownloadError", "DOWNLOAD_ERROR";
    Self::ModelLoad { .. } => "ModelLoadError", "MODEL_LOAD";
    Self::InvalidConfig { .. } => "InvalidConfigError", "INVALID_CONFIG";
    Self::InvalidPrompt(_) => "InvalidPromptError", "INVALID_PROMPT";
    Self::ContextOverflow { .. } => "ContextOverflowError", "CONTEXT_OVERFLOW";
    Self::ChatTemplate(_) => "ChatTemplateError", "TEMPLATE_ERROR";
    Self::Overloaded { .. } | Self::PausedOverloaded { .. } | Self::Displaced { .. } | Self::PromptsOverloaded { .. } =>
        "OverloadedError", "OVERLOADED";
    Self::StreamTimeout { .. } => "StreamTimeoutError", "STREAM_TIMEOUT";
    Self::StreamingError(_) => "GenerationError", "GENERATION_ERROR";
    Self::Closed { .. } => "EngineClosedError", "CLOSED";
}

impl MullamaError {
    /// The system refused a thread with the default stack size.
    pub fn no_thread(source: std::io::Error) -> Self {
        let error = mullama_ffi::Error::ThreadSpawn { stack_bytes: DEFAULT_STACK_BYTES, source: Arc::new(source) };
        Self::StreamingError(StreamFailure::Thread(Arc::new(error)))
    }

    /// A text that the tokenizer refuses.
    pub(crate) fn untokenizable(error: mullama_ffi::Error) -> Self {
        Self::InvalidPrompt(PromptFailure::Tokenizer(Arc::new(error)))
    }

    pub(crate) fn invalid(field: &'static str, value: impl std::fmt::Display, range: impl Into<String>) -> Self {
        Self::InvalidConfig { field, value: value.to_string(), range: range.into() }
    }
}

/// A number of things, with the noun in the singular or the plural.
fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Why a model file cannot be loaded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ModelLoadFailure {
    /// The file cannot be opened or read.
    #[error("{0}")]
    Io(#[source] Arc<std::io::Error>),
    /// The check of the GGUF header refused the file before llama.cpp saw it.
    #[error("{0}")]
    Gguf(#[source] Arc<GgufError>),
    /// The same check refused a file that was whole when it was downloaded.
    #[error("{source}; {advice}")]
    Damaged {
        /// What is wrong with the file.
        source: Arc<GgufError>,
        /// What to do.
        advice: String,
    },
    /// llama.cpp refused the file, the context or the vocabulary.
    #[error("{0}")]
    LlamaCpp(#[source] Arc<mullama_ffi::Error>),
    /// The progress callback returned `false`.
    #[error("loading was cancelled by the progress callback")]
    Cancelled,
    /// The file was changed while it was being read.
    #[error("the file was changed while it was being loaded; load it again when it is complete")]
    ChangedWhileLoading,
    /// The model has no decoder, so it cannot generate text.
    #[error("the model has no text decoder (architecture {architecture})")]
    NoDecoder {
        /// The value of `general.architecture` in the file.
        architecture: String,
    },
    /// The system refused to start a thread.
    #[error("no thread could be started: {0}")]
    Thread(#[source] Arc<std::io::Error>),
}

/// Why a prompt cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PromptFailure {
    /// The prompt has neither text nor tokens; a token that the model adds by itself does not count.
    #[error("the prompt is empty; it needs at least one character or token id")]
    Empty,
    /// A token id that is not in the vocabulary.
    #[error("token {token} at position {position} is not in the vocabulary of {n_vocab} tokens (ids 0 to {})", n_vocab.saturating_sub(1))]
    UnknownToken {
        /// The token id.
        token: i32,
        /// Its index in the prompt, from 0.
        position: usize,
        /// Number of tokens in the vocabulary.
        n_vocab: usize,
    },
    /// A token id that no vocabulary can have, because it does not fit into 32 bits.
    #[error("token {token} at position {position} is too large for any vocabulary")]
    HugeToken {
        /// The id as text.
        token: String,
        /// Its index in the prompt, from 0.
        position: usize,
    },
    /// An unpaired surrogate, which is not valid Unicode. Strings of Python and JavaScript can contain one.
    #[error("character {position} is a lone surrogate (not valid Unicode)")]
    LoneSurrogate {
        /// The index of the character in the prompt, from 0.
        position: usize,
    },
    /// An unpaired surrogate in a chat.
    #[error("a message contains a lone surrogate (not valid Unicode)")]
    SurrogateInMessage,
    /// More token ids than one call takes.
    #[error("there are {tokens} token ids or more, but at most {limit} are detokenized in one call; split the list")]
    TooManyTokens {
        /// Number of token ids, as far as they were counted.
        tokens: usize,
        /// The maximum.
        limit: usize,
    },
    /// The tokenizer refused the text.
    #[error("{0}")]
    Tokenizer(#[source] Arc<mullama_ffi::Error>),
}

impl PromptFailure {
    /// The index in the prompt of the character or token that is invalid, if it is a single one.
    pub fn position(&self) -> Option<usize> {
        match self {
            Self::UnknownToken { position, .. }
            | Self::HugeToken { position, .. }
            | Self::LoneSurrogate { position } => Some(*position),
            Self::Empty | Self::SurrogateInMessage | Self::TooManyTokens { .. } | Self::Tokenizer(_) => None,
        }
    }
}

impl From<PromptFailure> for MullamaError {
    fn from(failure: PromptFailure) -> Self {
        Self::InvalidPrompt(failure)
    }
}

/// Why the engine could not continue a stream.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StreamFailure {
    /// The decode failed that this stream was part of.
    #[error("decode: {0}")]
    Decode(#[source] Arc<mullama_ffi::Error>),
    /// The stream's own sampler failed.
    #[error("sample: {0}")]
    Sample(#[source] Arc<mullama_ffi::Error>),
    /// The stream does not fit into the KV pool even if it is the only one.
    #[error("the KV pool has no cells left for {rows} more tokens")]
    NoCells {
        /// Number of tokens for which there was no cell.
        rows: usize,
    },
    /// The system refused to start a thread.
    #[error("no thread could be started: {0}")]
    Thread(#[source] Arc<mullama_ffi::Error>),
    /// The tokenizer panicked on this prompt.
    #[error("the tokenizer panicked on the prompt")]
    TokenizerPanicked,
    /// The model's file, which is mapped into memory, was changed after it was loaded.
    #[error(
        "{} was changed on disk while it was in use (it had {len} bytes when it was loaded); load the model again, \
         with use_mmap off if its file must be written to while it is in use", path.display()
    )]
    ModelFileChanged {
        /// The changed file, which may be one of several shards.
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

/// Converts a millisecond field of a config to a duration: `None` and 0 mean no limit.
pub(crate) fn limit(milliseconds: Option<u64>) -> Option<Duration> {
    milliseconds.filter(|&ms| ms > 0).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::{Deadline, MullamaError};

    #[test]
    fn a_number_of_one_has_a_noun_in_the_singular() {
        let timeout = |completion_tokens| MullamaError::StreamTimeout {
            deadline: Deadline::Total,
            limit_ms: 5,
            completion_tokens,
        };
        let overflow = |prompt_tokens| MullamaError::ContextOverflow {
            prompt_tokens,
            is_lower_bound: false,
            context_len: prompt_tokens,
        };
        for (error, words) in [
            (timeout(0), "timed out after 5 ms with 0 tokens generated ("),
            (timeout(1), "timed out after 5 ms with 1 token generated ("),
            (timeout(2), "timed out after 5 ms with 2 tokens generated ("),
            (overflow(1), "the prompt has 1 token, but"),
            (overflow(2), "the prompt has 2 tokens, but"),
        ] {
            assert!(error.message().starts_with(words), "{error}");
        }
    }

    #[test]
    fn the_message_of_too_many_streams_agrees_with_their_number() {
        let overload = |unfinished| MullamaError::Overloaded { unfinished, limit: unfinished };
        let paused = |paused, active| MullamaError::PausedOverloaded { paused, active, limit: paused + active };
        let queue = "(n_parallel + max_queue); try again when one has ended";
        let unread = "(max_paused); read one to its end, close one, or raise max_paused";
        for (error, words) in [
            (overload(1), format!("1 stream runs or waits for a slot and the limit is 1 {queue}")),
            (overload(2), format!("2 streams run or wait for a slot and the limit is 2 {queue}")),
            (paused(1, 0), format!("1 stream is paused and the limit is 1 {unread}")),
            (paused(9, 0), format!("9 streams are paused and the limit is 9 {unread}")),
            (paused(1, 1), format!("1 stream is paused, 1 runs or waits and the limit is 2 {unread}")),
            (paused(2, 7), format!("2 streams are paused, 7 run or wait and the limit is 9 {unread}")),
        ] {
            assert_eq!(error.message(), words);
        }
    }
}
