//! Which models are in memory, being loaded, or being unloaded.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use axum::http::StatusCode;
use mullama::StreamConfig;
use mullama_hub::Hub;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::load::{self, Load};
use super::loaded::{EngineShare, Loaded, Usage};
use super::names::{self, Asked};
use super::queue::{Queue, Turn};
use super::residency::KeepLoaded;
use super::{LoadOptions, ModelSpec};
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::stop::{Stop, unfinished};

/// After a load that failed, requests get its error for as long as it took, within these limits.
const SHORTEST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_mins(1);

/// All models and their states.
#[derive(Debug)]
pub(super) struct Registry {
    table: Mutex<Table>,
    /// Told when a state changes, and when a model becomes idle.
    changed: Arc<Notify>,
    pub(super) options: LoadOptions,
    pub(super) hub: Option<Hub>,
    /// What a load needs a permit of while it takes a thread.
    pub(super) loads: Arc<Semaphore>,
    stop: Stop,
    pub(super) metrics: Metrics,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    /// In the order in which they were given.
    pub(super) entries: Vec<Entry>,
    pub(super) queue: Queue,
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
    Resident(EngineShare),
    Unloading,
}

/// The outcome of one attempt to get a model.
#[derive(Debug)]
pub(super) enum Try {
    Acquired(Loaded),
    /// It is being loaded or unloaded.
    Changing,
    /// It is in memory, but until then a request that came before may find room.
    HeldBack(Instant),
    /// All models that could make room are in use, or requests that came before wait for room.
    NoRoom,
}

/// Whether one more model may be loaded.
#[derive(Debug)]
enum Room {
    Free,
    /// Once this idle model has left.
    After(u64, EngineShare),
    None,
}

impl Table {
    pub(super) fn add(&mut self, spec: ModelSpec) {
        self.next_id += 1;
        self.entries.push(Entry { id: self.next_id, spec, state: State::Absent, keep_alive: None, failed: None });
    }

    fn find(&mut self, name: Option<&str>) -> Option<&mut Entry> {
        let Some(name) = name.filter(|name| !name.is_empty()) else { return self.entries.first_mut() };
        let exact = self.entries.iter().position(|entry| entry.spec.name == name);
        let asked = Asked::new(name);
        let found = exact.or_else(|| self.entries.iter().position(|entry| asked.is(&entry.spec.name)));
        found.map(|index| &mut self.entries[index])
    }

