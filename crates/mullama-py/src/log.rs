//! What the engine and llama.cpp say, for the package's `logging`.

use std::sync::LazyLock;

use mullama::LogQueue;
use pyo3::prelude::*;
use tracing::metadata::LevelFilter;

static QUEUE: LazyLock<LogQueue> = LazyLock::new(|| {
    let queue = LogQueue::default();
    // Where a host program has a subscriber of its own, it hears what is said, and nothing comes here.
    let _ = queue.install();
    queue
});

/// Level, who says it, and the words.
type Line = (&'static str, &'static str, String);

/// Listens to lines of this level and worse, and takes what was said since the last time.
#[pyfunction]
pub(crate) fn take_log(level: &str) -> Vec<Line> {
    QUEUE.listen_to(level.parse().unwrap_or(LevelFilter::WARN));
    QUEUE.take().into_iter().map(|line| (line.level.as_str(), line.target, line.message)).collect()
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
