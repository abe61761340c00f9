//! The interpreter's exit: every engine ends before the process does, whoever still holds a stream.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use mullama::Model;
use pyo3::prelude::*;

/// The models whose engines are to end. Locked for a few instructions at a time, never over a wait.
static MODELS: Mutex<Vec<Weak<Model>>> = Mutex::new(Vec::new());

/// Loads that run, waited for or given up.
static LOADS: Mutex<usize> = Mutex::new(0);
static LOAD_ENDED: Condvar = Condvar::new();

/// How long the exit waits for loads that were given up; a file system may hold them for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// Has `close_all` run at the interpreter's exit.
pub(crate) fn register(py: Python<'_>) -> PyResult<()> {
    py.import("atexit")?.call_method1("register", (wrap_pyfunction!(close_all, py)?,))?;
    Ok(())
}

/// The model's engines are to end at the exit.
pub(crate) fn remember(model: &Arc<Model>) {
    let mut models = MODELS.lock().unwrap_or_else(PoisonError::into_inner);
    models.retain(|model| model.strong_count() > 0);
    models.push(Arc::downgrade(model));
}

fn loads() -> MutexGuard<'static, usize> {
    LOADS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A load runs as long as this lives.
pub(crate) struct Loading(());

impl Loading {
    pub(crate) fn begin() -> Self {
        *loads() += 1;
        Self(())
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        *loads() -= 1;
        LOAD_ENDED.notify_all();
    }
}

/// Ends all engines, and waits for loads that were given up: llama.cpp must not run on while the process ends.
#[pyfunction]
fn close_all(py: Python<'_>) {
    let models = std::mem::take(&mut *MODELS.lock().unwrap_or_else(PoisonError::into_inner));
    py.detach(|| {
        models.iter().filter_map(Weak::upgrade).for_each(|model| model.close());
        drop(LOAD_ENDED.wait_timeout_while(loads(), PATIENCE, |running| *running > 0));
    });
}
