//! Lists the devices that llama.cpp can compute on, and warns if layers should go to a GPU but there is none.

use std::fmt::Write as _;
use std::path::Path;

pub use mullama_ffi::Error as PluginError;
use mullama_ffi::{Device, Model, ModelOptions};

/// The devices that llama.cpp can compute on. A build without a GPU backend lists the CPU alone.
///
/// A driver that fails is logged as a warning, and the list is empty.
///
/// ```
/// let devices = mullama::devices();
/// assert!(devices.iter().any(|device| device.name == "CPU"));
/// ```
pub fn devices() -> Vec<Device> {
    mullama_ffi::devices().unwrap_or_else(|error| {
        tracing::warn!(target: "mullama", %error, "the devices of this machine cannot be listed");
        Vec::new()
    })
}

/// What llama.cpp was compiled for, and the devices that it found: `CPU : AVX2 = 1 | … | devices: CPU (…, 31.2 GiB)`.
///
/// ```
/// assert!(mullama::system_info().contains("devices: "));
/// ```
pub fn system_info() -> String {
    let mut info = mullama_ffi::system_info();
    info.truncate(info.trim_end_matches([' ', '|']).len());
    let mut separator = " | devices: ";
    for Device { name, description, memory_total, .. } in devices() {
        #[expect(clippy::cast_precision_loss, reason = "a size for people, with one decimal")]
        let gib = memory_total as f64 / f64::from(1 << 30);
        let _ = write!(info, "{separator}{name} ({description}, {gib:.1} GiB)");
        separator = ", ";
    }
    info
}

/// The variant of llama.cpp's CPU code that was chosen for this processor, such as `haswell`; `None` in a build for one
/// processor.
///
/// ```
/// assert_eq!(mullama::cpu_variant().is_some(), cfg!(feature = "portable"));
/// ```
pub fn cpu_variant() -> Option<&'static str> {
    mullama_ffi::variant()
}

/// Loads a GPU backend from a library of the same build of mullama, and returns how many devices it found. A library that
/// cannot be used on this machine is a warning in the log, and 0 devices.
///
/// Only models that are loaded afterwards use it.
///
/// # Errors
/// There is no such library, it belongs to another build (it is then not loaded), or this build of mullama is not `portable`.
pub fn load_plugin(library: &Path) -> Result<usize, PluginError> {
    mullama_ffi::load_plugin(library)
}

/// Warns if layers should have been put on a GPU and none was.
pub(crate) fn warn_without_gpu(options: ModelOptions, model: &Model) {
    if options.n_gpu_layers > 0 && !options.vocab_only && model.gpu_layers() == 0 {
        let n_gpu_layers = options.n_gpu_layers;
        tracing::warn!(target: "mullama", n_gpu_layers, "no GPU was found, so all layers are computed on the CPU");
    }
}
