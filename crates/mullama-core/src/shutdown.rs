//! Ends every engine before the process ends, whoever still holds a stream.
//!
//! llama.cpp's threads must not run while the process destroys its static objects. A Rust program that drops its values
//! does not need this module; an interpreter exits with handles still in its variables.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::error::MullamaError;
use crate::in_flight;

/// Something with threads of its own that can be closed from any thread.
pub(crate) trait Close: Send + Sync {
    /// Ends the threads and waits for them.
    fn close(&self);
}

/// The engines to close at shutdown. Locked for a few instructions at a time, never over a wait.
static ENGINES: Mutex<Registry> = Mutex::new(Registry { engines: Vec::new(), shut_down: false });

/// The process that registered the latest engine. The locks of this module may be held for ever in a forked child that
/// has none of its own.
static PROCESS: AtomicU32 = AtomicU32::new(0);

struct Registry {
    engines: Vec<Weak<dyn Close>>,
    shut_down: bool,
}

/// How long [`shutdown`] waits for loads and tokenizers that nobody waits for any more; a file system can block them
/// for ever.
const IN_FLIGHT_LIMIT: Duration = Duration::from_secs(1);

/// Registers a new engine.
///
/// # Errors
/// [`MullamaError::Closed`] after [`shutdown`].
pub(crate) fn register(engine: Weak<dyn Close>) -> Result<(), MullamaError> {
    let mut registry = ENGINES.lock().unwrap_or_else(PoisonError::into_inner);
    if registry.shut_down {
        return Err(MullamaError::Closed { what: "engine" });
    }
    registry.engines.retain(|engine| engine.strong_count() > 0);
    registry.engines.push(engine);
    PROCESS.store(std::process::id(), Ordering::Release);
    Ok(())
}

/// Closes all engines of the process for good: their streams end with [`MullamaError::Closed`], and so does every later
/// attempt to start an engine. Waits for their threads, which takes at most a part of a step, and up to a second for
/// other [work in flight](crate::InFlightGuard).
///
/// Call it at the exit of an interpreter, or of another host that cannot drop what it holds. In a forked child process that
/// started no engine of its own it does nothing.
pub fn shutdown() {
    if ![0, std::process::id()].contains(&PROCESS.load(Ordering::Acquire)) {
        return;
    }
    let engines = {
        let mut registry = ENGINES.lock().unwrap_or_else(PoisonError::into_inner);
        registry.shut_down = true;
        std::mem::take(&mut registry.engines)
    };
    let alive: Vec<Arc<dyn Close>> = engines.iter().filter_map(Weak::upgrade).collect();
    for engine in alive {
        engine.close();
    }
    if !in_flight::wait_until_idle(IN_FLIGHT_LIMIT) {
        // That work reads llama.cpp's static tables, which must then outlive the end of the process.
        mullama_ffi::keep_statics_at_exit();
    }
}
