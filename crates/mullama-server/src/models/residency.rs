//! Which models a server has and which of them are in memory, for clients that list, load, unload, add and remove them.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use mullama_hub::Hub;
use tokio::time::Instant;

use super::names::is_same;
use super::registry::State;
use super::{Loaded, ModelSource, ModelSpec, Models};
use crate::error::ApiError;
use crate::metrics::Metrics;

/// Most models of a server, those that clients added included.
const MOST_MODELS: usize = 1000;

/// How long a model stays in memory after its last use; `None` is for ever.
pub(crate) type KeepLoaded = Option<Duration>;

/// A model in memory.
#[derive(Debug)]
pub(crate) struct Resident {
    pub(crate) loaded: Loaded,
    pub(crate) source: ModelSource,
    /// When it is unloaded if nobody uses it before; `None` is never.
    pub(crate) expires_at: Option<SystemTime>,
}

/// What is in memory of a model.
#[derive(Debug)]
pub(crate) enum Presence {
    Absent,
    Loading,
    Loaded(Loaded),
}

impl Models {
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.registry.metrics
    }

    /// All models and what is in memory of each. Looking at them is no use of them, and waits for none.
    pub(crate) fn present(&self) -> Vec<(String, Presence)> {
        let table = self.registry.lock();
        let present = table.entries.iter().map(|entry| {
            let presence = match &entry.state {
                State::Absent | State::Unloading => Presence::Absent,
                State::Loading => Presence::Loading,
                State::Resident(engine) => Presence::Loaded(Loaded::for_a_look(engine.clone())),
            };
            (entry.spec.name.clone(), presence)
        });
        present.collect()
    }

    /// A model that is in memory, without using it; `None` if it is not.
    pub(crate) fn glance(&self, name: Option<&str>) -> Result<Option<Loaded>, ApiError> {
        self.registry.look(name, |entry| match &entry.state {
            State::Resident(engine) => Some(Loaded::for_a_look(engine.clone())),
            State::Absent | State::Loading | State::Unloading => None,
        })
    }

    pub(crate) fn hub(&self) -> Option<&Hub> {
        self.registry.hub.as_ref()
    }

    /// All models, in the order in which they were given.
    pub(crate) fn specs(&self) -> Vec<ModelSpec> {
        self.registry.lock().entries.iter().map(|entry| entry.spec.clone()).collect()
    }

    /// The model of this name as it was given to the server.
    pub(crate) fn spec(&self, name: &str) -> Result<ModelSpec, ApiError> {
        self.registry.look(Some(name), |entry| entry.spec.clone())
    }

    /// The name of a model as it was given to the server.
    pub(crate) fn resolve(&self, name: &str) -> Result<String, ApiError> {
        self.spec(name).map(|spec| spec.name)
    }

    /// The models in memory. Looking at them is no use of them.
    pub(crate) fn resident(&self) -> Vec<Resident> {
        let mut residents = Vec::new();
        for entry in &self.registry.lock().entries {
            let State::Resident(engine) = &entry.state else { continue };
            let limit = entry.keep_alive.unwrap_or(self.registry.options.idle_unload);
            let now = Instant::now();
            // A model in use stays for at least as long as one that was used just now.
            let used = if engine.usage.is_idle() { engine.usage.last_used() } else { now };
            let expires_at = limit.and_then(|limit| {
                SystemTime::now().checked_add(used.checked_add(limit)?.saturating_duration_since(now))
            });
            let loaded = Loaded::for_a_look(engine.clone());
            residents.push(Resident { loaded, source: entry.spec.source.clone(), expires_at });
        }
        residents
    }

    /// Sets how long a model stays in memory after its last use, until it is unloaded. Zero unloads it once its last
    /// stream has ended.
    pub(crate) fn keep_alive(&self, name: Option<&str>, keep: KeepLoaded) -> Result<(), ApiError> {
        self.registry.look(name, |entry| {
            // A model that is not in memory has nothing to keep; its next load has the server's default.
            entry.keep_alive = (!matches!(entry.state, State::Absent)).then_some(keep);
        })?;
        self.registry.changed().notify_waiters();
        Ok(())
    }

    /// Unloads a model now if it is idle, and else once its last stream has ended. Returns whether it is out of memory.
    pub(crate) async fn unload(&self, name: &str) -> Result<bool, ApiError> {
        self.keep_alive(Some(name), Some(Duration::ZERO))?;
        let taken = self.registry.look(Some(name), |entry| match &entry.state {
            State::Resident(engine) if engine.usage.is_idle() => {
                Ok(entry.take_engine().map(|engine| (entry.id, engine)))
            }
            State::Absent => Err(()),
            State::Resident(_) | State::Loading | State::Unloading => Ok(None),
        })?;
        let Ok(taken) = taken else { return Ok(true) };
        let Some((id, engine)) = taken else { return Ok(false) };
        let registry = Arc::clone(&self.registry);
        // In a task of its own: a client that leaves does not leave a model half unloaded.
        Ok(tokio::spawn(async move { registry.drop_engine(id, engine).await }).await.is_ok())
    }

    /// Adds a model that a client has downloaded. One that the server has already stays as it is.
    pub(crate) fn add(&self, name: &str) -> Result<(), ApiError> {
        let mut table = self.registry.lock();
        if table.entries.iter().any(|entry| is_same(&entry.spec.name, name)) {
            return Ok(());
        }
        if table.entries.len() >= MOST_MODELS {
            let message = format!("this server has {MOST_MODELS} models, which is the most");
            return Err(ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "TOO_MANY_MODELS", message));
        }
        table.add(ModelSpec { name: name.into(), source: ModelSource::Named(name.into()) });
        Ok(())
    }

    /// Removes a model from the server. Its streams run on to their ends.
    pub(crate) fn remove(&self, name: &str) {
        let mut table = self.registry.lock();
        let (removed, kept) =
            std::mem::take(&mut table.entries).into_iter().partition(|entry| is_same(&entry.spec.name, name));
        table.entries = kept;
        drop(table);
        // Dropping an engine may take long.
        let removed: Vec<_> = removed;
        drop(tokio::task::spawn_blocking(move || drop(removed)));
        self.registry.changed().notify_waiters();
    }
}
