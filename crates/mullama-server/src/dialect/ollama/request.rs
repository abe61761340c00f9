//! What `/api/generate` and `/api/chat` have in common: the model, its options and how long it stays in memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mullama::StreamConfig;
use serde_json::Value;

use super::fields::OPTION_TABLES;
use super::keep_alive;
use crate::dialect::sampling::texts;
use crate::error::ApiError;
use crate::json::Json;
use crate::json::fields::{self, Field};
use crate::models::Loaded;
use crate::state::State;

/// A request whose common fields are read.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) model: Arc<Loaded>,
    pub(super) config: StreamConfig,
    pub(super) stream: bool,
    /// How long the request waited for the model to be loaded.
    pub(super) load: Duration,
}

/// What a request without a prompt asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Without {
    Load,
    Unload,
}

impl Without {
    /// The reason as Ollama names it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Unload => "unload",
        }
    }
}

/// Loads or unloads a model, as a request without a prompt asks.
pub(super) async fn without_prompt(
    state: &State,
    body: &Json<'_>,
    tables: &[&[Field]],
) -> Result<(String, Without), ApiError> {
    fields::apply(tables, body, &mut StreamConfig::new())?;
    let name = body.require("model")?.text()?;
    let keep = body.get("keep_alive")?.map(|value| keep_alive::read(&value)).transpose()?;
    let known = state.models().resolve(name)?;
    let without = if keep == Some(Some(Duration::ZERO)) { Without::Unload } else { Without::Load };
    match (without, keep) {
        (Without::Unload, _) => drop(state.models().unload(name).await?),
        (Without::Load, None) => drop(state.model(Some(name)).await?),
        (Without::Load, Some(keep)) => {
            // Held until its time is set, so that it does not leave before.
            let _model = state.model(Some(name)).await?;
            state.models().keep_alive(Some(name), keep)?;
        }
    }
    Ok((known, without))
}

/// Reads the common fields, and loads the model.
pub(super) async fn read(state: &State, body: &Json<'_>, tables: &[&[Field]]) -> Result<Common, ApiError> {
    // What is wrong with a request is said before a model is loaded for it.
    fields::apply(tables, body, &mut StreamConfig::new())?;
    let name = body.require("model")?.text()?;
    let keep = body.get("keep_alive")?.map(|value| keep_alive::read(&value)).transpose()?;
    let started = Instant::now();
    let model = state.model(Some(name)).await?;
    let load = started.elapsed();
    let mut config = model.defaults().clone();
    if let Some(options) = body.get("options")? {
        read_options(&options, &model, &mut config)?;
    }
    config.logprobs = read_logprobs(body)?;
    if let Some(keep) = keep {
        state.models().keep_alive(Some(name), keep)?;
    }
    let stream = body.get("stream")?.map_or(Ok(true), |value| value.flag())?;
    Ok(Common { model, config, stream, load })
}

fn read_options(options: &Json<'_>, model: &Loaded, config: &mut StreamConfig) -> Result<(), ApiError> {
    let inside = |error| inside(options, error);
    fields::apply(OPTION_TABLES, options, config).map_err(inside)?;
    if let Some(number) = options.get("num_predict")? {
        // -1 is as many as there can be, and -2 as many as the context holds, which is the same here.
        config.max_tokens = u32::try_from(number.integer(-2, u32::MAX.into())?).unwrap_or(u32::MAX);
    }
    if let Some(seed) = options.get("seed")? {
        config.seed = u32::try_from(seed.integer(-1, i64::from(u32::MAX) - 1)?).ok();
    }
    if let Some(stop) = options.get("stop")? {
        config.stop_sequences = texts(&stop)?;
    }
    if let Some(wanted) = options.get("num_ctx")? {
        let holds = i64::try_from(model.context().context_len()?).unwrap_or(i64::MAX);
        if wanted.integer(1, i64::MAX)? > holds {
            let message = format!("is {}, but the server's contexts hold {holds} tokens", wanted.value());
            return Err(wanted.error(message));
        }
    }
    config.validate().map_err(|error| inside(fields::renamed(error.into(), OPTION_TABLES)))
}

/// The error with the path of its field, where it has the name only.
fn inside(options: &Json<'_>, error: ApiError) -> ApiError {
    match &error.field {
        Some(field) if !field.starts_with(options.path()) => ApiError {
            message: format!("{}.{}", options.path(), error.message),
            field: Some(options.child(field)),
            ..error
        },
        _ => error,
    }
}

/// How many of the most likely tokens are reported beside each token; `None` reports nothing.
fn read_logprobs(body: &Json<'_>) -> Result<Option<u32>, ApiError> {
    let wanted = body.get("logprobs")?.map_or(Ok(false), |value| value.flag())?;
    match (wanted, body.get("top_logprobs")?) {
        (true, Some(number)) => Ok(u32::try_from(number.integer(0, 20)?).ok()),
        (true, None) => Ok(Some(0)),
        (false, Some(number)) if number.integer(0, 20)? > 0 => Err(number.error("needs logprobs to be true")),
        (false, _) => Ok(None),
    }
}

/// Whether a field is missing, or an empty text or list.
pub(super) fn is_empty(body: &Json<'_>, name: &str) -> Result<bool, ApiError> {
    Ok(body.get(name)?.is_none_or(|value| match value.value() {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }))
}
