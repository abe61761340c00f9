//! The waits: without the interpreter, in slices, so that Ctrl-C is heard.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use mullama::{InFlightGuard, MullamaError, StreamFailure::EngineEnded, TokenStream, TryNext};
use pyo3::prelude::*;

use crate::error::to_py;

/// How long a wait goes on before signals are looked at; half of the 100 ms in which Ctrl-C has to end it.
const SLICE: Duration = Duration::from_millis(50);

/// Waits for the next item; does not release the GIL if there is one. A signal handler that raises ends the stream.
pub(crate) fn next(py: Python<'_>, stream: &mut TokenStream) -> PyResult<Option<Result<mullama::Token, MullamaError>>> {
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

/// What the working thread tells the caller.
enum News<T> {
    Progress(f32),
    Done(Result<T, MullamaError>),
}

/// What `work` comes to, on a thread of its own. A signal handler that raises gives it up.
pub(crate) fn for_work<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, MullamaError> + Send + 'static,
) -> PyResult<T> {
    for_work_with(py, None, MullamaError::no_thread, |_| work())
}

/// As [`for_work`]; `work` says how far it is, and goes on while it hears `true`. `progress` is called on the caller's
/// thread: if it returns `False` the work is to end, and if it raises nobody waits for it any longer.
pub(crate) fn for_work_with<T: Send + 'static>(
    py: Python<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    no_thread: impl FnOnce(io::Error) -> MullamaError,
    work: impl FnOnce(&mut dyn FnMut(f32) -> bool) -> Result<T, MullamaError> + Send + 'static,
) -> PyResult<T> {
    let mut waiting = Some(Arc::new(()));
    let waits = waiting.as_ref().map(Arc::downgrade).unwrap_or_default();
    let (publish_stats, mut news) = sync_channel(1);
    let (working, reports) = (InFlightGuard::begin(), progress.is_some());
    let body = move || {
        let _working = working;
        let mut report = |fraction| {
            // Nobody listens once the caller has given up, which ends the work.
            let _ = reports.then(|| publish_stats.send(News::Progress(fraction)));
            Weak::strong_count(&waits) > 0
        };
        let done = work(&mut report);
        let _ = publish_stats.send(News::Done(done));
    };
    let thread = std::thread::Builder::new().name("mullama-work".into()).spawn(body);
    thread.map_err(|source| to_py(py, &no_thread(source)))?;
    loop {
        let told;
        (told, news) = py.detach(move || (news.recv_timeout(SLICE), news));
        match told {
            Ok(News::Done(done)) => return done.map_err(|error| to_py(py, &error)),
            Ok(News::Progress(at)) if !goes_on(progress, at)? => drop(waiting.take()),
            Ok(News::Progress(_)) | Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => return Err(to_py(py, &MullamaError::StreamingError(EngineEnded))),
        }
    }
}

fn goes_on(progress: Option<&Bound<'_, PyAny>>, fraction: f32) -> PyResult<bool> {
    let answer = progress.map(|progress| progress.call1((fraction,))).transpose()?;
    Ok(answer.is_none_or(|answer| answer.extract().unwrap_or(true)))
}
