//! The hub, for the functions of the package.

use std::path::PathBuf;

use mullama::{BackgroundWork, MullamaError};
use mullama_hub::{HubConfig, LocalModel};
use mullama_py_common::{awaitable, in_background, to_py, wait};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::facts;
use crate::pull::{self, Wanted};

/// A path, and what is wrong with it.
type Problem = (PathBuf, String);
/// The models of a list, and what cannot be read.
type ListFacts<'py> = (Vec<Bound<'py, PyDict>>, Vec<Problem>);
/// The fields of the package's `RemovedModel`.
type RemovedFacts<'py> = (String, Bound<'py, PyTuple>, u64, Option<Problem>);

/// Finds models by name and downloads those that are missing, as the environment says when it is made.
#[pyclass(frozen)]
#[derive(Debug)]
pub struct Hub(mullama_hub::Hub);

#[pymethods]
impl Hub {
    #[new]
    fn new(py: Python<'_>, demo: PathBuf) -> PyResult<Self> {
        let config = HubConfig::from_env().map(|config| HubConfig { demo: Some(demo), ..config });
        config.and_then(mullama_hub::Hub::new).map(Self).map_err(|error| to_py(py, &error))
    }

    /// A model on this machine, for use: it is remembered as used now.
    fn find<'py>(&self, py: Python<'py>, name: String) -> PyResult<Bound<'py, PyDict>> {
        let local = self.blocking(py, move |hub| used(hub, hub.find(&name)))?;
        facts::local(py, &local)
    }

    /// As `find`, awaited on the event loop.
    fn find_async<'py>(&self, event_loop: &Bound<'py, PyAny>, name: String) -> PyResult<Bound<'py, PyAny>> {
        let hub = self.0.clone();
        let work = in_background(move |_| used(&hub, hub.find(&name))).map_err(MullamaError::no_thread);
        let work = work.map_err(|error| to_py(event_loop.py(), &error))?;
        awaitable(event_loop, work, |py, local| {
            let local = local.map_err(|error| to_py(py, &error))?;
            Ok(facts::local(py, &local)?.into_any().unbind())
        })
    }

    /// A model, downloaded if it is missing; with `renew` the server is asked even if it is not. `progress` is called on
    /// this thread.
    fn pull<'py>(
        &self,
        py: Python<'py>,
        name: String,
        renew: bool,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let local = pull::blocking(py, self.wanted(name, renew), progress)?;
        facts::local(py, &local)
    }

    /// As `pull`, awaited on the event loop, which calls `progress`.
    fn pull_async<'py>(
        &self,
        event_loop: &Bound<'py, PyAny>,
        name: String,
        renew: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        pull::awaited(event_loop, self.wanted(name, renew), progress)
    }

    /// The names of all models on this machine.
    fn names(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let models = self.blocking(py, mullama_hub::Hub::list)?.models;
        Ok(models.into_iter().flat_map(|model| std::iter::once(model.name).chain(model.aliases)).collect())
    }

    /// All models on this machine, and the paths that cannot be read, each with the reason.
    fn list<'py>(&self, py: Python<'py>) -> PyResult<ListFacts<'py>> {
        let found = self.blocking(py, mullama_hub::Hub::list)?;
        let models = found.models.iter().map(|model| facts::listed(py, model)).collect::<PyResult<_>>()?;
        Ok((models, found.unreadable.into_iter().map(|each| (each.path, each.reason)).collect()))
    }

    /// What is known about a model on this machine.
    #[pyo3(signature = (model, n_ctx))]
    fn show<'py>(&self, py: Python<'py>, model: String, n_ctx: Option<u32>) -> PyResult<Bound<'py, PyDict>> {
        let shown = self.blocking(py, move |hub| hub.show(&model, n_ctx))?;
        facts::shown(py, &shown)
    }

    /// Removes a model of ours, or an alias: its name in full, its other names that went with it, the bytes that became
    /// free, and why files stay: what is in the way, and the reason.
    fn remove<'py>(&self, py: Python<'py>, name: String) -> PyResult<RemovedFacts<'py>> {
        let removed = self.blocking(py, move |hub| hub.remove(&name))?;
        let kept = removed.kept.map(|kept| (kept.path, kept.reason));
        Ok((removed.name, PyTuple::new(py, removed.aliases)?, removed.bytes, kept))
    }

    /// Gives a model another name.
    fn alias(&self, py: Python<'_>, name: String, alias: String) -> PyResult<()> {
        self.blocking(py, move |hub| hub.alias(&name, &alias))
    }
}

impl Hub {
    fn wanted(&self, name: String, renew: bool) -> Wanted {
        Wanted { hub: self.0.clone(), name, renew }
    }

    /// Does what may wait for a disk on a thread of its own, so that Ctrl-C is heard.
    fn blocking<T: Send + 'static>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&mullama_hub::Hub) -> Result<T, MullamaError> + Send + 'static,
    ) -> PyResult<T> {
        let hub = self.0.clone();
        let work = BackgroundWork::start(false, move |_| call(&hub));
        wait::for_started(py, work.map_err(MullamaError::no_thread), None)
    }
}

/// The model, which is remembered as used now.
pub(crate) fn used(
    hub: &mullama_hub::Hub,
    found: Result<LocalModel, MullamaError>,
) -> Result<LocalModel, MullamaError> {
    found.inspect(|model| hub.touch(model))
}
