//! Where streams are asked for, for the Python class of that name.

use mullama::{BackgroundWork, MullamaError};
use mullama_py_common::{awaitable, in_background, settings, to_py, wait};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};

use crate::held::Closable;
use crate::model::Model;

/// How many steps, their total and the longest in seconds.
type Steps = (u64, f64, f64);

/// Where streams are asked for.
#[pyclass(frozen)]
pub(crate) struct Context(pub(crate) Closable<mullama::Context>);

#[pymethods]
impl Context {
    #[new]
    fn new(py: Python<'_>, model: &Model, params: &Bound<'_, PyAny>) -> PyResult<Self> {
        let params = settings::context_params(params)?;
        let model = model.0.get(py)?.arc();
        // A context that is half made cannot be given up; it is dropped when it is made.
        let work = BackgroundWork::start(false, move |_| mullama::Context::new(model, params));
        let context = wait::for_started(py, work.map_err(MullamaError::no_thread), None)?;
        Ok(Self(Closable::new("context", context)))
    }

    /// As the constructor, awaited on the event loop.
    #[staticmethod]
    fn open_async<'py>(
        event_loop: &Bound<'py, PyAny>,
        model: &Model,
        params: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = event_loop.py();
        let params = settings::context_params(params)?;
        let model = model.0.get(py)?.arc();
        let work = in_background(move |_| mullama::Context::new(model, params));
        let work = work.map_err(|error| to_py(py, &MullamaError::no_thread(error)))?;
        awaitable(event_loop, work, |py, context| {
            let context = context.map_err(|error| to_py(py, &error))?;
            Ok(Py::new(py, Self(Closable::new("context", context)))?.into_any())
        })
    }

    #[getter]
    fn context_len(&self, py: Python<'_>) -> PyResult<usize> {
        self.0.get(py)?.context_len().map_err(|error| to_py(py, &error))
    }

    #[getter]
    fn unfinished(&self, py: Python<'_>) -> PyResult<usize> {
        self.0.get(py)?.unfinished().map_err(|error| to_py(py, &error))
    }

    /// Counts by name, then the decode steps and the prefill steps.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyDict>, [Steps; 2])> {
        let stats = self.0.get(py)?.stats().map_err(|error| to_py(py, &error))?;
        let seconds = |steps: mullama::Steps| (steps.count, steps.total.as_secs_f64(), steps.longest.as_secs_f64());
        Ok((stats.counts().into_py_dict(py)?, [stats.decode_steps, stats.prefill_steps].map(seconds)))
    }

    fn close(&self) {
        drop(self.0.take());
    }
}
