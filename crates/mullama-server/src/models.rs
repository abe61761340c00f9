//! The models of a server: loaded on first use, and shared by all requests.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::http::StatusCode;
use mullama::{Context, ContextParams, Model, ModelOptions, MullamaError, StreamConfig};
use mullama_hub::{Hub, LocalModel};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::error::ApiError;
use crate::json::Json;

/// Ends of streams that the pace of an engine is judged by.
const ENDS_KEPT: usize = 32;
/// Longest time in seconds that a client is told to wait.
const LONGEST_WAIT: f64 = 60.0;
/// Most names that an error lists.
const NAMES_LISTED: usize = 5;

/// A model that a server offers.
#[derive(Debug, Clone)]
pub struct ModelSpec {
    /// The name by which clients ask for it.
    pub name: String,
    /// Where it comes from.
    pub source: ModelSource,
}

/// Where a model comes from.
#[derive(Debug, Clone)]
pub enum ModelSource {
    /// A GGUF file.
    File(PathBuf),
    /// A name or a path that the hub finds, and downloads if it is missing.
    Named(String),
    /// A model that is loaded already.
    Loaded(Arc<Model>),
}

/// How models are loaded.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The settings of each model's engine.
    pub context: ContextParams,
    /// How the weights are loaded.
    pub model: ModelOptions,
    /// Maximum number of models in memory at once; 0 is no limit.
    pub max_loaded: usize,
    /// After this time without a request a model is unloaded; `None`: never.
    pub idle_unload: Option<Duration>,
}

/// All models of a server.
#[derive(Debug)]
pub(crate) struct Models {
    entries: Vec<Arc<Entry>>,
    options: LoadOptions,
    hub: Option<Hub>,
    started: Instant,
}

#[derive(Debug)]
struct Entry {
    spec: ModelSpec,
    /// The lock is held while the model is loaded, so that it is loaded once.
    loaded: Arc<Mutex<Option<Arc<Loaded>>>>,
    /// Milliseconds after the start of the server.
    last_used: AtomicU64,
}

/// A model in memory with its engine.
#[derive(Debug)]
pub(crate) struct Loaded {
    name: String,
    context: Context,
    /// Settings that the publisher recommends, and the server's own defaults.
    defaults: StreamConfig,
    /// The system message that the publisher recommends.
    system: Option<String>,
    /// When it was loaded, in seconds of Unix time.
    created: u64,
    ends: StdMutex<VecDeque<Instant>>,
}

impl Loaded {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    pub(crate) fn defaults(&self) -> &StreamConfig {
        &self.defaults
    }

    pub(crate) fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    pub(crate) fn created(&self) -> u64 {
        self.created
    }

    /// Remembers that a stream has ended now.
    pub(crate) fn note_end(&self) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        if ends.len() == ENDS_KEPT {
            ends.pop_front();
        }
        ends.push_back(Instant::now());
    }

    /// The error that a client is told, with the time after which a slot may be free.
    pub(crate) fn refused(&self, error: MullamaError) -> ApiError {
        let is_full = matches!(error, MullamaError::Overloaded { .. } | MullamaError::PromptsOverloaded { .. });
        if matches!(error, MullamaError::StreamingError(_) | MullamaError::ModelLoad { .. }) {
            tracing::error!("{}: {}", self.name, error.message());
        }
        let retry_after = is_full.then(|| self.seconds_between_ends());
        ApiError { retry_after, ..error.into() }
    }

    /// The mean time between the ends of the latest streams, in whole seconds from 1 on.
    fn seconds_between_ends(&self) -> u64 {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(first), true) = (ends.front(), ends.len() > 1) else { return 1 };
        #[expect(clippy::cast_precision_loss, reason = "there are at most 32")]
        let mean = first.elapsed().as_secs_f64() / ends.len() as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is 1 to 60")]
        let seconds = mean.ceil().clamp(1.0, LONGEST_WAIT) as u64;
        seconds
    }
}

impl Models {
    pub(crate) fn new(specs: Vec<ModelSpec>, options: LoadOptions, hub: Option<Hub>) -> Self {
        let entry = |spec| Entry { spec, loaded: Arc::default(), last_used: AtomicU64::new(0) };
        let entries = specs.into_iter().map(|spec| Arc::new(entry(spec))).collect();
        Self { entries, options, hub, started: Instant::now() }
    }

