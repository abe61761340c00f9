//! The two tables of settings, read from Python by the names of their fields.

use mullama::{ContextParams, StreamConfig};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::to_py;
use crate::settings::{Field, Setting};

fn read<T: Setting>(python: &Bound<'_, PyAny>, name: &'static str, range: Option<&'static str>) -> PyResult<T> {
    T::take(&python.getattr(name)?, Field { name, range })
}

/// The range of a line of the core's table, in words.
macro_rules! range_in_words {
    (-) => {
        None
    };
    (($min:expr, $max:expr, $words:expr)) => {
        Some($words)
    };
    ([$most:expr, $words:expr]) => {
        None
    };
}

macro_rules! stream_config {
    ($($(#[$doc:meta])* $name:ident: $type:ty, $setter:ty, $default:expr, $range:tt;)*) => {
        /// Reads Python's `StreamConfig`.
        pub(crate) fn stream_config(python: &Bound<'_, PyAny>) -> PyResult<StreamConfig> {
            let mut config = StreamConfig::default();
            $(config.$name = read(python, stringify!($name), range_in_words!($range))?;)*
            Ok(config)
        }

        /// Names and defaults of the core's table, which Python's `StreamConfig` has to repeat.
        #[pyfunction]
        pub(crate) fn stream_config_defaults(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
            let table = PyDict::new(py);
            let defaults = StreamConfig::default();
            $(table.set_item(stringify!($name), defaults.$name)?;)*
            Ok(table)
        }
    };
}

mullama::stream_config_table!(stream_config);

macro_rules! context_params {
    ($($name:ident)*) => {
        /// Reads Python's `ContextParams`. Without one of the fields this does not build.
        pub(crate) fn context_params(python: &Bound<'_, PyAny>) -> PyResult<ContextParams> {
            Ok(ContextParams { $($name: read(python, stringify!($name), ContextParams::range(stringify!($name)))?,)* })
        }
    };
}

context_params! {
    n_ctx n_parallel kv_cells n_batch n_ubatch n_threads n_threads_batch flash_attn type_k type_v prefix_cache_bytes max_queue
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
