//! The two tables of settings, read from Python by the names of their fields.

use mullama::{ContextParams, MullamaError, StreamConfig};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::error::to_py;
use crate::settings::{Field, Setting};

/// The range of a line of the core's table, in words.
macro_rules! range_in_words {
    (-) => {
        None
    };
    (($min:expr, $max:expr, $words:expr)) => {
        Some($words)
    };
}

macro_rules! stream_config {
    ($($(#[$doc:meta])* $name:ident: $type:ty, $setter:ty, $default:expr, $range:tt;)*) => {
        /// Sets the field of this name; `false` if there is none.
        fn set(config: &mut StreamConfig, name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
            match name {
                $(stringify!($name) => {
                    config.$name = Setting::take(value, Field::new(stringify!($name), range_in_words!($range)))?;
                })*
                _ => return Ok(false),
            }
            Ok(true)
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
    ($($name:ident),*) => {
        fn read_params(params: &Bound<'_, PyAny>) -> PyResult<ContextParams> {
            Ok(ContextParams {
                $($name: Setting::take(&params.getattr(stringify!($name))?, Field::new(stringify!($name), None))?,)*
            })
        }
    };
}

// A field that is missing here does not build.
context_params!(
    n_ctx,
    n_parallel,
    kv_cells,
    n_batch,
    n_ubatch,
    n_threads,
    n_threads_batch,
    flash_attn,
    type_k,
    type_v,
    max_queue
);

/// The config of a call: `config` or the defaults, then the keywords.
pub(crate) fn stream_config(
    call: &str,
    config: Option<&Bound<'_, PyAny>>,
    max_tokens: Option<&Bound<'_, PyAny>>,
    overrides: Option<&Bound<'_, PyDict>>,
) -> PyResult<StreamConfig> {
    let mut merged = config.map(read_config).transpose()?.unwrap_or_default();
    if let Some(max_tokens) = max_tokens {
        set(&mut merged, "max_tokens", max_tokens)?;
    }
    for (name, value) in overrides.into_iter().flatten() {
        let name = name.cast::<PyString>()?;
        if !set(&mut merged, &name.to_string_lossy(), &value)? {
            return Err(unknown(call, name));
        }
    }
    Ok(merged)
}

fn read_config(config: &Bound<'_, PyAny>) -> PyResult<StreamConfig> {
    expect_class(config, "config", "StreamConfig")?;
    let mut read = StreamConfig::default();
    for name in StreamConfig::FIELDS {
        set(&mut read, name, &config.getattr(*name)?)?;
    }
    Ok(read)
}

/// The params, or the defaults for `None`.
pub(crate) fn context_params(params: Option<&Bound<'_, PyAny>>) -> PyResult<ContextParams> {
    let Some(params) = params else { return Ok(ContextParams::default()) };
    expect_class(params, "params", "ContextParams")?;
    read_params(params)
}

fn expect_class(value: &Bound<'_, PyAny>, argument: &str, class: &str) -> PyResult<()> {
    if value.is_instance(&value.py().import("mullama._config")?.getattr(class)?)? {
        return Ok(());
    }
    let kind = value.get_type().name()?;
    Err(PyTypeError::new_err(format!("{argument} must be a {class} or None, not {kind}")))
}

/// `TypeError` in Python's own words, with the field that was probably meant.
fn unknown(call: &str, name: &Bound<'_, PyString>) -> PyErr {
    let mut message = format!("{call}() got an unexpected keyword argument '{}'", name.to_string_lossy());
    let close = || -> PyResult<Vec<String>> {
        let close = name.py().import("difflib")?.call_method1("get_close_matches", (name, StreamConfig::FIELDS, 1))?;
        close.extract()
    };
    match close() {
        Ok(close) => close.iter().for_each(|field| message.push_str(&format!(". Did you mean '{field}'?"))),
        Err(error) => return error,
    }
    PyTypeError::new_err(message)
}

/// Raises `InvalidConfigError` or `TypeError` for the first field that is wrong.
#[pyfunction]
pub(crate) fn check_stream_config(config: &Bound<'_, PyAny>) -> PyResult<()> {
    refused(config.py(), read_config(config)?.validate())
}

/// Raises `InvalidConfigError` or `TypeError` for the first field that is wrong.
#[pyfunction]
pub(crate) fn check_context_params(params: &Bound<'_, PyAny>) -> PyResult<()> {
    refused(params.py(), read_params(params)?.validate())
}

fn refused(py: Python<'_>, checked: Result<(), MullamaError>) -> PyResult<()> {
    checked.map_err(|error| to_py(py, &error))
}
