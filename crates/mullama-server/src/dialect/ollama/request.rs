//! What `/api/generate` and `/api/chat` have in common: the model, its options and how long it stays in memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mullama::StreamConfig;

use super::fields::OPTION_TABLES;
use super::keep_alive;
use crate::dialect::sampling::{read_common, read_logprobs};
use crate::error::ApiError;
use crate::json::Json;
use crate::json::fields::{self, Field};
use crate::models::{KeepLoaded, Loaded};
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

/// What a request says about its model, and which of its fields are checked without one.
#[derive(Debug)]
pub(super) struct Asked {
    name: String,
    keep: Option<KeepLoaded>,
    stream: bool,
}

impl Asked {
    /// Checks the fields of a request.
    pub(super) fn read(body: &Json<'_>, tables: &[&[Field]], defaults: &StreamConfig) -> Result<Self, ApiError> {
        fields::apply(tables, body, &mut StreamConfig::new())?;
        let name = body.require("model")?.text()?.to_owned();
        let keep = body.get("keep_alive")?.map(|value| keep_alive::read(&value)).transpose()?;
        if let Some(options) = body.get("options")? {
            read_options(&options, &mut defaults.clone())?;
        }
        read_logprobs(body)?;
        Ok(Self { name, keep, stream: body.flag_or("stream", true)? })
    }

    /// Loads or unloads the model, as a request without a prompt asks.
    pub(super) async fn without_prompt(self, state: &State) -> Result<(String, Without), ApiError> {
        let name = &self.name;
        let known = state.models().resolve(name)?;
        let without = if self.keep == Some(Some(Duration::ZERO)) { Without::Unload } else { Without::Load };
        match (without, self.keep) {
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

    /// Loads the model.
    pub(super) async fn load(self, state: &State) -> Result<Common, ApiError> {
        let started = Instant::now();
        let model = state.model(Some(&self.name)).await?;
        let load = started.elapsed();
        if let Some(keep) = self.keep {
            state.models().keep_alive(Some(&self.name), keep)?;
        }
        Ok(Common { config: model.defaults().clone(), model, stream: self.stream, load })
    }
}

impl Common {
    /// With the options of the request.
    pub(super) fn with_options(mut self, body: &Json<'_>) -> Result<Self, ApiError> {
        if let Some(options) = body.get("options")? {
            read_options(&options, &mut self.config)?;
        }
        self.config.logprobs = read_logprobs(body)?;
        Ok(self)
    }
}

fn read_options(options: &Json<'_>, config: &mut StreamConfig) -> Result<(), ApiError> {
    let inside = |error| inside(options, error);
    fields::apply(OPTION_TABLES, options, config).map_err(inside)?;
    if let Some(number) = options.get("num_predict")? {
        // -1 is as many as there can be, and -2 as many as the context holds, which is the same here.
        config.max_tokens = u32::try_from(number.integer(-2..=i64::from(u32::MAX))?).unwrap_or(u32::MAX);
    }
    read_common(options, config)?;
    config.validate().map_err(|error| inside(fields::renamed(error.into(), OPTION_TABLES)))
}

/// The error with the path of its field, where it has the name only.
fn inside(options: &Json<'_>, error: ApiError) -> ApiError {
    match &error.field {
        Some(field) if !field.starts_with(&options.path()) => ApiError {
            message: format!("{}.{}", options.path(), error.message),
            field: Some(options.child(field)),
            ..error
        },
        _ => error,
    }
}
