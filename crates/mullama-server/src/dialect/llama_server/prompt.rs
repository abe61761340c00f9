//! Prompts as llama-server takes them: text, token ids, both mixed, or lists of these.

use std::sync::Arc;

use mullama::{Model, Prompt, TokenId};
use serde_json::Value;

use crate::dialect::blocking::blocking;
use crate::dialect::prompts::read_tokens;
use crate::error::ApiError;
use crate::json::Json;

/// Most prompts of one request, and most parts of one prompt.
const MOST_PROMPTS: usize = 128;

/// The prompts of a request.
pub(super) async fn read_prompts(value: &Json<'_>, model: &Arc<Model>) -> Result<Vec<Prompt>, ApiError> {
    let Value::Array(items) = value.value() else { return Ok(vec![read_prompt(value, model).await?]) };
    if items.iter().any(Value::is_number) || items.is_empty() {
        return Ok(vec![read_prompt(value, model).await?]);
    }
    if items.len() > MOST_PROMPTS {
        return Err(value.error(format_args!("has {} prompts, but must have at most {MOST_PROMPTS}", items.len())));
    }
    let mut prompts = Vec::with_capacity(items.len());
    for item in value.list()? {
        prompts.push(read_prompt(&item, model).await?);
    }
    Ok(prompts)
}

async fn read_prompt(value: &Json<'_>, model: &Arc<Model>) -> Result<Prompt, ApiError> {
    match value.value() {
        Value::String(text) => Ok(Prompt::from(text.as_str())),
        Value::Array(_) => {
            let parts = Parts::read(value)?;
            let tokens = parts.tokens(Arc::clone(model), true, true).await?;
            Ok(Prompt::from(tokens))
        }
        Value::Object(_) => {
            if let Some(data) = value.get("multimodal_data")?
                && !data.list()?.is_empty()
            {
                return Err(data.error("is not supported: this server reads text"));
            }
            value.require("prompt_string")?.text().map(Prompt::from)
        }
        _ => Err(value.must_be("a string or a list of token ids and strings")),
    }
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

impl Parts {
    /// A string, or a list of token ids and strings.
    pub(super) fn read(value: &Json<'_>) -> Result<Self, ApiError> {
        if let Value::String(text) = value.value() {
            return Ok(Self::Mixed(vec![Part::Text(text.clone())]));
        }
        let items = value.list()?;
        let texts = items.iter().filter(|item| item.value().is_string()).count();
        if texts == 0 {
            return read_tokens(value).map(Self::Tokens);
        }
        if texts > MOST_PROMPTS {
            return Err(value.error(format_args!("has {texts} strings, but must have at most {MOST_PROMPTS}")));
        }
        let part = |item: &Json<'_>| {
            if let Value::String(text) = item.value() {
                return Ok(Part::Text(text.clone()));
            }
            let id = item.integer(0, TokenId::MAX.into())?;
            Ok(Part::Token(TokenId::try_from(id).unwrap_or_default()))
        };
        items.iter().map(part).collect::<Result<_, ApiError>>().map(Self::Mixed)
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
        blocking(move |go_on| {
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
