//! The end of the interpreter: a thread that is not Python's own must not attach to it any more.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mullama::PerProcess;
use pyo3::prelude::*;

use crate::error;

/// How long the end waits for callbacks of the program that run on other threads.
const LIMIT: Duration = Duration::from_secs(1);

static GATE: PerProcess<Gate> = PerProcess::new();

/// Counts the threads of ours that are attached to the interpreter.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    /// [`begin`] waits here until no thread is attached.
    left: Condvar,
}

#[derive(Default)]
struct State {
    attached: usize,
    is_closed: bool,
}

fn state() -> MutexGuard<'static, State> {
    GATE.get().state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread that may attach until this is dropped.
pub(crate) struct Pass;

impl Pass {
    /// `None` once the interpreter ends.
    pub(crate) fn take() -> Option<Self> {
        let mut state = state();
        if state.is_closed {
            return None;
        }
        state.attached += 1;
        Some(Self)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        state().attached -= 1;
        GATE.get().left.notify_all();
    }
}

/// Attaches a thread that is not Python's own; `None` once the interpreter ends.
pub fn attach<R>(call: impl FnOnce(Python<'_>) -> R) -> Option<R> {
    let _pass = Pass::take()?;
    Python::try_attach(call)
}

/// Says that the interpreter is about to end. Waits for threads that are attached, though not for ever.
pub fn begin(py: Python<'_>) {
    error::begin_exit(py);
    py.detach(|| {
        let mut state = state();
        state.is_closed = true;
        let waited = GATE.get().left.wait_timeout_while(state, LIMIT, |state| state.attached > 0);
        drop(waited);
    });
}
