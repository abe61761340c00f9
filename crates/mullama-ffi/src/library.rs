//! Loads llama.cpp's backends from libraries: the variant of the CPU backend for this processor, and plug-ins for GPUs.
//!
//! llama.cpp's own search looks into the executable's folder and the current directory, where anybody may have put a
//! library. Here the one folder is that of the ggml library that the loader bound, and plug-ins are named by their path.
//! Each library states the build that it belongs to, which is read before any code of it runs.

mod elf;
mod processor;

use std::ffi::{CStr, CString, OsStr, c_char};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::error::{Error, check};
use crate::per_process::PerProcess;
use crate::{backend, log, sys};

/// The build that libraries must belong to.
pub(crate) const BUILD_ID: &str = env!("MULLAMA_BUILD_ID");
/// The section that the build script writes.
const SECTION: &str = ".mullama.build";
/// `PATH_MAX` of Linux.
const MAX_PATH_BYTES: usize = 4096;

static VARIANT: OnceLock<&'static str> = OnceLock::new();

/// The name of the variant of the CPU backend that was loaded.
pub(crate) fn variant() -> Option<&'static str> {
    VARIANT.get().copied()
}

/// Chooses the variant of the CPU backend for this processor, and returns the path of its library.
pub(crate) fn choose() -> Result<CString, Error> {
    let folder = folder()?;
    for name in processor::variants() {
        let path = folder.join(format!("libggml-cpu-{name}.so"));
        if path.exists() {
            verify(&path)?;
            tracing::info!(target: "mullama", variant = name, path = %path.display(), "the CPU backend was chosen");
            let _ = VARIANT.set(name);
            return c_path(&path);
        }
    }
    Err(Error::NoVariant { folder, variants: processor::variants().collect() })
}

/// Loads a GPU backend from a library, and returns how many devices it found.
///
/// A library that cannot be loaded, for example because the machine has no driver, is a warning in the log, and no error:
/// the plug-in steps aside. The same library is loaded once, and calls of several threads wait for each other.
///
/// # Errors
///
/// [`Error::LibraryUnreadable`] or [`Error::ForeignLibrary`]; the library was then not loaded. An error of the first
/// initialisation of llama.cpp, or one from C++.
pub fn load_plugin(path: &Path) -> Result<usize, Error> {
    /// ggml adds to its list of backends without a lock.
    static LOADING: PerProcess<Mutex<()>> = PerProcess::new();

    let path = path.canonicalize().map_err(|error| unreadable(path, error))?;
    verify(&path)?;
    backend::init()?;
    let _loading = LOADING.get().lock().unwrap_or_else(PoisonError::into_inner);
    let mut devices = -1;
    let raw = c_path(&path)?;
    log::forget_said();
    log::hold();
    // SAFETY: the path is a C string, and the shim writes the number only. The library states that it is of this build.
    let status = unsafe { sys::mullama_plugin_load(raw.as_ptr(), &raw mut devices) };
    log::release(devices <= 0);
    check("ggml_backend_load", status)?;
    let devices = usize::try_from(devices).unwrap_or(0);
    if devices == 0 {
        let said = log::take_said().join("; ");
        tracing::warn!(target: "mullama", path = %path.display(), said, "a plug-in found no device and is not used");
    }
    Ok(devices)
}

/// The folder of the libraries: that of ggml, after its build id was checked.
fn folder() -> Result<PathBuf, Error> {
    // Cargo runs tests with the libraries as llama-cpp-sys-2 installed them, before they were collected and marked;
    // benchmarks may be moved to another machine.
    let ggml = if cfg!(feature = "test-support") {
        let moved = std::env::var_os("MULLAMA_LIBRARIES").map(PathBuf::from);
        moved.unwrap_or_else(|| env!("MULLAMA_LIBRARIES").into()).join(env!("MULLAMA_GGML"))
    } else {
        ggml_path()?
    };
    verify(&ggml)?;
    Ok(ggml.parent().unwrap_or(Path::new("/")).to_owned())
}

/// Where the loader found the library of ggml.
fn ggml_path() -> Result<PathBuf, Error> {
    let mut path: [c_char; MAX_PATH_BYTES] = [0; MAX_PATH_BYTES];
    // SAFETY: the shim writes at most that many characters, the last of them NUL.
    let status = unsafe { sys::mullama_library_path(path.as_mut_ptr(), path.len()) };
    check("dladdr", status)?;
    // SAFETY: it ends in NUL, and lives until the end of this function.
    let path = unsafe { CStr::from_ptr(path.as_ptr()) };
    Ok(PathBuf::from(OsStr::from_bytes(path.to_bytes())))
}

/// Checks that a library states the build that this one belongs to.
fn verify(path: &Path) -> Result<(), Error> {
    let about = path.metadata().map_err(|error| unreadable(path, error))?;
    if !about.is_file() {
        // Opening a named pipe would wait for somebody who writes into it.
        return Err(unreadable(path, io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")));
    }
    let mut file = File::open(path).map_err(|error| unreadable(path, error))?;
    let stated = elf::section(&mut file, SECTION).map_err(|error| unreadable(path, error))?;
    match stated {
        Some(id) if id == BUILD_ID.as_bytes() => Ok(()),
        other => Err(Error::ForeignLibrary {
            path: path.to_owned(),
            found: other.map(|id| printable(&id)),
            expected: BUILD_ID,
        }),
    }
}

/// The beginning of a build id that may be anything.
fn printable(id: &[u8]) -> String {
    const MAX_BYTES: usize = 200;
    String::from_utf8_lossy(id.get(..MAX_BYTES).unwrap_or(id)).escape_debug().to_string()
}

fn c_path(path: &Path) -> Result<CString, Error> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::NulByte { what: "the path of a library" })
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::LibraryUnreadable { path: path.to_owned(), source: Arc::new(error) }
}

#[cfg(test)]
mod tests;
