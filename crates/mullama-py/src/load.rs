//! Loading a model on a thread of its own, so that the caller hears Ctrl-C whatever the file system does.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Weak};

use mullama::{Model, ModelLoadFailure, ModelOptions, MullamaError, StreamFailure};
use pyo3::prelude::*;

use crate::error::to_py;
use crate::exit;
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
    let work = {
        let (path, waits, reports) = (path.to_owned(), Arc::downgrade(&waiting), progress.is_some());
        move || {
            let mut report = |fraction| {
                // Nobody listens once the caller has given up, which ends the load below.
                let _ = reports.then(|| tell.send(News::Progress(fraction)));
                Weak::strong_count(&waits) > 0
            };
            let loaded = Model::load_with(path, &options, Some(&mut report));
            // The model is dropped here if the caller has given up.
            let _ = tell.send(News::Loaded(loaded));
        }
    };
    let thread = std::thread::Builder::new().name("mullama-load".into()).spawn(work);
    let refused = |source| to_py(py, &MullamaError::ModelLoad { path: path.to_owned(), source });
    exit::remember_load(thread.map_err(|error| refused(ModelLoadFailure::Thread(Arc::new(error))))?);
    loop {
        let told;
        (told, news) = py.detach(move || (news.recv_timeout(SLICE), news));
        match told {
            Ok(News::Loaded(loaded)) => return loaded.map_err(|error| to_py(py, &error)),
            Ok(News::Progress(fraction)) if !goes_on(progress, fraction)? => {
                return Err(refused(ModelLoadFailure::Cancelled));
            }
            Ok(News::Progress(_)) | Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(to_py(py, &MullamaError::StreamingError(StreamFailure::EngineEnded)));
            }
        }
    }
}

fn goes_on(progress: Option<&Bound<'_, PyAny>>, fraction: f32) -> PyResult<bool> {
    let Some(progress) = progress else { return Ok(true) };
    let answer = progress.call1((fraction,))?;
    Ok(answer.is_none() || answer.is_truthy()?)
}
