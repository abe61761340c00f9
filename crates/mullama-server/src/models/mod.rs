//! The models of a server: loaded on first use, shared by all requests, and unloaded when they are idle.

mod load;
mod loaded;
mod names;
mod pace;
mod queue;
mod registry;
mod residency;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mullama::{ContextParams, Model, ModelOptions, StreamConfig};
use mullama_hub::Hub;
use tokio::time::Instant;

pub(crate) use loaded::Loaded;
pub(crate) use names::missing;
pub(crate) use residency::{KeepLoaded, Presence, Resident};

use crate::error::ApiError;
use crate::stop::{Phase, Stop, stopping};
use queue::Turn;
use registry::{Registry, Try, no_room};

/// The longest time that a request waits until a model that is in use can make room for its own.
const WAIT_FOR_ROOM: Duration = Duration::from_secs(30);

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
    registry: Arc<Registry>,
    stop: Stop,
}

impl Models {
    pub(crate) fn new(specs: Vec<ModelSpec>, options: LoadOptions, hub: Option<Hub>, stop: Stop) -> Self {
        Self { registry: Arc::new(Registry::new(specs, options, hub, stop.clone())), stop }
    }

    /// The model of this name, which is loaded if it is not in memory. Without a name it is the first one.
    ///
    /// A load goes on if the client that started it leaves, because others may wait for it too.
    pub(crate) async fn acquire(&self, name: Option<&str>, defaults: &StreamConfig) -> Result<Arc<Loaded>, ApiError> {
        let id = self.registry.id(name)?;
        tokio::select! {
            acquired = self.wait_for(id, defaults) => acquired,
            () = self.stop.clone().reached(Phase::Ending) => Err(stopping()),
        }
    }

    async fn wait_for(&self, id: u64, defaults: &StreamConfig) -> Result<Arc<Loaded>, ApiError> {
        let deadline = Instant::now() + WAIT_FOR_ROOM;
        let turn = Turn::new(&self.registry, id);
        loop {
            let mut changed = std::pin::pin!(self.registry.changed().notified());
            // What changes from here on wakes this request.
            changed.as_mut().enable();
            match self.registry.try_acquire(&turn, defaults)? {
                Try::Acquired(loaded) => return Ok(Arc::new(loaded)),
                Try::Changing => changed.await,
                Try::HeldBack(until) => drop(tokio::time::timeout_at(until, changed).await),
                Try::NoRoom => tokio::time::timeout_at(deadline, changed).await.map_err(|_| no_room())?,
            }
        }
    }
}
