//! Counts the unfinished streams of an engine against their limit.

use std::sync::Arc;

use crate::error::MullamaError;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// How many streams are unfinished, and how many may be.
#[derive(Debug)]
pub(crate) struct Admission {
    unfinished: AtomicUsize,
    limit: usize,
}

impl Admission {
    pub(crate) fn new(limit: usize) -> Self {
        Self { unfinished: AtomicUsize::new(0), limit }
    }

    pub(crate) fn unfinished(&self) -> usize {
        self.unfinished.load(Ordering::Acquire)
    }

    /// Counts one more stream until the ticket is dropped.
    ///
    /// # Errors
    /// [`MullamaError::Overloaded`] if the limit is reached.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<AdmissionTicket, MullamaError> {
        let one_more = |n| (n < self.limit).then_some(n + 1);
        match self.unfinished.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more) {
            Ok(_) => Ok(AdmissionTicket(Arc::clone(self))),
            Err(unfinished) => Err(MullamaError::Overloaded { unfinished, limit: self.limit }),
        }
    }
}

/// One counted stream; dropping it reduces the count.
#[derive(Debug)]
pub(crate) struct AdmissionTicket(Arc<Admission>);

impl Drop for AdmissionTicket {
    fn drop(&mut self) {
        self.0.unfinished.fetch_sub(1, Ordering::AcqRel);
    }
}
