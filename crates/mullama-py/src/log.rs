//! Log lines of the engine and of llama.cpp, for the package's `logging`.

use std::sync::LazyLock;

use mullama::LogQueue;
use pyo3::prelude::*;
use tracing::metadata::LevelFilter;

static QUEUE: LazyLock<LogQueue> = LazyLock::new(LogQueue::installed);

/// Listens to this level and those above it. Returns how many lines were logged so far.
#[pyfunction]
pub(crate) fn listen_to_log(level: &str) -> u64 {
    QUEUE.listen_to(level.parse().unwrap_or(LevelFilter::WARN));
    QUEUE.logged()
}

/// Level, logger and message of the lines since the last call, oldest first, and how many were logged so far.
#[pyfunction]
pub(crate) fn take_log() -> (Vec<(&'static str, String, String)>, u64) {
    let (lines, logged) = QUEUE.take_counted();
    (lines.into_iter().map(|line| (line.level.as_str(), line.target.into_owned(), line.message)).collect(), logged)
}

/// Waits for lines to take; False once the log is closed.
#[pyfunction]
pub(crate) fn wait_for_log(py: Python<'_>) -> bool {
    py.detach(|| QUEUE.wait())
}

/// Ends every wait for lines.
#[pyfunction]
pub(crate) fn close_log() {
    QUEUE.close();
}
