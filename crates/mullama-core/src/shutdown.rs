//! The end of a process: every engine ends before it does, whoever still holds a stream.
//!
//! llama.cpp's threads must not run on while a process takes its statics down. A Rust program that drops what it made needs
//! nothing of this; an interpreter ends with handles still in its variables.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::engine::handle::EngineHandle;
use crate::error::MullamaError;

/// The engines that are to end. Locked for a few instructions at a time, never over a wait.
static ENGINES: Mutex<Running> = Mutex::new(Running { engines: Vec::new(), over: false });

#[derive(Debug)]
struct Running {
    engines: Vec<Weak<EngineHandle>>,
    over: bool,
}

/// Threads that work for somebody, waited for or given up.
static WORKING: Mutex<usize> = Mutex::new(0);
static WORK_ENDED: Condvar = Condvar::new();

/// How long the end waits for work that was given up; a file system may hold it for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says, for as long as it lives, that a thread works in llama.cpp: a load, a tokenizer. [`shutdown`] waits for it a while.
#[derive(Debug)]
pub struct Working(());

impl Working {
    /// A thread begins to work.
    pub fn begin() -> Self {
        *working() += 1;
        Self(())
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        *working() -= 1;
        WORK_ENDED.notify_all();
    }
}

fn working() -> MutexGuard<'static, usize> {
    WORKING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes a new engine.
///
/// # Errors
/// [`MullamaError::Closed`] after [`shutdown`].
pub(crate) fn remember(engine: &Arc<EngineHandle>) -> Result<(), MullamaError> {
    let mut running = ENGINES.lock().unwrap_or_else(PoisonError::into_inner);
    if running.over {
        return Err(MullamaError::Closed { what: "engine" });
    }
    running.engines.retain(|engine| engine.strong_count() > 0);
    running.engines.push(Arc::downgrade(engine));
    Ok(())
}

/// Ends all engines of the process, for good: their streams end with [`MullamaError::Closed`], and so does every later
/// attempt to start one. Waits until their threads have ended, which takes a part of a step, and a second at most for other
/// [work](Working).
///
/// For the exit of an interpreter or of another host that cannot drop what it holds.
pub fn shutdown() {
    let engines = {
        let mut running = ENGINES.lock().unwrap_or_else(PoisonError::into_inner);
        running.over = true;
        std::mem::take(&mut running.engines)
    };
    engines.iter().filter_map(Weak::upgrade).for_each(|engine| engine.close());
    let waited = WORK_ENDED.wait_timeout_while(working(), PATIENCE, |running| *running > 0);
    if waited.unwrap_or_else(PoisonError::into_inner).1.timed_out() {
        // It reads llama.cpp's tables, which the end of the process would take away under it.
        mullama_ffi::keep_statics_at_exit();
    }
}