    /// The names of all models, in the order in which they were given.
    pub(super) fn names(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.spec.name.clone()).collect()
    }

    pub(super) fn entry(&mut self, id: u64) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.id == id)
    }

    /// The latest time until which a request that came before this one, and waits for room in memory for another model,
    /// holds back requests for models in memory; `None` if there is no such request.
    fn others_turn(&self, turn: &Turn, max_loaded: usize) -> Option<Instant> {
        let is_absent = |model| self.entries.iter().any(|one| one.id == model && matches!(one.state, State::Absent));
        let others = self.queue.before(turn.ticket).filter(|one| one.model != turn.model && is_absent(one.model));
        others.filter(|_| max_loaded > 0).map(|one| one.holds_back_until).max()
    }

    /// Makes room for the model of a request. Models that earlier requests are about to use stay.
    fn make_room(&mut self, turn: &Turn, max_loaded: usize) -> Room {
        let in_memory = self.entries.iter().filter(|entry| !matches!(entry.state, State::Absent)).count();
        if max_loaded == 0 || in_memory < max_loaded {
            return Room::Free;
        }
        let wanted: Vec<u64> = self.queue.before(turn.ticket).map(|waiting| waiting.model).collect();
        let idle = |entry: &&mut Entry| {
            matches!(&entry.state, State::Resident(engine) if engine.usage.is_idle()) && !wanted.contains(&entry.id)
        };
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
    pub(super) fn take_engine(&mut self) -> Option<EngineShare> {
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
        let (changed, loads) = (Arc::default(), Arc::new(Semaphore::new(load::LOADS_AT_ONCE)));
        Self { table: Mutex::new(table), changed, options, hub, loads, stop, metrics: Metrics::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn changed(&self) -> &Notify {
        &self.changed
    }

    pub(super) fn id(&self, name: Option<&str>) -> Result<u64, ApiError> {
        self.look(name, |entry| entry.id)
    }

    /// What `look` returns for the model of this name, without a name for the first one.
    ///
    /// # Errors
    /// If there is no such model. The error is written after the lock, because it compares the name with all others.
    pub(super) fn look<T>(&self, name: Option<&str>, look: impl FnOnce(&mut Entry) -> T) -> Result<T, ApiError> {
        let found = {
            let mut table = self.lock();
            match table.find(name) {
                Some(entry) => Ok(look(entry)),
                None => Err(table.names()),
            }
        };
        found.map_err(|known| names::unknown(name, &known))
    }

    /// The model if it is in memory; else its load is started if nothing speaks against it.
    pub(super) fn try_acquire(self: &Arc<Self>, turn: &Turn, defaults: &StreamConfig) -> Result<Try, ApiError> {
        let (id, max_loaded) = (turn.model, self.options.max_loaded);
        let mut table = self.lock();
        let others_turn = table.others_turn(turn, max_loaded);
        let gone = || ApiError::new(StatusCode::NOT_FOUND, "MODEL_NOT_FOUND", "the model was removed from the server");
        let entry = table.entry(id).ok_or_else(gone)?;
        let held_back = others_turn.filter(|until| *until > Instant::now());
        match (&entry.state, held_back) {
            (State::Resident(_), Some(until)) => return Ok(Try::HeldBack(until)),
            (State::Resident(engine), None) => return Ok(Try::Acquired(Loaded::for_request(engine.clone()))),
            (State::Loading | State::Unloading, _) => return Ok(Try::Changing),
            (State::Absent, _) => {}
        }
        if let Some((error, until)) = &entry.failed {
            let left = until.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return Err(ApiError { retry_after: Some(left.as_secs() + 1), ..error.clone() });
            }
        }
        if others_turn.is_some() {
            return Ok(Try::NoRoom);
        }
        let spec = entry.spec.clone();
        let leaving = match table.make_room(turn, max_loaded) {
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
        let load = Load { spec, options, hub, defaults, usage, permits: Arc::clone(&self.loads) };
        tokio::spawn(Arc::clone(self).load(id, leaving, load));
        Ok(Try::Changing)
    }

    /// Loads a model once the one that makes room for it has left.
    async fn load(self: Arc<Self>, id: u64, leaving: Option<(u64, EngineShare)>, what: Load) {
        if let Some((leaving, engine)) = leaving {
            self.drop_engine(leaving, engine).await;
        }
        let (name, started) = (what.spec.name.clone(), Instant::now());
        // In a task of its own, so that a panic becomes an error.
        let loaded = match tokio::spawn(load::load(what)).await {
            Ok(loaded) => loaded.map_err(|error| {
                tracing::error!("{name} cannot be loaded: {}", load::logged(&error));
                load::told(error, &name)
            }),
            Err(error) => Err(unfinished(&error)),
        };
        let (state, failed) = match loaded {
            Ok(engine) => (State::Resident(EngineShare::new(engine)), None),
            Err(error) => {
                let rest = started.elapsed().clamp(SHORTEST_REST, LONGEST_REST);
                (State::Absent, Some((error, Instant::now() + rest)))
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
    pub(super) async fn drop_engine(&self, id: u64, engine: EngineShare) {
        let name = engine.name.clone();
        let _ = tokio::task::spawn_blocking(move || engine.free()).await;
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
    /// Frees the engines that no stream uses, before the server has ended.
    fn drop(&mut self) {
        let table = self.table.get_mut().unwrap_or_else(PoisonError::into_inner);
        for entry in &mut table.entries {
            if let Some(engine) = entry.take_engine() {
                engine.free();
            }
        }
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
            Some(next) => drop(tokio::time::timeout_at(next, changed).await),
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
