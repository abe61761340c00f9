//! Prompts as llama-server takes them: text, token ids, both mixed, or lists of these.

use std::sync::Arc;

use mullama::{Model, Prompt, TokenId};
use serde_json::Value;

use super::fields::PROMPT;
use crate::dialect::blocking::blocking;
use crate::dialect::prompts::{MOST_PROMPTS, read_tokens};
use crate::error::ApiError;
use crate::json::{Json, fields};

/// A prompt, of which some parts may still have to be tokenized.
pub(super) enum Unread {
    Whole(Prompt),
    Parts(Parts),
}

/// The prompts of a request.
pub(super) fn read_prompts(value: &Json<'_>) -> Result<Vec<Unread>, ApiError> {
    match value.value() {
        Value::Array(items) if !items.is_empty() && !items.iter().any(Value::is_number) => {
            value.list_of(MOST_PROMPTS, "prompts")?.map(|item| read_prompt(&item)).collect()
        }
        _ => read_prompt(value).map(|prompt| vec![prompt]),
    }
}

fn read_prompt(value: &Json<'_>) -> Result<Unread, ApiError> {
    match value.value() {
        Value::String(text) => Ok(Unread::Whole(Prompt::from(text.as_str()))),
        Value::Array(_) => Parts::read(value).map(Unread::Parts),
        Value::Object(_) => {
            fields::check(PROMPT, value)?;
            value.require("prompt_string")?.text().map(|text| Unread::Whole(Prompt::from(text)))
        }
        _ => Err(value.must_be("a string or a list of token ids and strings")),
    }
}

/// The prompts with all their parts as token ids.
pub(super) async fn tokenized(prompts: Vec<Unread>, model: &Arc<Model>) -> Result<Vec<Prompt>, ApiError> {
    let mut all = Vec::with_capacity(prompts.len());
    for prompt in prompts {
        all.push(match prompt {
            Unread::Whole(prompt) => prompt,
            Unread::Parts(parts) => Prompt::from(parts.tokens(Arc::clone(model), true, true).await?),
        });
    }
    Ok(all)
}

/// A text that is given in parts, some of them as token ids.
pub(super) enum Parts {
    Tokens(Vec<TokenId>),
    Mixed(Vec<Part>),
}

/// One part.
pub(super) enum Part {
    Text(String),
    Token(TokenId),
}

impl Part {
    fn bytes(&self) -> usize {
        if let Self::Text(text) = self { text.len() } else { size_of::<TokenId>() }
    }
}

impl Parts {
    /// A string, or a list of token ids and strings.
    pub(super) fn read(value: &Json<'_>) -> Result<Self, ApiError> {
        if let Value::String(text) = value.value() {
            return Ok(Self::Mixed(vec![Part::Text(text.clone())]));
        }
        let texts = value.list()?.filter(|item| item.value().is_string()).count();
        if texts == 0 {
            return read_tokens(value).map(Self::Tokens);
        }
        if texts > MOST_PROMPTS {
            return Err(value.error(format_args!("has {texts} strings, but must have at most {MOST_PROMPTS}")));
        }
        let part = |item: Json<'_>| {
            if let Value::String(text) = item.value() {
                return Ok(Part::Text(text.clone()));
            }
            item.integer(0..=TokenId::MAX).map(Part::Token)
        };
        value.list()?.map(part).collect::<Result<_, ApiError>>().map(Self::Mixed)
    }

    /// The token ids of all parts. Tokens such as BOS are added only before a text at the start.
    pub(super) async fn tokens(
        self,
        model: Arc<Model>,
        add_special: bool,
        parse_special: bool,
    ) -> Result<Vec<TokenId>, ApiError> {
        let parts = match self {
            Self::Tokens(tokens) => return Ok(tokens),
            Self::Mixed(parts) => parts,
        };
        let bytes = parts.iter().map(Part::bytes).sum();
        blocking(bytes, move |go_on| {
            let mut tokens = Vec::new();
            for (index, part) in parts.into_iter().enumerate() {
                match part {
                    Part::Token(token) => tokens.push(token),
                    Part::Text(text) => {
                        let add = add_special && index == 0;
                        let Some(more) = model.tokenize_while(&text, add, parse_special, &mut *go_on)? else {
                            return Ok(None);
                        };
                        tokens.extend(more);
                    }
                }
            }
            Ok(Some(tokens))
        })
        .await
    }
}
