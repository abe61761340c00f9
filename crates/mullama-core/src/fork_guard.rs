//! Remembers which process created a handle: a fork copies handles, but not the threads behind them.

use crate::error::{ENGINE_BEFORE_FORK, MullamaError};

/// The process that created a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ForkGuard(u32);

impl ForkGuard {
    /// Creates a guard for handles of this process.
    pub(crate) fn new() -> Self {
        Self(std::process::id())
    }

    /// Whether this process is a forked child of the one that created the handle. The child's locks may be held
    /// forever, so this check must come before any of them is taken.
    pub(crate) fn is_forked(self) -> bool {
        self != Self::new()
    }

    /// Refuses use in a forked child.
    ///
    /// # Errors
    /// [`MullamaError::Closed`] in a forked child.
    pub(crate) fn check(self) -> Result<(), MullamaError> {
        if self.is_forked() { Err(MullamaError::Closed { what: ENGINE_BEFORE_FORK }) } else { Ok(()) }
    }
}
