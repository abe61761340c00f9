//! The interpreter's exit: every engine ends before the process does, whoever still holds a stream.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

use mullama::Model;
use pyo3::prelude::*;

/// The models whose engines are to end. Locked for a few instructions at a time, never over a wait.
static MODELS: Mutex<Vec<Weak<Model>>> = Mutex::new(Vec::new());

/// Threads that load models, each with the process it runs in: a fork copies the handle but not the thread.
static LOADS: Mutex<Vec<(u32, JoinHandle<()>)>> = Mutex::new(Vec::new());

/// Has `close_all` run at the interpreter's exit.
pub(crate) fn register(py: Python<'_>) -> PyResult<()> {
    py.import("atexit")?.call_method1("register", (wrap_pyfunction!(close_all, py)?,))?;
    Ok(())
}

/// The model's engines are to end at the exit.
pub(crate) fn remember_model(model: &Arc<Model>) {
    let mut models = MODELS.lock().unwrap_or_else(PoisonError::into_inner);
    models.retain(|model| model.strong_count() > 0);
    models.push(Arc::downgrade(model));
}

/// The thread is to be waited for at the exit.
pub(crate) fn remember_load(thread: JoinHandle<()>) {
    let mut loads = LOADS.lock().unwrap_or_else(PoisonError::into_inner);
    loads.retain(|(_, thread)| !thread.is_finished());
    loads.push((std::process::id(), thread));
}

/// Ends all engines, and waits for loads that were given up: llama.cpp must not run on while the process ends.
#[pyfunction]
fn close_all(py: Python<'_>) {
    let models = std::mem::take(&mut *MODELS.lock().unwrap_or_else(PoisonError::into_inner));
    let loads = std::mem::take(&mut *LOADS.lock().unwrap_or_else(PoisonError::into_inner));
    py.detach(|| {
        models.iter().filter_map(Weak::upgrade).for_each(|model| model.close());
        for (_, thread) in loads.into_iter().filter(|(process, _)| *process == std::process::id()) {
            // A load that panicked has nothing to tell any more.
            let _ = thread.join();
        }
    });
}
