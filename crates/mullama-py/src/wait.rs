//! The one blocking wait: without the interpreter, in slices, so that Ctrl-C is heard.

use std::time::Duration;

use mullama::{TokenStream, Waited};
use pyo3::prelude::*;

/// How long a wait goes on before signals are looked at; half of the 100 ms in which Ctrl-C has to end it.
pub(crate) const SLICE: Duration = Duration::from_millis(50);

/// Waits for more than [`Waited::Nothing`]; does not let go if it is there. A signal handler that raises ends the stream.
pub(crate) fn next(py: Python<'_>, stream: &TokenStream) -> PyResult<Waited> {
    let mut waited = stream.next_within(Duration::ZERO);
    while matches!(waited, Waited::Nothing) {
        py.check_signals().inspect_err(|_| stream.cancel())?;
        waited = py.detach(|| stream.next_within(SLICE));
    }
    Ok(waited)
}
