//! The notifier of one event loop.

use std::sync::Arc;

use pyo3::prelude::*;

/// Wakes one event loop when streams that its tasks wait for can be read. No engine thread ever waits for Python.
#[pyclass(frozen)]
pub(crate) struct LoopNotifier(Arc<mullama::LoopNotifier>);

/// Notifies a loop for one stream.
#[pyclass(frozen)]
pub(crate) struct NotifyHandle(pub(crate) mullama::NotifyHandle);

#[pymethods]
impl LoopNotifier {
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Self(Arc::new(mullama::LoopNotifier::new()?)))
    }

    /// The descriptor that is readable while there is something to drain.
    #[cfg(unix)]
    fn fileno(&self) -> std::os::fd::RawFd {
        self.0.descriptor()
    }

    /// A handle that notifies under this key.
    fn handle(&self, key: u64) -> NotifyHandle {
        NotifyHandle(self.0.handle(key))
    }

    /// The keys notified since the last drain.
    fn drain(&self) -> Vec<u64> {
        self.0.drain()
    }

    /// Blocks until there is something to drain; False once it is closed.
    fn wait(&self, py: Python<'_>) -> bool {
        py.detach(|| self.0.wait())
    }

    /// Ends every wait, and closes the descriptor.
    fn close(&self) {
        self.0.close();
    }
}
