//! Initialises llama.cpp, once per process.

use std::ffi::CStr;
use std::sync::OnceLock;

use crate::error::{Error, check};
use crate::{log, sys};

/// Initialises llama.cpp if that has not happened yet. It is never shut down, because there is nothing to free.
///
/// Every call that needs it initialises it by itself; calling this first only moves the cost.
///
/// # Errors
///
/// [`Error::Exception`] or another error from C++, at each call, if the initialisation failed.
pub fn init() -> Result<(), Error> {
    static STARTED: OnceLock<Result<(), Error>> = OnceLock::new();
    STARTED
        .get_or_init(|| {
            #[cfg(mullama_generic_cpu)]
            tracing::warn!(
                target: "mullama",
                "llama.cpp was compiled without a target-cpu, so it leaves AVX-512 and VNNI unused; docs/rust.md has two ways out"
            );
            #[cfg(feature = "portable")]
            let variant = crate::library::choose()?;
            #[cfg(feature = "portable")]
            let variant = variant.as_ptr();
            #[cfg(not(feature = "portable"))]
            let variant = std::ptr::null();
            // SAFETY: `on_text` is a plain function that never unwinds; the path is null or a C string that lives across
            // the call; `OnceLock` lets one thread in.
            check("llama_backend_init", unsafe { sys::mullama_init(log::on_text, variant) })
        })
        .clone()
}

/// The features that llama.cpp was compiled for and uses, in its own format: `CPU : AVX2 = 1 | FMA = 1 | …`.
pub fn system_info() -> String {
    static INFO: OnceLock<String> = OnceLock::new();
    INFO.get_or_init(|| {
        // The text names the backends, which exist once llama.cpp is initialised; if that failed it names none.
        let _ = init();
        // SAFETY: the text is a static string that ends in NUL; it is rewritten only by this call, which `OnceLock`
        // makes once.
        unsafe { CStr::from_ptr(sys::mullama_system_info()) }.to_string_lossy().into_owned()
    })
    .clone()
}

/// The variant of the CPU backend that was chosen for this processor, such as `haswell`; `None` if the code for one
/// processor is linked in, or llama.cpp cannot be initialised.
pub fn variant() -> Option<&'static str> {
    #[cfg(feature = "portable")]
    if init().is_ok() {
        return crate::library::variant();
    }
    None
}

/// Refuses every library: this build has llama.cpp linked in, and a plug-in would bring a second one.
///
/// # Errors
///
/// [`Error::NotPortable`].
#[cfg(not(feature = "portable"))]
pub fn load_plugin(path: &std::path::Path) -> Result<usize, Error> {
    Err(Error::NotPortable { path: path.to_owned() })
}

/// Makes the process exit without C++'s destructors of static objects, because a thread may still read what they
/// destroy. C's open files are flushed. If the C library is not glibc, nothing changes.
pub fn keep_statics_at_exit() {
    // SAFETY: registers a handler; it touches nothing of ours.
    unsafe { sys::mullama_keep_statics_at_exit() };
}
