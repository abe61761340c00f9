//! What all requests share.

use std::sync::Arc;

use axum::extract::Request;
use mullama::StreamConfig;
use mullama_hub::Hub;

use crate::config::ServerConfig;
use crate::error::ApiError;
use crate::generation::KeepAlive;
use crate::json::{self, Budget, Parsed};
use crate::models::{LoadOptions, Loaded, ModelSpec, Models};
use crate::resume::Registry;
use crate::stop::Stop;

/// What the requests of a server share: its models and its settings. Clones share the same models.
#[derive(Debug, Clone)]
pub struct State(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    models: Models,
    stop: Stop,
    config: ServerConfig,
    bodies: Budget,
    resumable: Arc<Registry>,
    /// Where neither a request nor the model's publisher says otherwise.
    defaults: StreamConfig,
}

impl State {
    /// A server of these models. The first is used by requests that name none. `hub` finds and downloads models by
    /// name; without one, every source is a file.
    pub fn new(models: Vec<ModelSpec>, options: LoadOptions, config: ServerConfig, hub: Option<Hub>) -> Self {
        let bodies = Budget::new(config.max_body_bytes, config.body_timeout);
        let limit = config.request_timeout.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        let defaults = StreamConfig::new().timeout_ms(limit).max_tokens(u32::MAX);
        let stop = Stop::new();
        let models = Models::new(models, options, hub, stop.clone());
        Self(Arc::new(Shared { models, stop, config, bodies, resumable: Arc::default(), defaults }))
    }

    pub(crate) fn models(&self) -> &Models {
        &self.0.models
    }

    pub(crate) fn stop(&self) -> &Stop {
        &self.0.stop
    }

    pub(crate) fn config(&self) -> &ServerConfig {
        &self.0.config
    }

    pub(crate) fn keep_alive(&self) -> KeepAlive {
        KeepAlive(self.0.config.keep_alive)
    }

    /// The model that a request names, which is loaded if it is not in memory.
    pub(crate) async fn model(&self, name: Option<&str>) -> Result<Arc<Loaded>, ApiError> {
        self.0.models.acquire(name, &self.0.defaults).await
    }

    /// The streams that can be resumed.
    pub(crate) fn resumable(&self) -> &Arc<Registry> {
        &self.0.resumable
    }

    /// The bounds of bodies and messages.
    pub(crate) fn bodies(&self) -> &Budget {
        &self.0.bodies
    }

    /// The body of a request, which must be a JSON object.
    pub(crate) async fn body(&self, request: Request) -> Result<Parsed, ApiError> {
        json::read(request.into_body(), &self.0.bodies).await
    }
}
