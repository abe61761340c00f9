//! What all requests share.

use std::sync::Arc;

use axum::extract::Request;
use mullama::{MullamaError, StreamConfig};
use mullama_hub::Hub;
use tokio::sync::Semaphore;

use crate::config::ServerConfig;
use crate::error::ApiError;
use crate::generation::KeepAlive;
use crate::json::{self, Budget, Parsed};
use crate::models::{LoadOptions, Loaded, ModelSpec, Models};
use crate::resume::Registry;
use crate::stop::Stop;
use crate::telemetry;
use crate::websocket::CreditWaits;

/// Most downloads that clients have running at once.
pub(crate) const PULLS_AT_ONCE: usize = 4;

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
    credit_waits: Arc<CreditWaits>,
    /// Downloads that clients may start.
    pulls: Arc<Semaphore>,
    /// Where neither a request nor the model's publisher says otherwise.
    defaults: StreamConfig,
}

impl State {
    /// A server of these models. The first is used by requests that name none. `hub` finds and downloads models by
    /// name; without one, every source is a file.
    ///
    /// # Errors
    /// [`MullamaError::InvalidConfig`] with the name and the value of a setting that is out of its range.
    pub fn new(
        models: Vec<ModelSpec>,
        options: LoadOptions,
        config: ServerConfig,
        hub: Option<Hub>,
    ) -> Result<Self, MullamaError> {
        config.check()?;
        let bodies = Budget::new(config.max_body_bytes, config.body_timeout);
        let limit = config.request_timeout.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        let defaults = StreamConfig::new().timeout_ms(limit).max_tokens(u32::MAX);
        let stop = Stop::new();
        let pulls = Arc::new(Semaphore::new(PULLS_AT_ONCE));
        let models = Models::new(models, options, hub, stop.clone());
        Ok(Self(Arc::new(Shared {
            models,
            stop,
            config,
            bodies,
            resumable: Arc::default(),
            credit_waits: Arc::default(),
            pulls,
            defaults,
        })))
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
        telemetry::asked(name);
        self.0.models.acquire(name, &self.0.defaults).await
    }

    /// The settings of a request before its model's publisher and its own fields change them.
    pub(crate) fn defaults(&self) -> &StreamConfig {
        &self.0.defaults
    }

    /// The streams that can be resumed.
    pub(crate) fn resumable(&self) -> &Arc<Registry> {
        &self.0.resumable
    }

    /// The streams of sockets that wait for credits.
    pub(crate) fn credit_waits(&self) -> &Arc<CreditWaits> {
        &self.0.credit_waits
    }

    /// What a download needs a permit of.
    pub(crate) fn pulls(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.pulls)
    }

    /// The bounds of bodies and messages.
    pub(crate) fn bodies(&self) -> &Budget {
        &self.0.bodies
    }

    /// The body of a request, which must be a JSON object.
    pub(crate) async fn body(&self, request: Request) -> Result<Parsed, ApiError> {
        json::read(request, &self.0.bodies).await
    }
}
