//! Log-probabilities of chat completions.

use std::sync::Arc;

use mullama::{Token, TokenId};
use serde::Serialize;

use crate::models::Loaded;

/// The log-probabilities of one chunk.
#[derive(Debug, Serialize)]
pub(crate) struct LogprobsBody {
    content: Vec<TokenLogprob>,
    refusal: Option<()>,
}

#[derive(Debug, Serialize)]
struct TokenLogprob {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
    top_logprobs: Vec<TopLogprob>,
}

#[derive(Debug, Serialize)]
struct TopLogprob {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

/// What OpenAI writes for a token that is almost impossible; JSON has no infinity.
const IMPOSSIBLE: f32 = -9999.0;

fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { IMPOSSIBLE }
}

impl LogprobsBody {
    pub(crate) fn of<'a>(tokens: impl IntoIterator<Item = &'a Token>, model: &Arc<Loaded>) -> Self {
        let top = |(id, logprob): &(TokenId, f32)| {
            let bytes = model.context().model().detokenize(&[*id]).unwrap_or_default();
            TopLogprob { token: String::from_utf8_lossy(&bytes).into_owned(), logprob: finite(*logprob), bytes }
        };
        let one = |token: &Token| {
            Some(TokenLogprob {
                token: String::from_utf8_lossy(&token.bytes).into_owned(),
                logprob: finite(token.logprob?),
                bytes: token.bytes.clone(),
                top_logprobs: token.top_logprobs.iter().map(top).collect(),
            })
        };
        Self { content: tokens.into_iter().filter_map(one).collect(), refusal: None }
    }
}
