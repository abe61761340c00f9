//! Which models are in memory, being loaded, or being unloaded.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use mullama::{MullamaError, StreamConfig};
use mullama_hub::Hub;
use tokio::sync::Notify;

use super::load::{self, Load};
use super::loaded::{Engine, Loaded, Usage};
use super::names::Asked;
use super::residency::KeepLoaded;
use super::{LoadOptions, ModelSpec};
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::stop::Stop;

/// After a load that failed, requests get its error for as long as it took, within these limits.
const SHORTEST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_mins(1);
/// Most names that an error lists.
const NAMES_LISTED: usize = 5;

/// All models and their states.
#[derive(Debug)]
pub(super) struct Registry {
    table: Mutex<Table>,
    /// Told when a state changes, and when a model becomes idle.
    changed: Arc<Notify>,
    pub(super) options: LoadOptions,
    pub(super) hub: Option<Hub>,
    stop: Stop,
    pub(super) metrics: Metrics,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    /// In the order in which they were given.
    pub(super) entries: Vec<Entry>,
    next_id: u64,
    /// Whether a task unloads idle models.
    has_reaper: bool,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) spec: ModelSpec,
    pub(super) state: State,
    /// How long the model stays in memory after its last use, where a client said so.
    pub(super) keep_alive: Option<KeepLoaded>,
    /// The error of the last load, and until when it is the answer.
    failed: Option<(ApiError, Instant)>,
}

#[derive(Debug)]
pub(super) enum State {
    Absent,
    Loading,
    Resident(Arc<Engine>),
    Unloading,
}

/// The outcome of one attempt to get a model.
#[derive(Debug)]
pub(super) enum Try {
    Acquired(Loaded),
    /// It is being loaded or unloaded.
    Changing,
    /// All models that could make room are in use.
    NoRoom,
}

/// Whether one more model may be loaded.
#[derive(Debug)]
enum Room {
    Free,
    /// Once this idle model has left.
    After(u64, Arc<Engine>),
    None,
}

impl Table {
    pub(super) fn add(&mut self, spec: ModelSpec) {
        self.next_id += 1;
        self.entries.push(Entry { id: self.next_id, spec, state: State::Absent, keep_alive: None, failed: None });
    }

    pub(super) fn find(&self, name: Option<&str>) -> Result<&Entry, ApiError> {
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return self.entries.first().ok_or_else(|| ApiError::not_found("this server has no model"));
        };
        let exact = self.entries.iter().find(|entry| entry.spec.name == name);
        let asked = Asked::new(name);
        let found = exact.or_else(|| self.entries.iter().find(|entry| asked.is(&entry.spec.name)));
        found.ok_or_else(|| self.unknown(name))
    }

    pub(super) fn entry(&mut self, id: u64) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.id == id)
    }

    fn unknown(&self, name: &str) -> ApiError {
        let shown: String = name.chars().take(128).collect();
        let mut names: Vec<&str> = self.entries.iter().map(|entry| entry.spec.name.as_str()).collect();
        names.sort_by(|a, b| strsim::jaro(b, &shown).total_cmp(&strsim::jaro(a, &shown)));
        names.truncate(NAMES_LISTED);
        let known = if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", names.join(", ")) };
        let message = format!("this server has no model named {shown}; {known}");
        ApiError { field: Some("model".to_owned()), ..ApiError::new(StatusCode::NOT_FOUND, "MODEL_NOT_FOUND", message) }
    }

    /// Makes room for one more model.
    fn make_room(&mut self, max_loaded: usize) -> Room {
        let in_memory = self.entries.iter().filter(|entry| !matches!(entry.state, State::Absent)).count();
        if max_loaded == 0 || in_memory < max_loaded {
            return Room::Free;
        }
        let idle = |entry: &&mut Entry| matches!(&entry.state, State::Resident(engine) if engine.usage.is_idle());
        let last_used = |entry: &&mut Entry| match &entry.state {
            State::Resident(engine) => engine.usage.last_used(),
            _ => Instant::now(),
        };
        let Some(oldest) = self.entries.iter_mut().filter(idle).min_by_key(last_used) else { return Room::None };
        oldest.take_engine().map_or(Room::None, |engine| Room::After(oldest.id, engine))
    }
}

impl Entry {
    /// The engine of a model in memory, which is to be dropped; the state says so meanwhile.
    pub(super) fn take_engine(&mut self) -> Option<Arc<Engine>> {
        if !matches!(self.state, State::Resident(_)) {
            return None;
        }
        self.keep_alive = None;
        match std::mem::replace(&mut self.state, State::Unloading) {
            State::Resident(engine) => Some(engine),
            _ => None,
        }
    }
}

