//! The native module of the Python package: converts, lets go of the interpreter, calls. No decision is taken here.

mod bell;
mod config;
mod context;
mod error;
mod exit;
mod held;
mod load;
mod model;
mod prompt;
mod settings;
mod stream;
mod token;
mod wait;

/// The native half of mullama; the package has the other half, and exports what is public.
#[pyo3::pymodule(gil_used = false)]
mod _mullama {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::config::{check_context_params, check_stream_config, stream_config_defaults};
    #[pymodule_export]
    use crate::bell::{Bell, Rope};
    #[pymodule_export]
    use crate::prompt::Chat;
    #[pymodule_export]
    use crate::{context::Context, model::Model, stream::TokenStream, token::Token};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        crate::exit::register(module.py())
    }
}
