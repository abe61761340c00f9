//! Downloads, whose progress is reported to the program.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use mullama::{DownloadFailure, MullamaError};
use mullama_hub::{LocalModel, Progress, shown_name};
use mullama_py_common::{attach, awaitable, deliver, to_py, wait, wants_more};
use pyo3::prelude::*;
use tokio::sync::oneshot;

use crate::facts;
use crate::hub::used;

/// A model that a program asks for.
pub(crate) struct Wanted {
    pub(crate) hub: mullama_hub::Hub,
    pub(crate) name: String,
    /// Whether the server is asked even if the model is on this machine.
    pub(crate) renew: bool,
}

impl Wanted {
    async fn get(self, progress: impl FnMut(&Progress) + Send) -> Result<LocalModel, MullamaError> {
        if self.renew {
            self.hub.pull(&self.name, progress).await
        } else {
            used(&self.hub, self.hub.find_or_pull(&self.name, progress).await)
        }
    }
}

/// The newest progress that the program has not heard of. What it has no time to hear is skipped.
#[derive(Clone, Default)]
struct Latest(Arc<Mutex<Option<Progress>>>);

impl Latest {
    /// Replaces the newest progress; `true` if the one before was heard.
    fn set(&self, progress: &Progress) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(progress.clone()).is_none()
    }

    fn take(&self) -> Option<Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The arguments of a progress function of the package.
fn arguments(progress: Progress) -> (&'static str, String, u64, Option<u64>) {
    (progress.phase.as_str(), progress.file, progress.done, progress.total)
}

fn cancelled(name: String) -> MullamaError {
    MullamaError::Download { name, failure: DownloadFailure::Cancelled }
}

/// Waits for a model in slices. `progress` is called on this thread.
pub(crate) fn blocking(py: Python<'_>, wanted: Wanted, progress: Option<&Bound<'_, PyAny>>) -> PyResult<LocalModel> {
    let (latest, name) = (Latest::default(), shown_name(&wanted.name));
    let heard = latest.clone();
    let future = wanted.get(move |progress| {
        latest.set(progress);
    });
    wait::for_future(py, future, |py| {
        let (Some(call), Some(progress)) = (progress, heard.take()) else { return Ok(()) };
        let answer = call.call1(arguments(progress))?;
        if wants_more(&answer) { Ok(()) } else { Err(to_py(py, &cancelled(name.clone()))) }
    })
}

/// A future of a model. The event loop calls `progress`.
pub(crate) fn awaited<'py>(
    event_loop: &Bound<'py, PyAny>,
    wanted: Wanted,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let (name, latest) = (shown_name(&wanted.name), Latest::default());
    let (stop, stopped) = oneshot::channel();
    let reporter = Reporter { progress, latest: latest.clone(), stop: Mutex::new(Some(stop)) };
    let shared = Arc::new((event_loop.clone().unbind(), Py::new(event_loop.py(), reporter)?));
    let raised = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&raised);
    let work = until_stopped(
        wanted.get(move |progress| {
            if latest.set(progress) {
                let shared = Arc::clone(&shared);
                deliver(move || call_soon(&shared));
            }
        }),
        stopped,
        move |why| {
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = why;
            cancelled(name)
        },
    );
    awaitable(event_loop, work, move |py, local| {
        if let Some(raised) = raised.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(raised);
        }
        Ok(facts::local(py, &local.map_err(|error| to_py(py, &error))?)?.into_any().unbind())
    })
}

/// What a pull comes to, unless its progress function ends it first.
async fn until_stopped(
    pull: impl Future<Output = Result<LocalModel, MullamaError>> + Send,
    stopped: oneshot::Receiver<Option<PyErr>>,
    end: impl FnOnce(Option<PyErr>) -> MullamaError + Send,
) -> Result<LocalModel, MullamaError> {
    tokio::select! {
        biased;
        Ok(why) = stopped => Err(end(why)),
        local = pull => local,
    }
}

fn call_soon(shared: &(Py<PyAny>, Py<Reporter>)) {
    attach(|py| {
        // A loop that is closed hears nothing; its future is never awaited.
        let _ = shared.0.bind(py).call_method1("call_soon_threadsafe", (&shared.1,));
    });
}

/// Calls the progress function on the event loop's thread.
#[pyclass(frozen)]
struct Reporter {
    progress: Option<Py<PyAny>>,
    latest: Latest,
    /// Ends the download, with what the function raised; `None` is that it returned `False`.
    stop: Mutex<Option<oneshot::Sender<Option<PyErr>>>>,
}

#[pymethods]
impl Reporter {
    fn __call__(&self, py: Python<'_>) {
        let (Some(function), Some(progress)) = (&self.progress, self.latest.take()) else { return };
        let is_over = |stop: &Option<_>| stop.is_none();
        if is_over(&*self.stop.lock().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let why = match function.bind(py).call1(arguments(progress)) {
            Ok(answer) if wants_more(&answer) => return,
            Ok(_) => None,
            Err(error) => Some(error),
        };
        if let Some(stop) = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = stop.send(why);
        }
    }
}
