//! Runs code in a forked child process, for tests of calls after a fork.

use std::panic::{self, AssertUnwindSafe};
use std::thread;
use std::time::{Duration, Instant};

/// Runs `child` in a fork of this process, in which the calling thread is the only one. Returns whether `child`
/// returned
/// `true`; if it takes longer than `limit`, it is killed.
///
/// # Panics
///
/// If the process cannot be forked.
pub fn in_forked_child(limit: Duration, child: impl FnOnce() -> bool) -> bool {
    // SAFETY: The child continues on a copy of this thread, and leaves by `_exit` below.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "the process cannot be forked");
    if pid == 0 {
        let succeeded = panic::catch_unwind(AssertUnwindSafe(child)).unwrap_or(false);
        // SAFETY: Ends the child without destructors and exit handlers, which belong to the parent.
        unsafe { libc::_exit(i32::from(!succeeded)) }
    }
    let begun = Instant::now();
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call, and `pid` is a child of this process that no other code waits for.
        let ended = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
        if ended == pid {
            return libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
        }
        if begun.elapsed() > limit {
            // SAFETY: `pid` was not waited for, so it still names the child.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            // SAFETY: As above.
            unsafe { libc::waitpid(pid, &raw mut status, 0) };
            return false;
        }
        thread::park_timeout(Duration::from_millis(1));
    }
}
