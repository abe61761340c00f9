//! Remembers which process a handle belongs to: a fork copies handles, but not the threads behind them.

use crate::error::MullamaError;

/// The process in which a handle was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin(u32);

impl Origin {
    pub(crate) fn here() -> Self {
        Self(std::process::id())
    }

    /// Whether this is a child that got its copy by a fork. Locks may be held for ever then: look here first.
    pub(crate) fn is_forked(self) -> bool {
        self != Self::here()
    }

    /// Refuses every use in a forked child.
    pub(crate) fn check(self) -> Result<(), MullamaError> {
        if self.is_forked() {
            Err(MullamaError::Closed { what: "engine of the process before the fork" })
        } else {
            Ok(())
        }
    }
}
