//! Blocking waits: without the GIL, in slices, so that Ctrl-C is noticed.

use std::time::Duration;

use mullama::{BackgroundWork, MullamaError, TokenStream, TryNext, WorkEvent};
use pyo3::prelude::*;

use crate::error::to_py;
use crate::token::Item;

/// How long a wait lasts before signals are checked: half of the 100 ms within which Ctrl-C has to end it.
const SLICE: Duration = Duration::from_millis(50);

/// Waits for the next item; does not release the GIL if there is one. A signal handler that raises ends the stream.
pub(crate) fn next(py: Python<'_>, stream: &mut TokenStream) -> PyResult<Item> {
    let mut found = stream.next_within(Duration::ZERO);
    loop {
        match found {
            TryNext::Token(token) => return Ok(Some(Ok(token))),
            TryNext::Failed(error) => return Ok(Some(Err(error))),
            TryNext::Ended => return Ok(None),
            TryNext::Pending => {}
        }
        py.check_signals().inspect_err(|_| stream.cancel())?;
        found = py.detach(|| stream.next_within(SLICE));
    }
}

/// The result of `work`, which runs on a thread of its own. A signal handler that raises gives it up: then `work` hears
/// `false`, and its `None` reaches nobody.
pub(crate) fn for_work<T: Default + Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce(&mut dyn FnMut() -> bool) -> Result<Option<T>, MullamaError> + Send + 'static,
) -> PyResult<T> {
    let started = BackgroundWork::start(false, |report| work(&mut || report(0.0)));
    for_started(py, started.map_err(MullamaError::no_thread), None).map(Option::unwrap_or_default)
}

/// The result of work that has been started. `progress` is called on this thread: if it returns `False` the work is told
/// to end; if it raises, the work is given up.
pub(crate) fn for_started<T: Send + 'static>(
    py: Python<'_>,
    started: Result<BackgroundWork<T>, MullamaError>,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<T> {
    let mut work = started.map_err(|error| to_py(py, &error))?;
    loop {
        match py.detach(|| work.wait(SLICE)) {
            WorkEvent::Done(done) => return done.map_err(|error| to_py(py, &error)),
            WorkEvent::Progress(at) if !goes_on(progress, at)? => work.give_up(),
            WorkEvent::Progress(_) | WorkEvent::Pending => py.check_signals()?,
        }
    }
}

fn goes_on(progress: Option<&Bound<'_, PyAny>>, fraction: f32) -> PyResult<bool> {
    let answer = progress.map(|progress| progress.call1((fraction,))).transpose()?;
    Ok(answer.is_none_or(|answer| answer.extract().unwrap_or(true)))
}
