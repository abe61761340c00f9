//! Aborts a running decode when its owner requests it.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};

/// The callback that llama.cpp's CPU backend calls after each node of the graph.
///
/// # Safety
///
/// `flag` points to an [`AtomicBool`] that outlives the context.
pub(crate) unsafe extern "C" fn should_abort(flag: *mut c_void) -> bool {
    // SAFETY: the caller promises that the flag is alive; it is only ever read here.
    unsafe { &*flag.cast::<AtomicBool>() }.load(Ordering::Relaxed)
}
