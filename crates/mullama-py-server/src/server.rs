//! A running server.

use mullama_py_common::{awaitable, wait};
use mullama_server::RunningServer;
use pyo3::prelude::*;

use crate::settings::Settings;

/// A server that runs on threads of its own, from when it is made.
#[pyclass(frozen)]
#[derive(Debug)]
pub struct Server(RunningServer);

#[pymethods]
impl Server {
    /// Binds the socket and serves.
    #[new]
    fn new(py: Python<'_>, settings: Settings<'_>) -> PyResult<Self> {
        let (listen, threads) = (settings.listen(), settings.threads);
        let state = settings.state(py)?;
        Ok(Self(py.detach(|| RunningServer::start(listen, state, threads))?))
    }

    /// The address as a URL.
    fn url(&self) -> &str {
        self.0.url()
    }

    /// Waits until the server has ended. A signal handler that raises ends the wait, and not the server.
    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        let ended = self.0.ended();
        wait::for_future(
            py,
            async move {
                ended.await;
                Ok(())
            },
            |_| Ok(()),
        )
    }

    /// As `wait`, awaited on the event loop.
    fn wait_async<'py>(&self, event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let ended = self.0.ended();
        let work = async move {
            ended.await;
            Ok(())
        };
        awaitable(event_loop, work, |py, _| Ok(py.None()))
    }

    /// Accepts nothing more, and lets running requests end.
    fn drain(&self) {
        self.0.drain();
    }

    /// Closes everything at once.
    fn abort(&self) {
        self.0.abort();
    }
}
