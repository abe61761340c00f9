//! Functions of a program that hear how far a call is.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

use crate::exit;

/// Whether the answer of a progress function lets the work go on: everything but `False` does.
pub fn wants_more(answer: &Bound<'_, PyAny>) -> bool {
    answer.extract().unwrap_or(true)
}

/// A progress function that is called on a thread of ours.
#[derive(Debug)]
pub struct Callback {
    function: Option<Py<PyAny>>,
    /// What the function raised, which ends the work.
    raised: Mutex<Option<PyErr>>,
}

impl Callback {
    /// `None` is a function that does nothing.
    pub fn new(function: Option<Py<PyAny>>) -> Self {
        Self { function, raised: Mutex::new(None) }
    }

    /// Calls the function; `false` if the work should end.
    pub fn goes_on(&self, fraction: f32) -> bool {
        let Some(function) = &self.function else { return true };
        let answer = exit::attach(|py| match function.bind(py).call1((fraction,)) {
            Ok(answer) => wants_more(&answer),
            Err(error) => {
                *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                false
            }
        });
        answer.unwrap_or(false)
    }

    /// What the function raised, if it did.
    pub fn take_error(&self) -> Option<PyErr> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
