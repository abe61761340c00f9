//! A model in memory, which stays there while requests use it.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use mullama::{Context, MullamaError, StreamConfig};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::pace::Pace;
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::stop::Stop;

/// A model in memory with its engine.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) name: String,
    pub(super) context: Context,
    /// Settings that the publisher recommends, and the server's own defaults.
    pub(super) defaults: StreamConfig,
    /// The system message that the publisher recommends.
    pub(super) system: Option<String>,
    /// The Jinja template of its chats.
    pub(super) chat_template: Option<String>,
    pub(super) usage: Usage,
}

/// A share of an engine. To free the engine is to wait for its threads, so the last share does that on a thread for
/// blocking work: it may be dropped on a thread of connections.
#[derive(Debug, Clone)]
pub(super) struct EngineShare(Option<Arc<Engine>>);

impl EngineShare {
    pub(super) fn new(engine: Engine) -> Self {
        Self(Some(Arc::new(engine)))
    }

    /// Drops this share, and waits for the end of the engine if it is the last one.
    pub(super) fn free(mut self) {
        drop(self.0.take());
    }
}

impl Deref for EngineShare {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        self.0.as_deref().expect("a share has its engine until it is dropped")
    }
}

impl Drop for EngineShare {
    fn drop(&mut self) {
        let Some(engine) = self.0.take().and_then(Arc::into_inner) else { return };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(engine))),
            // No connections are served here.
            Err(_) => drop(engine),
        }
    }
}

/// Who uses an engine, and how fast.
#[derive(Debug)]
pub(super) struct Usage {
    users: AtomicUsize,
    last_used: Mutex<tokio::time::Instant>,
    pace: Mutex<Pace>,
    changed: Arc<Notify>,
    stop: Stop,
    metrics: Metrics,
}

impl Usage {
    /// `changed` is told when nobody uses the engine any more.
    pub(super) fn new(changed: Arc<Notify>, stop: Stop, metrics: Metrics) -> Self {
        let last_used = Mutex::new(tokio::time::Instant::now());
        Self { users: AtomicUsize::new(0), last_used, pace: Mutex::new(Pace::new()), changed, stop, metrics }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.users.load(Ordering::Acquire) == 0
    }

    pub(super) fn last_used(&self) -> tokio::time::Instant {
        *self.last_used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A model that stays in memory as long as this value does.
#[derive(Debug)]
pub(crate) struct Loaded {
    engine: EngineShare,
    /// Whether this counts as a use, and not only as a look.
    is_use: bool,
}

impl Loaded {
    /// For a request that uses the engine. The caller holds the lock under which engines are chosen for unloading.
    pub(super) fn for_request(engine: EngineShare) -> Self {
        if engine.usage.users.fetch_add(1, Ordering::AcqRel) == 0 {
            engine.usage.pace().start(Instant::now());
        }
        Self { engine, is_use: true }
    }

    /// For a request that looks at the engine, which may be unloaded meanwhile.
    pub(super) fn for_a_look(engine: EngineShare) -> Self {
        Self { engine, is_use: false }
    }

    pub(crate) fn name(&self) -> &str {
        &self.engine.name
    }

    pub(crate) fn context(&self) -> &Context {
        &self.engine.context
    }

    pub(crate) fn defaults(&self) -> &StreamConfig {
        &self.engine.defaults
    }

    /// The model's own template, if it has one.
    pub(crate) fn chat_template(&self) -> Option<&str> {
        self.engine.chat_template.as_deref()
    }

    pub(crate) fn system(&self) -> Option<&str> {
        self.engine.system.as_deref()
    }

    /// The phase of the server.
    pub(crate) fn stop(&self) -> &Stop {
        &self.engine.usage.stop
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.engine.usage.metrics
    }

    /// Remembers that a stream has ended now.
    pub(crate) fn note_end(&self) {
        self.engine.usage.pace().end(Instant::now());
    }

    /// The error that a client is told, with the time after which a slot may be free.
    pub(crate) fn refused(&self, error: MullamaError) -> ApiError {
        let is_full = error.code() == "OVERLOADED";
        if matches!(error, MullamaError::StreamingError(_) | MullamaError::ModelLoad { .. }) {
            tracing::error!("{}: {}", self.name(), error.message());
        }
        let retry_after = is_full.then(|| self.engine.usage.pace().wait(Instant::now()).as_secs_f64().ceil());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is 1 to 60")]
        let retry_after = retry_after.map(|seconds| seconds as u64);
        ApiError { retry_after, ..error.into() }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let usage = &self.engine.usage;
        if !self.is_use {
            return;
        }
        *usage.last_used.lock().unwrap_or_else(PoisonError::into_inner) = tokio::time::Instant::now();
        if usage.users.fetch_sub(1, Ordering::AcqRel) == 1 {
            usage.changed.notify_waiters();
        }
    }
}
