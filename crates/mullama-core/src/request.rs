//! What a stream is asked to continue, and the only module in which requests are checked.
//!
//! Flow: **request** → tokenizer pool → inbox → engine. A [`Request`] has a valid config; a [`ValidRequest`] has a
//! prompt that can be computed as well.

use std::sync::Arc;
use std::time::Duration;

use mullama_ffi::TokenId;
use serde_json::{Map, Value};

use crate::chat::Chat;
use crate::config::StreamConfig;
use crate::engine::tokenizer_pool::{Lane, SHORT_BYTES};
use crate::error::{self, MullamaError, PromptFailure, StreamFailure};
use crate::text::sampler::SamplerChain;
use crate::text::vocabulary::{IsWanted, Vocabulary};

/// A prompt: text or token ids to continue, or a chat to answer.
///
/// In text, control tokens are parsed and BOS is added as the model requires; token ids are used unchanged. In the
/// messages of a chat, control tokens are plain text.
#[derive(Debug, Clone)]
pub enum Prompt {
    /// Text for the model's tokenizer.
    Text(String),
    /// Token ids of the model's vocabulary.
    Tokens(Vec<TokenId>),
    /// Messages for the model's template.
    Chat(Box<Chat>),
    /// An invalid prompt of another language that this type cannot represent; the stream reports the error.
    Refused(Box<MullamaError>),
}

impl Prompt {
    /// Bytes that the prompt takes in memory while it waits to be tokenized.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Chat(chat) => chat_bytes(chat),
            Self::Tokens(tokens) => size_of_val(tokens.as_slice()),
            Self::Refused(_) => 0,
        }
    }
}

/// The lane for a chat that is no stream's prompt. Nobody knows how long a template of the caller's own takes.
pub(crate) fn lane_of(chat: &Chat) -> Lane {
    if chat.chat_template.is_some() { Lane::Bulk } else { Lane::for_text(chat_bytes(chat)) }
}

/// About the length of a chat as JSON, which is about that of the rendered prompt. Texts are not read.
fn chat_bytes(chat: &Chat) -> usize {
    let messages = chat.messages.iter().map(|message| fields_bytes(message.fields()));
    let tools = chat.tools.iter().flatten().map(value_bytes);
    let template = chat.chat_template.as_ref().map_or(0, String::len);
    messages.chain(tools).sum::<usize>() + template + fields_bytes(&chat.chat_template_kwargs)
}

/// About the length of a value as JSON.
fn value_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + "\"\",".len(),
        Value::Array(items) => items.iter().map(value_bytes).sum::<usize>() + "[],".len(),
        Value::Object(fields) => fields_bytes(fields),
        Value::Null | Value::Bool(_) | Value::Number(_) => "12345,".len(),
    }
}

fn fields_bytes(fields: &Map<String, Value>) -> usize {
    let field = |(name, value): (&String, &Value)| name.len() + "\"\":".len() + value_bytes(value);
    fields.iter().map(field).sum::<usize>() + "{},".len()
}

/// A request with a valid config. Errors of its prompt are reported by the stream.
#[derive(Debug)]
pub(crate) struct Request {
    prompt: Prompt,
    pub(crate) config: Arc<StreamConfig>,
    pub(crate) seed: u32,
    context_len: usize,
}

/// A request that can be computed: it has at least one token, all ids are valid, and there is space for one more token.
#[derive(Debug)]
pub(crate) struct ValidRequest {
    pub(crate) prompt: Vec<TokenId>,
    /// Maximum number of completion tokens, limited by the context; then the stream ends with `length`.
    pub(crate) max_tokens: usize,
    pub(crate) sampler: SamplerChain,
}

impl Request {
    /// Checks the config, and chooses a seed if it has none.
    ///
    /// # Errors
    /// [`MullamaError::InvalidConfig`] names the field.
    pub(crate) fn new(
        prompt: Prompt,
        config: StreamConfig,
        vocabulary: &dyn Vocabulary,
        context_len: usize,
    ) -> Result<Self, MullamaError> {
        config.validate()?;
        config.validate_tokens(vocabulary.n_tokens())?;
        let seed = config.seed.unwrap_or_else(any_seed);
        Ok(Self { prompt, config: Arc::new(config), seed, context_len })
    }

    /// Whether validation is fast and needs no large stack. DRY searches the whole vocabulary for its sequence
    /// breakers.
    pub(crate) fn is_quick(&self) -> bool {
        !matches!(self.prompt, Prompt::Text(_) | Prompt::Chat(_)) && self.config.dry_multiplier <= 0.0
    }

    /// Bytes that the prompt takes in memory while it waits.
    pub(crate) fn prompt_bytes(&self) -> usize {
        self.prompt.bytes()
    }

    /// Whether the prompt is rendered with a template of the caller, whose duration is unknown.
    pub(crate) fn has_own_template(&self) -> bool {
        matches!(&self.prompt, Prompt::Chat(chat) if chat.chat_template.is_some())
    }

