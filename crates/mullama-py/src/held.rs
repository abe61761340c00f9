//! Native handles as Python objects hold them: shared, closable, and let go of without the interpreter.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use mullama::MullamaError;
use pyo3::prelude::*;

use crate::error::to_py;

/// A shared native handle. Dropping the last one may wait for an engine's thread, so the interpreter is let go of.
pub(crate) struct Held<T: Send + Sync>(Option<Arc<T>>);

impl<T: Send + Sync> Held<T> {
    pub(crate) fn new(handle: T) -> Self {
        Self(Some(Arc::new(handle)))
    }

    pub(crate) fn arc(&self) -> &Arc<T> {
        self.0.as_ref().expect("taken by drop alone")
    }
}

impl<T: Send + Sync> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.arc()
    }
}

impl<T: Send + Sync> Drop for Held<T> {
    fn drop(&mut self) {
        let mut last = self.0.take().and_then(Arc::into_inner);
        if last.is_some() {
            // Where the interpreter cannot be attached to, nobody waits for it either.
            Python::try_attach(|py| py.detach(|| drop(last.take())));
        }
    }
}

/// A handle that `close()` takes away.
pub(crate) struct Closable<T: Send + Sync> {
    what: &'static str,
    /// `None` once it is closed. The lock is never held over a wait or a call of Python.
    held: Mutex<Option<Held<T>>>,
}

impl<T: Send + Sync> Closable<T> {
    pub(crate) fn new(what: &'static str, handle: Held<T>) -> Self {
        Self { what, held: Mutex::new(Some(handle)) }
    }

    /// The handle, or `EngineClosedError`.
    pub(crate) fn get(&self, py: Python<'_>) -> PyResult<Held<T>> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = held.as_ref().map(|held| Held(held.0.clone()));
        drop(held);
        shared.ok_or_else(|| to_py(py, &MullamaError::Closed { what: self.what }))
    }

    /// The handle, for the last time.
    pub(crate) fn take(&self) -> Option<Held<T>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
