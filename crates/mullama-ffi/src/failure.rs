//! Failures of a decode on request, so that tests can observe the recovery from each.

use crate::decode::outcome;
use crate::error::{Error, check};
use crate::sys;

/// A failure that [`Context::fail_next_decode`](crate::Context::fail_next_decode) causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// A C++ exception.
    Exception,
    /// A failed assertion that goes through llama.cpp's abort hook.
    Assertion,
    /// This status of `llama_decode`.
    Status(i32),
}

impl Failure {
    pub(crate) fn happen(self) -> Result<(), Error> {
        let status = match self {
            Self::Exception => sys::ML_EXCEPTION,
            Self::Assertion => sys::ML_ASSERTION,
            Self::Status(result) => return outcome(result),
        };
        // SAFETY: the function only fails, inside its guard.
        check("llama_decode", unsafe { sys::mullama_fail(status) })
    }
}
