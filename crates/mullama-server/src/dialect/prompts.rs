//! Prompts of requests that continue a text.

use mullama::{Prompt, TokenId};
use serde_json::Value;

use crate::error::ApiError;
use crate::json::Json;

/// Most prompts of one request.
pub(crate) const MOST_PROMPTS: usize = 128;

/// A text, a list of token ids, or a list of these.
pub(crate) fn read_prompts(value: &Json<'_>) -> Result<Vec<Prompt>, ApiError> {
    match value.value() {
        Value::Array(items) if items.first().is_some_and(|first| !first.is_number()) => {
            value.list_of(MOST_PROMPTS, "prompts")?.map(|item| read_prompt(&item)).collect()
        }
        _ => read_prompt(value).map(|prompt| vec![prompt]),
    }
}

/// A text, or a list of token ids.
pub(crate) fn read_prompt(value: &Json<'_>) -> Result<Prompt, ApiError> {
    match value.value() {
        Value::String(text) => Ok(Prompt::from(text.as_str())),
        Value::Array(_) => read_tokens(value).map(Prompt::from),
        _ => Err(value.must_be("a string or a list of token ids")),
    }
}

/// A list of token ids.
pub(crate) fn read_tokens(value: &Json<'_>) -> Result<Vec<TokenId>, ApiError> {
    value.list()?.map(|item| item.integer(0..=TokenId::MAX)).collect()
}
