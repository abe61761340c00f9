//! Native handles as Python objects hold them: shared, closable, and dropped without holding the GIL.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mullama::MullamaError;
use mullama_py_common::to_py;
use pyo3::prelude::*;

/// A shared native handle. Dropping the last one may wait for an engine's thread, so the GIL is released for that.
pub(crate) struct Held<T: Send + Sync>(Option<Arc<T>>);

impl<T: Send + Sync> Held<T> {
    pub(crate) fn new(handle: T) -> Self {
        Self(Some(Arc::new(handle)))
    }

    /// The handle itself, for a thread that is not Python's.
    pub(crate) fn arc(&self) -> Arc<T> {
        Arc::clone(self.0.as_ref().expect("only drop takes it"))
    }
}

impl<T: Send + Sync> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("only drop takes it")
    }
}

impl<T: Send + Sync> Drop for Held<T> {
    fn drop(&mut self) {
        let mut last = self.0.take().and_then(Arc::into_inner);
        if last.is_some() {
            // If the interpreter is shutting down, no other thread can be waiting for the GIL.
            Python::try_attach(|py| py.detach(|| drop(last.take())));
        }
    }
}

/// Locks a mutex whose value no panic can leave half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A handle until `close()` removes it.
pub(crate) struct Closable<T: Send + Sync> {
    what: &'static str,
    /// `None` once it is closed. The lock is never held over a wait or a call of Python.
    held: Mutex<Option<Held<T>>>,
}

impl<T: Send + Sync> Closable<T> {
    pub(crate) fn new(what: &'static str, handle: T) -> Self {
        Self { what, held: Mutex::new(Some(Held::new(handle))) }
    }

    /// The handle, or `EngineClosedError`.
    pub(crate) fn get(&self, py: Python<'_>) -> PyResult<Held<T>> {
        let shared = lock(&self.held).as_ref().map(|held| Held(held.0.clone()));
        shared.ok_or_else(|| to_py(py, &MullamaError::Closed { what: self.what }))
    }

    /// Removes the handle and returns it.
    pub(crate) fn take(&self) -> Option<Held<T>> {
        lock(&self.held).take()
    }
}
