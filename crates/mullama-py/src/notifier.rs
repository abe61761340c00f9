//! The doorbell of one event loop.

use std::sync::Arc;

use pyo3::prelude::*;

/// Rings when streams that an event loop waits for have news. No thread of the engine ever waits for Python.
#[pyclass(frozen)]
pub(crate) struct LoopNotifier(Arc<mullama::LoopNotifier>);

/// One stream's hold on a bell.
#[pyclass(frozen)]
pub(crate) struct NotifyHandle(pub(crate) mullama::NotifyHandle);

#[pymethods]
impl LoopNotifier {
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Self(Arc::new(mullama::LoopNotifier::new()?)))
    }

    /// What is readable while it rings.
    #[cfg(unix)]
    fn fileno(&self) -> std::os::fd::RawFd {
        self.0.descriptor()
    }

    /// A rope that rings it and leaves this key.
    fn rope(&self, key: u64) -> NotifyHandle {
        NotifyHandle(self.0.rope(key))
    }

    /// The keys of those who rang; the next one rings anew.
    fn answer(&self) -> Vec<u64> {
        self.0.answer()
    }

    /// Sleeps until it rings; False once it is closed.
    fn wait(&self, py: Python<'_>) -> bool {
        py.detach(|| self.0.wait())
    }

    /// Ends every wait.
    fn close(&self) {
        self.0.close();
    }
}