    /// The earliest deadline of a stream that was requested at `called_at`.
    pub(crate) fn deadline(&self, called_at: Duration) -> Option<Duration> {
        let config = &self.config;
        let limits = [config.timeout_ms, config.ttft_timeout_ms, config.queue_timeout_ms];
        limits.into_iter().filter_map(|ms| called_at.checked_add(error::limit(ms)?)).min()
    }

    /// The error of a prompt that is too long to fit, judged by its bytes: no token stands for more than
    /// `longest_piece` bytes. Short texts pass, so that the error can report their exact number of tokens.
    ///
    /// # Errors
    /// [`MullamaError::ContextOverflow`] with the minimum number of tokens.
    pub(crate) fn check_length(&self, longest_piece: Option<usize>) -> Result<(), MullamaError> {
        match (&self.prompt, longest_piece) {
            (Prompt::Tokens(tokens), _) => self.check_fits(tokens.len(), false),
            (Prompt::Text(text), Some(longest_piece)) if text.len() > SHORT_BYTES => {
                self.check_fits(text.len().div_ceil(longest_piece.max(1)), true)
            }
            _ => Ok(()),
        }
    }

    fn check_fits(&self, prompt_tokens: usize, is_lower_bound: bool) -> Result<(), MullamaError> {
        if prompt_tokens < self.context_len {
            return Ok(());
        }
        Err(MullamaError::ContextOverflow { prompt_tokens, is_lower_bound, context_len: self.context_len })
    }

    /// Tokenizes the prompt, checks the tokens and builds the sampler; `None` if `is_wanted` returned `false`. Needs a
    /// tokenizer thread unless it [is quick](Self::is_quick).
    pub(crate) fn validate(
        mut self,
        vocabulary: &dyn Vocabulary,
        is_wanted: &IsWanted,
    ) -> Result<Option<ValidRequest>, MullamaError> {
        self.check_length(None)?;
        let mut stopped = false;
        // Once the text cannot fit any more, the rest of it need not be tokenized.
        let mut go_on = |tokens: usize| {
            stopped = tokens >= self.context_len || !is_wanted();
            !stopped
        };
        let tokens = match std::mem::replace(&mut self.prompt, Prompt::Tokens(Vec::new())) {
            Prompt::Tokens(tokens) => known(tokens, vocabulary.n_tokens())?,
            // A token that the model adds by itself is not a prompt.
            Prompt::Text(text) if text.is_empty() => Vec::new(),
            Prompt::Text(text) => vocabulary.tokenize_while(&text, &mut go_on).map_err(MullamaError::untokenizable)?,
            Prompt::Chat(chat) => match vocabulary.tokenize_chat(&chat, is_wanted, &mut go_on) {
                Ok(tokens) => tokens,
                // The stream has its own end: it left, or its deadline has passed.
                Err(_) if !is_wanted() => return Ok(None),
                Err(error) => return Err(error),
            },
            Prompt::Refused(error) => return Err(*error),
        };
        self.check_fits(tokens.len(), stopped)?;
        if stopped {
            return Ok(None);
        }
        self.with_prompt(tokens, vocabulary).map(Some)
    }

    fn with_prompt(self, prompt: Vec<TokenId>, vocabulary: &dyn Vocabulary) -> Result<ValidRequest, MullamaError> {
        if prompt.is_empty() {
            return Err(MullamaError::InvalidPrompt(PromptFailure::Empty));
        }
        let failed = |error| MullamaError::StreamingError(StreamFailure::Sample(Arc::new(error)));
        let mut sampler = SamplerChain::build(&self.config, self.seed, self.context_len, vocabulary).map_err(failed)?;
        sampler.see_prompt(&prompt).map_err(failed)?;
        let max_tokens = (self.config.max_tokens as usize).min(self.context_len - prompt.len());
        Ok(ValidRequest { prompt, max_tokens, sampler })
    }
}

/// Returns the token ids if all of them are in the vocabulary.
fn known(tokens: Vec<TokenId>, n_vocab: usize) -> Result<Vec<TokenId>, MullamaError> {
    let unknown = |token: TokenId| !usize::try_from(token).is_ok_and(|t| t < n_vocab);
    match tokens.iter().position(|&token| unknown(token)) {
        None => Ok(tokens),
        Some(position) => {
            let token = tokens[position];
            Err(MullamaError::InvalidPrompt(PromptFailure::UnknownToken { token, position, n_vocab }))
        }
    }
}

/// A random seed. `u32::MAX` is excluded, because llama.cpp reads it as "choose any".
fn any_seed() -> u32 {
    let bits = getrandom::u64().expect("every supported system has a source of randomness");
    u32::try_from(bits % u64::from(u32::MAX)).expect("a remainder of a division by u32::MAX")
}

impl From<Chat> for Prompt {
    fn from(chat: Chat) -> Self {
        Self::Chat(Box::new(chat))
    }
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&String> for Prompt {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<Vec<TokenId>> for Prompt {
    fn from(tokens: Vec<TokenId>) -> Self {
        Self::Tokens(tokens)
    }
}

impl From<&[TokenId]> for Prompt {
    fn from(tokens: &[TokenId]) -> Self {
        Self::Tokens(tokens.into())
    }
}
