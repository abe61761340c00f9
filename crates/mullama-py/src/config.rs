//! The two tables of settings, read from Python by the names of their fields.

use mullama::{ContextParams, Limits, StreamConfig};
use mullama_py_common::settings::{context_params, stream_config};
use mullama_py_common::to_py;
use pyo3::prelude::*;
use pyo3::types::PyDict;

macro_rules! defaults {
    ($($(#[$doc:meta])* $name:ident: $type:ty, $setter:ty, $default:expr, $range:tt;)*) => {
        /// Names and defaults of the core's table, which Python's `StreamConfig` has to repeat.
        #[pyfunction]
        pub(crate) fn stream_config_defaults(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
            let table = PyDict::new(py);
            $(table.set_item(stringify!($name), StreamConfig::default().$name)?;)*
            Ok(table)
        }
    };
}

mullama::stream_config_table!(defaults);

/// The limits of the fields of both tables: minimum and maximum, or for lists the maximum number of items alone.
#[pyfunction]
pub(crate) fn setting_limits() -> Vec<(&'static str, Option<f64>, f64)> {
    let numbers = |(name, limits)| match limits {
        Limits::Numbers(min, max) => (name, Some(min), max),
        Limits::Items(most) => (name, None, most.into()),
    };
    StreamConfig::limits().into_iter().chain(ContextParams::limits()).map(numbers).collect()
}

/// Raises `InvalidConfigError` or `TypeError` for the first field that is wrong.
#[pyfunction]
pub(crate) fn check_stream_config(config: &Bound<'_, PyAny>) -> PyResult<()> {
    stream_config(config)?.validate().map_err(|error| to_py(config.py(), &error))
}

/// Raises `InvalidConfigError` or `TypeError` for the first field that is wrong.
#[pyfunction]
pub(crate) fn check_context_params(params: &Bound<'_, PyAny>) -> PyResult<()> {
    context_params(params)?.validate().map_err(|error| to_py(params.py(), &error))
}
