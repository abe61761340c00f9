//! The interpreter's exit: every engine ends before the process does, whoever still holds a stream.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;

use mullama::Model;
use pyo3::prelude::*;

/// What has to end before the process may.
#[derive(Debug)]
struct Running {
    models: Vec<Weak<Model>>,
    /// Threads that load models, each with the process it runs in: a fork copies the handle but not the thread.
    loads: Vec<(u32, JoinHandle<()>)>,
}

/// Locked for a few instructions at a time, never over a wait.
static RUNNING: Mutex<Running> = Mutex::new(Running { models: Vec::new(), loads: Vec::new() });

fn running() -> MutexGuard<'static, Running> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has `close_all` run at the interpreter's exit.
pub(crate) fn register(py: Python<'_>) -> PyResult<()> {
    py.import("atexit")?.call_method1("register", (wrap_pyfunction!(close_all, py)?,))?;
    Ok(())
}

/// The model's engines are to end at the exit.
pub(crate) fn remember_model(model: &Arc<Model>) {
    let mut running = running();
    running.models.retain(|model| model.strong_count() > 0);
    running.models.push(Arc::downgrade(model));
}

/// The thread is to be waited for at the exit.
pub(crate) fn remember_load(thread: JoinHandle<()>) {
    let mut running = running();
    running.loads.retain(|(_, thread)| !thread.is_finished());
    running.loads.push((std::process::id(), thread));
}

/// Ends all engines, and waits for loads that were given up: llama.cpp must not run on while the process ends.
#[pyfunction]
fn close_all(py: Python<'_>) {
    let (models, loads) = {
        let mut running = running();
        (std::mem::take(&mut running.models), std::mem::take(&mut running.loads))
    };
    py.detach(|| {
        models.iter().filter_map(Weak::upgrade).for_each(|model| model.close());
        for (process, thread) in loads {
            if process == std::process::id() {
                // A load that panicked has nothing to tell any more.
                let _ = thread.join();
            }
        }
    });
}
