//! Ends every engine before the process ends, even if streams are still open.
//!
//! llama.cpp's threads must not run while the process destroys its static objects. A Rust program that drops its values
//! does not need this module, but an interpreter exits while handles are still in its variables.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use mullama_ffi::PerProcess;

use crate::error::MullamaError;
use crate::in_flight;

/// An object with its own threads that can be closed from any thread.
pub(crate) trait Close: Send + Sync {
    /// Ends the threads and waits for them.
    fn close(&self);
}

/// The engines to close at shutdown. Locked for a few instructions at a time, never over a wait.
static ENGINES: PerProcess<Mutex<Registry>> = PerProcess::new();

#[derive(Default)]
struct Registry {
    engines: Vec<Weak<dyn Close>>,
    shut_down: bool,
}

/// How long [`shutdown`] waits for loads and tokenizers whose result is not needed any more; a file system can block
/// them forever.
const IN_FLIGHT_LIMIT: Duration = Duration::from_secs(1);

/// Registers a new engine.
///
/// # Errors
/// [`MullamaError::Closed`] after [`shutdown`].
pub(crate) fn register(engine: Weak<dyn Close>) -> Result<(), MullamaError> {
    let mut registry = ENGINES.get().lock().unwrap_or_else(PoisonError::into_inner);
    if registry.shut_down {
        return Err(MullamaError::Closed { what: "engine" });
    }
    registry.engines.retain(|engine| engine.strong_count() > 0);
    registry.engines.push(engine);
    Ok(())
}

/// Closes all engines of the process for good: their streams end with [`MullamaError::Closed`], and so does every later
/// attempt to start an engine. Waits for their threads, which takes at most a part of a step, and up to a second for
/// other [work in flight](crate::InFlightGuard).
///
/// Call it when an interpreter exits, or another host that cannot drop its handles. A forked child process ends only
/// the engines that it started itself.
pub fn shutdown() {
    let engines = {
        let mut registry = ENGINES.get().lock().unwrap_or_else(PoisonError::into_inner);
        registry.shut_down = true;
        std::mem::take(&mut registry.engines)
    };
    let alive: Vec<Arc<dyn Close>> = engines.iter().filter_map(Weak::upgrade).collect();
    for engine in alive {
        engine.close();
    }
    if !in_flight::wait_until_idle(IN_FLIGHT_LIMIT) {
        // That work reads llama.cpp's static tables, so it must finish before they are destroyed.
        mullama_ffi::keep_statics_at_exit();
    }
}
