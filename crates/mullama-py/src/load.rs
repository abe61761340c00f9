//! Loading a model on a thread of its own, so that the caller hears Ctrl-C whatever the file system does.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Weak};

use mullama::{Model, ModelLoadFailure, ModelOptions, MullamaError, StreamFailure::EngineEnded};
use pyo3::prelude::*;

use crate::error::to_py;
use crate::exit::Loading;
use crate::wait::SLICE;

/// What the loading thread tells the caller.
enum News {
    Progress(f32),
    Loaded(Result<Model, MullamaError>),
}

/// Loads a model. `progress` is called on the caller's thread; its exception, a signal or `False` ends the load.
pub(crate) fn load(
    py: Python<'_>,
    path: &Path,
    options: ModelOptions,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<Model> {
    let waiting = Arc::new(());
    let (tell, mut news) = sync_channel(1);
    let (file, waits, reports) = (path.to_owned(), Arc::downgrade(&waiting), progress.is_some());
    let loading = Loading::begin();
    let work = move || {
        let _loading = loading;
        let mut report = |fraction| {
            // Nobody listens once the caller has given up, which ends the load.
            let _ = reports.then(|| tell.send(News::Progress(fraction)));
            Weak::strong_count(&waits) > 0
        };
        let loaded = Model::load_with(file, &options, Some(&mut report));
        let _ = tell.send(News::Loaded(loaded));
    };
    let refused = |source| to_py(py, &MullamaError::ModelLoad { path: path.to_owned(), source });
    let thread = std::thread::Builder::new().name("mullama-load".into()).spawn(work);
    thread.map_err(|error| refused(ModelLoadFailure::Thread(Arc::new(error))))?;
    loop {
        let told;
        (told, news) = py.detach(move || (news.recv_timeout(SLICE), news));
        match told {
            Ok(News::Loaded(loaded)) => return loaded.map_err(|error| to_py(py, &error)),
            Ok(News::Progress(at)) if !goes_on(progress, at)? => return Err(refused(ModelLoadFailure::Cancelled)),
            Ok(News::Progress(_)) | Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => return Err(to_py(py, &MullamaError::StreamingError(EngineEnded))),
        }
    }
}

fn goes_on(progress: Option<&Bound<'_, PyAny>>, fraction: f32) -> PyResult<bool> {
    let answer = progress.map(|progress| progress.call1((fraction,))).transpose()?;
    Ok(answer.is_none_or(|answer| answer.extract().unwrap_or(true)))
}
