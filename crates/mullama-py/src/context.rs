//! Where streams are asked for, for the Python class of that name.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};

use crate::held::{Closable, Held};
use crate::{config, error::to_py, model::Model, wait};

/// How many steps, their seconds together, and the longest.
type Seconds = (u64, f64, f64);

/// Where streams are asked for.
#[pyclass(frozen)]
pub(crate) struct Context(Closable<mullama::Context>);

impl Context {
    /// The native context, or `EngineClosedError`.
    pub(crate) fn held(&self, py: Python<'_>) -> PyResult<Held<mullama::Context>> {
        self.0.get(py)
    }
}

#[pymethods]
impl Context {
    #[new]
    fn new(py: Python<'_>, model: &Model, params: &Bound<'_, PyAny>) -> PyResult<Self> {
        let params = config::context_params(params)?;
        let model = Arc::clone(model.held(py)?.arc());
        let context = wait::for_work(py, move || mullama::Context::new(model, params))?;
        Ok(Self(Closable::new("context", Held::new(context))))
    }

    #[getter]
    fn context_len(&self, py: Python<'_>) -> PyResult<usize> {
        self.0.get(py)?.context_len().map_err(|error| to_py(py, &error))
    }

    #[getter]
    fn unfinished(&self, py: Python<'_>) -> PyResult<usize> {
        self.0.get(py)?.unfinished().map_err(|error| to_py(py, &error))
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyDict>, [Seconds; 2])> {
        let stats = self.0.get(py)?.stats().map_err(|error| to_py(py, &error))?;
        let seconds = |steps: mullama::Steps| (steps.count, steps.total.as_secs_f64(), steps.longest.as_secs_f64());
        Ok((stats.counts().into_py_dict(py)?, [stats.decode_steps, stats.prefill_steps].map(seconds)))
    }

    fn close(&self) {
        drop(self.0.take());
    }
}
