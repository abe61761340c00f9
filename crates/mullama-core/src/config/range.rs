//! A range of allowed values with its wording in error messages.

use std::fmt::Display;

use crate::error::MullamaError;

/// The limits of a field as numbers, for schemas in other languages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limits {
    /// The smallest and the largest number, both allowed.
    Numbers(f64, f64),
    /// The maximum number of items of a list or a mapping.
    Items(u32),
}

impl From<Range<u32>> for Limits {
    fn from(range: Range<u32>) -> Self {
        Self::Numbers(range.min.into(), range.max.into())
    }
}

/// The values that a field allows; the check and its wording are defined together.
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

    /// The range as error messages state it.
    pub const fn words(&self) -> &'static str {
        self.words
    }

    /// Refuses a value outside the range. NaN is outside every range, and `None` is always valid.
    pub(crate) fn check(&self, field: &'static str, value: impl Into<Option<T>>) -> Result<(), MullamaError> {
        match value.into() {
            Some(value) if !(self.min <= value && value <= self.max) => {
                Err(MullamaError::invalid(field, value, self.words))
            }
            _ => Ok(()),
        }
    }
}
