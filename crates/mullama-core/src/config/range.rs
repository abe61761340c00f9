//! A range of allowed values that can say itself in words.

use std::fmt::Display;

use crate::error::MullamaError;

/// The values that a field allows, checked and told from one place.
#[derive(Debug, Clone, Copy)]
pub struct Range<T> {
    min: T,
    max: T,
    words: &'static str,
}

impl<T: PartialOrd + Display + Copy> Range<T> {
    pub(crate) const fn new(min: T, max: T, words: &'static str) -> Self {
        Self { min, max, words }
    }

    /// The range in words, as error messages tell it.
    pub const fn words(&self) -> &'static str {
        self.words
    }

    /// Refuses what lies outside; NaN lies outside every range.
    pub(crate) fn check(&self, field: &'static str, value: T) -> Result<(), MullamaError> {
        if self.min <= value && value <= self.max {
            return Ok(());
        }
        Err(MullamaError::invalid(field, value, self.words))
    }
}
