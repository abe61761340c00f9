//! The native module of the Python package: it converts, releases the GIL and calls. It takes no decisions.

mod config;
mod context;
mod held;
mod log;
mod model;
mod next_token;
mod notifier;
mod prompt;
mod stream;
mod token;

/// The native half of mullama; the package has the other half, and exports what is public.
#[pyo3::pymodule(gil_used = false)]
mod _mullama {
    use std::path::PathBuf;

    use pyo3::exceptions::PyImportError;
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::config::{check_context_params, check_stream_config, setting_limits, stream_config_defaults};
    #[pymodule_export]
    use crate::log::{close_log, listen_to_log, take_log, wait_for_log};
    #[pymodule_export]
    use crate::notifier::{LoopNotifier, NotifyHandle};
    #[pymodule_export]
    use crate::{
        context::Context, model::Model, next_token::NextToken, prompt::Chat, stream::TokenStream, token::Token,
    };
    #[pymodule_export]
    use mullama_py_hub::Hub;
    #[pymodule_export]
    use mullama_py_server::Server;

    /// Ends all engines: llama.cpp must not run on while the interpreter ends.
    #[pyfunction]
    fn shutdown(py: Python<'_>) {
        mullama_py_common::begin_exit(py);
        py.detach(mullama::shutdown);
    }

    /// What llama.cpp was compiled for, and the devices that it found.
    #[pyfunction]
    fn system_info(py: Python<'_>) -> String {
        py.detach(mullama::system_info)
    }

    /// The devices that llama.cpp can compute on: name, description, kind, free bytes and all bytes of memory.
    #[pyfunction]
    fn devices(py: Python<'_>) -> Vec<(String, String, &'static str, u64, u64)> {
        let devices = py.detach(mullama::devices).into_iter();
        devices.map(|it| (it.name, it.description, it.kind.name(), it.memory_free, it.memory_total)).collect()
    }

    /// The variant of llama.cpp's CPU code that was chosen for this processor; None in a build for one processor.
    #[pyfunction]
    fn cpu_variant(py: Python<'_>) -> Option<&'static str> {
        py.detach(mullama::cpu_variant)
    }

    /// Loads a GPU backend from a library, and returns how many devices it found. Raises `ImportError` if it is refused.
    #[pyfunction]
    fn load_plugin(py: Python<'_>, library: PathBuf) -> PyResult<usize> {
        py.detach(move || mullama::load_plugin(&library)).map_err(|error| PyImportError::new_err(error.to_string()))
    }

    /// The name of a value of `general.file_type`, which metadata have as text.
    #[pyfunction]
    fn file_type_name(file_type: &str) -> Option<&'static str> {
        mullama::gguf::file_type_name(file_type.parse().ok()?)
    }

    /// Threads that an engine has where nobody names a number.
    #[pyfunction]
    fn usable_cores() -> usize {
        mullama::usable_cores()
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
