//! A request on its way into the engine: checked at the call, tokenized beside the engine.

use std::sync::Arc;
use std::time::Duration;

use mullama_ffi::TokenId;

use crate::config::StreamConfig;
use crate::error::{MullamaError, PromptFailure, StreamFailure};
use crate::request::Prompt;
use crate::stream::TokenSender;
use crate::text::sampler::SamplerChain;
use crate::text::vocabulary::Vocabulary;

/// A stream that was called for. Its prompt follows when it is tokenized.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) sender: TokenSender,
    pub(crate) config: Arc<StreamConfig>,
    /// When it was called for, on the engine's clock.
    pub(crate) called_at: Duration,
}

/// A prompt that can be computed: at least one token, all known, room for one more.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) sampler: SamplerChain,
}

/// Tokenizes and checks a prompt, and builds its sampler. Needs a big stack if the prompt is not tokens.
pub(crate) fn prepare(
    prompt: Prompt,
    config: &StreamConfig,
    seed: u32,
    context_len: usize,
    vocabulary: &dyn Vocabulary,
) -> Result<Prepared, MullamaError> {
    let tokens = match prompt {
        Prompt::Tokens(tokens) => known(tokens, vocabulary.n_tokens())?,
        // The token that the model adds by itself is no prompt.
        Prompt::Text(text) if text.is_empty() => Vec::new(),
        Prompt::Text(text) => vocabulary.tokenize(&text).map_err(MullamaError::untokenizable)?,
        Prompt::Refused(failure) => return Err(MullamaError::InvalidPrompt(failure)),
        Prompt::Chat(chat) => vocabulary.tokenize_chat(&chat)?,
    };
    if tokens.is_empty() {
        return Err(MullamaError::InvalidPrompt(PromptFailure::Empty));
    }
    if tokens.len() >= context_len {
        return Err(MullamaError::ContextOverflow { prompt_tokens: tokens.len(), context_len });
    }
    let failed = |error| MullamaError::StreamingError(StreamFailure::Sample(Arc::new(error)));
    let mut sampler = SamplerChain::build(config, seed, context_len, vocabulary).map_err(failed)?;
    sampler.see_prompt(&tokens).map_err(failed)?;
    Ok(Prepared { tokens, sampler })
}

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
