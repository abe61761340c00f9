//! The allocator of the process.

/// Gives freed memory back to the system. glibc keeps what is freed between other allocations; other allocators give it
/// back by themselves. It takes some milliseconds on a large heap.
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the function may be called at any time and on any thread; it frees nothing that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