impl Registry {
    pub(super) fn new(specs: Vec<ModelSpec>, options: LoadOptions, hub: Option<Hub>, stop: Stop) -> Self {
        let mut table = Table::default();
        for spec in specs {
            table.add(spec);
        }
        Self { table: Mutex::new(table), changed: Arc::default(), options, hub, stop, metrics: Metrics::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn changed(&self) -> &Notify {
        &self.changed
    }

    pub(super) fn id(&self, name: Option<&str>) -> Result<u64, ApiError> {
        self.lock().find(name).map(|entry| entry.id)
    }

    /// The model if it is in memory; else its load is started if nothing speaks against it.
    pub(super) fn try_acquire(self: &Arc<Self>, id: u64, defaults: &StreamConfig) -> Result<Try, ApiError> {
        let mut table = self.lock();
        let gone = || ApiError::new(StatusCode::NOT_FOUND, "MODEL_NOT_FOUND", "the model was removed from the server");
        let entry = table.entry(id).ok_or_else(gone)?;
        match &entry.state {
            State::Resident(engine) => return Ok(Try::Acquired(Loaded::for_request(Arc::clone(engine)))),
            State::Loading | State::Unloading => return Ok(Try::Changing),
            State::Absent => {}
        }
        if let Some((error, until)) = &entry.failed {
            let left = until.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return Err(ApiError { retry_after: Some(left.as_secs() + 1), ..error.clone() });
            }
        }
        let spec = entry.spec.clone();
        let leaving = match table.make_room(self.options.max_loaded) {
            Room::Free => None,
            Room::After(id, engine) => Some((id, engine)),
            Room::None => return Ok(Try::NoRoom),
        };
        if let Some(entry) = table.entry(id) {
            entry.state = State::Loading;
        }
        if !std::mem::replace(&mut table.has_reaper, true) {
            tokio::spawn(reap(Arc::downgrade(self), Arc::clone(&self.changed)));
        }
        let (options, hub, defaults) = (self.options.clone(), self.hub.clone(), defaults.clone());
        let usage = Usage::new(Arc::clone(&self.changed), self.stop.clone(), self.metrics.clone());
        tokio::spawn(Arc::clone(self).load(id, leaving, Load { spec, options, hub, defaults, usage }));
        Ok(Try::Changing)
    }

    /// Loads a model once the one that makes room for it has left.
    async fn load(self: Arc<Self>, id: u64, leaving: Option<(u64, Arc<Engine>)>, what: Load) {
        if let Some((leaving, engine)) = leaving {
            self.drop_engine(leaving, engine).await;
        }
        let (name, started) = (what.spec.name.clone(), Instant::now());
        // In a task of its own, so that a panic becomes an error.
        let loaded = tokio::spawn(load::load(what)).await.unwrap_or(Err(MullamaError::Closed { what: "server" }));
        let (state, failed) = match loaded {
            Ok(engine) => (State::Resident(Arc::new(engine)), None),
            Err(error) => {
                tracing::error!("{name} cannot be loaded: {}", load::logged(&error));
                let rest = started.elapsed().clamp(SHORTEST_REST, LONGEST_REST);
                (State::Absent, Some((load::told(error), Instant::now() + rest)))
            }
        };
        let mut table = self.lock();
        // A model that was removed meanwhile is dropped with its state, after the lock.
        let unused = match table.entry(id) {
            Some(entry) => {
                entry.failed = failed;
                std::mem::replace(&mut entry.state, state)
            }
            None => state,
        };
        drop(table);
        drop(unused);
        self.changed.notify_waiters();
    }

    /// Drops an engine, which may take long, and says that its model is no longer in memory.
    pub(super) async fn drop_engine(&self, id: u64, engine: Arc<Engine>) {
        let name = engine.name.clone();
        let _ = tokio::task::spawn_blocking(move || drop(engine)).await;
        if let Some(entry) = self.lock().entry(id) {
            entry.state = State::Absent;
        }
        tracing::info!("{name} was unloaded");
        self.changed.notify_waiters();
    }

    /// Starts to unload the models that have been idle for long enough, and returns when the next one will be.
    fn unload_expired(self: &Arc<Self>) -> Option<Instant> {
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        for entry in &mut self.lock().entries {
            let State::Resident(engine) = &entry.state else { continue };
            let Some(limit) = entry.keep_alive.unwrap_or(self.options.idle_unload) else { continue };
            if !engine.usage.is_idle() {
                continue;
            }
            match engine.usage.last_used().checked_add(limit) {
                Some(due) if due <= now => {
                    let (id, registry) = (entry.id, Arc::clone(self));
                    if let Some(engine) = entry.take_engine() {
                        tokio::spawn(async move { registry.drop_engine(id, engine).await });
                    }
                }
                Some(due) => next = Some(next.map_or(due, |next| next.min(due))),
                None => {}
            }
        }
        next
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.changed.notify_waiters();
    }
}

/// Unloads idle models until the registry is gone.
async fn reap(registry: Weak<Registry>, changed: Arc<Notify>) {
    loop {
        let mut changed = std::pin::pin!(changed.notified());
        changed.as_mut().enable();
        let Some(next) = registry.upgrade().map(|registry| registry.unload_expired()) else { return };
        match next {
            Some(next) => drop(tokio::time::timeout_at(next.into(), changed).await),
            None => changed.await,
        }
    }
}

/// The answer to a request whose model finds no room in memory.
pub(super) fn no_room() -> ApiError {
    let message = "all models that the server may hold in memory are in use; try again later";
    let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED", message);
    ApiError { retry_after: Some(5), ..error }
}
