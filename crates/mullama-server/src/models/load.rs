//! Brings a model into memory.

use std::path::PathBuf;
use std::sync::Arc;

use axum::http::StatusCode;
use mullama::{Context, Model, MullamaError, StreamConfig};
use mullama_hub::{Hub, LocalModel};
use serde_json::Value;
use tokio::sync::Semaphore;

use super::loaded::{Engine, Usage};
use super::{LoadOptions, ModelSource, ModelSpec, names};
use crate::error::ApiError;
use crate::json::Json;

/// Most models that are loaded at once. Each takes a thread for blocking work, of which the others are for requests.
pub(super) const LOADS_AT_ONCE: usize = 4;
/// The key of a GGUF file's chat template.
const TEMPLATE_KEY: &str = "tokenizer.chat_template";

/// What a load needs.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) spec: ModelSpec,
    pub(super) options: LoadOptions,
    pub(super) hub: Option<Hub>,
    pub(super) defaults: StreamConfig,
    pub(super) usage: Usage,
    pub(super) permits: Arc<Semaphore>,
}

/// Finds the model, downloads it if it is missing, and loads it on a thread of its own.
pub(super) async fn load(load: Load) -> Result<Engine, MullamaError> {
    let local = match (&load.spec.source, &load.hub) {
        (ModelSource::Named(name), Some(hub)) => Some(hub.find_or_pull(name, |_| {}).await?),
        _ => None,
    };
    let permit = Arc::clone(&load.permits).acquire_owned().await;
    let work = move || {
        let _permit = permit;
        load_blocking(load, local)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(loaded) => loaded,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(MullamaError::Closed { what: "server" }),
    }
}

fn load_blocking(load: Load, local: Option<LocalModel>) -> Result<Engine, MullamaError> {
    let Load { spec, options, mut defaults, usage, .. } = load;
    let from_file = |path: PathBuf| Model::load_with(path, &options.model, None).map(Arc::new);
    let model = match (spec.source, &local) {
        (ModelSource::Loaded(model), _) => model,
        (ModelSource::Named(_), Some(local)) => from_file(local.path.clone())?,
        (ModelSource::File(path), _) => from_file(path)?,
        (ModelSource::Named(name), None) => from_file(name.into())?,
    };
    let chat_template = model.metadata().into_iter().find(|(key, _)| key == TEMPLATE_KEY).map(|(_, template)| template);
    let context = Context::new(model, options.context.clone())?;
    let recommended = local.map(|local| local.defaults).unwrap_or_default();
    for (name, value) in &recommended.stream {
        let value: &Value = value;
        if let Err(error) = defaults.set(name, &Json::new(value, name)) {
            tracing::warn!("{}: the recommended {} is left out", spec.name, error.message);
        }
    }
    Ok(Engine { name: spec.name, context, defaults, system: recommended.system, chat_template, usage })
}

/// What a client is told of a load that failed. It did nothing wrong, except perhaps to ask for this model.
pub(super) fn told(error: MullamaError, name: &str) -> ApiError {
    match error {
        MullamaError::ModelNotFound { .. } => names::missing(name),
        MullamaError::UnknownModel { .. } | MullamaError::Download { .. } | MullamaError::Closed { .. } => error.into(),
        _ => {
            let message = "the server cannot load the model; its log says why";
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "MODEL_LOAD", message)
        }
    }
}

/// Why a load failed, for the log: without the path, which the name stands for.
pub(super) fn logged(error: &MullamaError) -> String {
    match error {
        MullamaError::ModelNotFound { .. } => "its file is missing".to_owned(),
        MullamaError::ModelLoad { path, source } => {
            let folder = path.parent().map(|folder| format!("{}/", folder.display())).unwrap_or_default();
            if folder.len() > 1 { source.to_string().replace(&folder, "") } else { source.to_string() }
        }
        MullamaError::UnknownModel { .. } | MullamaError::Download { .. } => ApiError::from(error.clone()).message,
        error => error.message(),
    }
}
