//! What all requests share.

use std::sync::Arc;

use axum::extract::Request;
use mullama::StreamConfig;
use mullama_hub::Hub;
use serde_json::Value;

use crate::config::ServerConfig;
use crate::error::ApiError;
use crate::generation::KeepAlive;
use crate::json::{self, Budget};
use crate::models::{LoadOptions, Loaded, ModelSpec, Models};

/// What the requests of a server share: its models and its settings. Clones share the same models.
#[derive(Debug, Clone)]
pub struct State(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    models: Models,
    config: ServerConfig,
    bodies: Budget,
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
        let models = Models::new(models, options, hub);
        Self(Arc::new(Shared { models, config, bodies, defaults }))
    }

    pub(crate) fn models(&self) -> &Models {
        &self.0.models
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

    /// The body of a request, which must be a JSON object.
    pub(crate) async fn body(&self, request: Request) -> Result<Value, ApiError> {
        json::read(request.into_body(), &self.0.bodies).await
    }
}