    /// The names of all models, in the order in which they were given.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.spec.name.as_str())
    }

    /// The model of this name, which is loaded if it is not in memory. Without a name it is the first one.
    pub(crate) async fn acquire(&self, name: Option<&str>, defaults: &StreamConfig) -> Result<Arc<Loaded>, ApiError> {
        let entry = self.find(name)?;
        #[expect(clippy::cast_possible_truncation, reason = "milliseconds of a process's life")]
        entry.last_used.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
        let slot = Arc::clone(&entry.loaded).lock_owned().await;
        if let Some(loaded) = &*slot {
            return Ok(Arc::clone(loaded));
        }
        let (spec, options, hub, defaults) =
            (entry.spec.clone(), self.options.clone(), self.hub.clone(), defaults.clone());
        // In a task of its own: the load goes on for others if this client leaves.
        let load = tokio::spawn(async move {
            let mut slot = slot;
            let loaded = load(spec, options, hub, defaults).await.map(Arc::new)?;
            *slot = Some(Arc::clone(&loaded));
            Ok(loaded)
        });
        let loaded: Result<_, MullamaError> = load.await.unwrap_or(Err(MullamaError::Closed { what: "server" }));
        loaded.map_err(|error| {
            tracing::error!("{}", error.message());
            error.into()
        })
    }

    /// The name of a model as it was given to the server.
    pub(crate) fn resolve(&self, name: &str) -> Result<&str, ApiError> {
        self.find(Some(name)).map(|entry| entry.spec.name.as_str())
    }

    fn find(&self, name: Option<&str>) -> Result<&Arc<Entry>, ApiError> {
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return self.entries.first().ok_or_else(|| ApiError::not_found("this server has no model"));
        };
        let same = |entry: &&Arc<Entry>| is_same_name(&entry.spec.name, name);
        self.entries.iter().find(same).ok_or_else(|| self.unknown(name))
    }

    fn unknown(&self, name: &str) -> ApiError {
        let shown: String = name.chars().take(128).collect();
        let mut names: Vec<&str> = self.names().collect();
        names.sort_by(|a, b| strsim::jaro(b, &shown).total_cmp(&strsim::jaro(a, &shown)));
        names.truncate(NAMES_LISTED);
        let known = if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", names.join(", ")) };
        let message = format!("this server has no model named {shown}; {known}");
        ApiError { field: Some("model".to_owned()), ..ApiError::new(StatusCode::NOT_FOUND, "MODEL_NOT_FOUND", message) }
    }
}

/// Whether two names mean the same model: Ollama's clients add the tag `latest`.
fn is_same_name(known: &str, asked: &str) -> bool {
    known == asked || known.strip_suffix(":latest") == Some(asked) || asked.strip_suffix(":latest") == Some(known)
}

async fn load(
    spec: ModelSpec,
    options: LoadOptions,
    hub: Option<Hub>,
    defaults: StreamConfig,
) -> Result<Loaded, MullamaError> {
    let local = match (&spec.source, hub) {
        (ModelSource::Named(name), Some(hub)) => Some(hub.find_or_pull(name, |_| {}).await?),
        _ => None,
    };
    let work = move || load_blocking(spec, &options, local, defaults);
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(MullamaError::Closed { what: "server" }))
}

fn load_blocking(
    spec: ModelSpec,
    options: &LoadOptions,
    local: Option<LocalModel>,
    mut defaults: StreamConfig,
) -> Result<Loaded, MullamaError> {
    let from_file = |path: PathBuf| Model::load_with(path, &options.model, None).map(Arc::new);
    let model = match (spec.source, &local) {
        (ModelSource::Loaded(model), _) => model,
        (ModelSource::Named(_), Some(local)) => from_file(local.path.clone())?,
        (ModelSource::File(path), _) => from_file(path)?,
        (ModelSource::Named(name), None) => from_file(name.into())?,
    };
    let context = Context::new(model, options.context.clone())?;
    let recommended = local.map(|local| local.defaults).unwrap_or_default();
    for (name, value) in &recommended.stream {
        let value: &Value = value;
        if let Err(error) = defaults.set(name, &Json::new(value, name.clone())) {
            tracing::warn!("{}: the recommended {} is left out", spec.name, error.message);
        }
    }
    let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Ok(Loaded { name: spec.name, context, defaults, system: recommended.system, created, ends: StdMutex::default() })
}
