//! Python values as settings: one rule a type, and every refusal names its field.

use mullama::{FlashAttn, KvType, MullamaError, TokenId};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyDict, PyIterator, PyString};

use crate::error::to_py;

/// The field that a value is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    /// The values it allows, in words, where the core's table narrows its type's.
    pub(crate) range: Option<&'static str>,
}

impl Field {
    /// `TypeError`: `top_k must be an int, not str`.
    fn mistyped(self, wanted: &str, value: &Bound<'_, PyAny>) -> PyErr {
        match value.get_type().name() {
            Ok(kind) => PyTypeError::new_err(format!("{} must be {wanted}, not {kind}", self.name)),
            Err(error) => error,
        }
    }

    /// `InvalidConfigError`, for a value that the Rust type cannot hold.
    fn out_of_range(self, value: &Bound<'_, PyAny>, range: &str) -> PyErr {
        let range = self.range.unwrap_or(range).to_owned();
        to_py(value.py(), &MullamaError::InvalidConfig { field: self.name, value: shown(value), range })
    }

    fn explain(self, error: PyErr, value: &Bound<'_, PyAny>, wanted: &str, range: &str) -> PyErr {
        match error {
            error if error.is_instance_of::<PyOverflowError>(value.py()) => self.out_of_range(value, range),
            error if error.is_instance_of::<PyTypeError>(value.py()) => self.mistyped(wanted, value),
            error => error,
        }
    }
}

/// A value in words. An integer of thousands of digits has none in Python.
pub(crate) fn shown(value: &Bound<'_, PyAny>) -> String {
    value.str().map_or_else(|_| "a number of very many digits".to_owned(), |words| words.to_string())
}

/// The items of a list, a tuple, an array and the like; `None` for text, bytes, mappings, sets and what has no items.
pub(crate) fn items<'py>(value: &Bound<'py, PyAny>) -> Option<Bound<'py, PyIterator>> {
    let bytes = value.is_instance_of::<PyBytes>() || value.is_instance_of::<PyByteArray>();
    let has = |name| value.hasattr(name).unwrap_or(false);
    if bytes || value.is_instance_of::<PyString>() || has("keys") || !has("__getitem__") {
        return None;
    }
    value.try_iter().ok()
}

/// A type of settings, taken from Python.
pub(crate) trait Setting: Sized {
    /// Converts. A wrong type is a `TypeError`, a value that does not fit an `InvalidConfigError`.
    fn take(value: &Bound<'_, PyAny>, field: Field) -> PyResult<Self>;
}

macro_rules! integer_settings {
    ($($type:ty: $range:literal),*) => {
        $(impl Setting for $type {
            fn take(value: &Bound<'_, PyAny>, field: Field) -> PyResult<Self> {
                if value.is_instance_of::<PyBool>() {
                    return Err(field.mistyped("an int", value));
                }
                value.extract().map_err(|error| field.explain(error, value, "an int", $range))
            }
        })*
    };
}

integer_settings!(
    u32: "0 to 4294967295",
    i32: "-2147483648 to 2147483647",
    u64: "0 to 18446744073709551615"
);

impl Setting for f32 {
    fn take(value: &Bound<'_, PyAny>, field: Field) -> PyResult<Self> {
        if value.is_instance_of::<PyBool>() {
            return Err(field.mistyped("a number", value));
        }
        let wide: f64 = value.extract().map_err(|error| field.explain(error, value, "a number", "a finite number"))?;
        #[expect(clippy::cast_possible_truncation, reason = "llama.cpp computes with single precision")]
        let narrow = wide as f32;
        if wide.is_finite() && narrow.is_infinite() {
            return Err(field.out_of_range(value, "a finite number"));
        }
        Ok(narrow)
    }
}

impl Setting for bool {
    fn take(value: &Bound<'_, PyAny>, field: Field) -> PyResult<Self> {
        value.extract().map_err(|_| field.mistyped("a bool", value))
    }
}

impl Setting for String {
    fn take(value: &Bound<'_, PyAny>, field: Field) -> PyResult<Self> {
        let string = value.cast::<PyString>().map_err(|_| field.mistyped("a str", value))?;
        string.to_str().map(str::to_owned).map_err(|_| {
            let value = value.repr().map_or_else(|_| "a str".to_owned(), |words| words.to_string_lossy().into_owned());
            let range = "text without lone surrogates".to_owned();
            to_py(string.py(), &MullamaError::InvalidConfig { field: field.name, value, range })
        })
    }
}

impl<T: Setting> Setting for Option<T> {
    fn take(value: &Bound<'_, PyAny>, field: Field) -> PyResult<Self> {
        if value.is_none() { Ok(None) } else { T::take(value, field).map(Some) }
    }
}

impl Setting for Vec<String> {
    fn take(value: &Bound<'_, PyAny>, field: Field) -> PyResult<Self> {
        let items = items(value).ok_or_else(|| field.mistyped("a sequence of str", value))?;
        items.map(|item| String::take(&item?, field)).collect()
    }
}

impl Setting for Vec<TokenId> {
    fn take(value: &Bound<'_, PyAny>, field: Field) -> PyResult<Self> {
        let items = items(value).ok_or_else(|| field.mistyped("a sequence of token ids", value))?;
        items.map(|item| TokenId::take(&item?, field)).collect()
    }
}

impl Setting for Vec<(TokenId, f32)> {
    fn take(value: &Bound<'_, PyAny>, field: Field) -> PyResult<Self> {
        let dict = value.cast::<PyDict>().map_err(|_| field.mistyped("a dict of token id and number", value))?;
        dict.iter().map(|(token, bias)| Ok((TokenId::take(&token, field)?, f32::take(&bias, field)?))).collect()
    }
}

/// The words of llama.cpp's choices.
trait Choice: Copy + PartialEq + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

impl Choice for FlashAttn {
    const WORDS: &'static [(&'static str, Self)] = &[("auto", Self::Auto), ("on", Self::On), ("off", Self::Off)];
}

impl Choice for KvType {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("f32", Self::F32),
        ("f16", Self::F16),
        ("bf16", Self::Bf16),
        ("q8_0", Self::Q8_0),
        ("q5_1", Self::Q5_1),
        ("q5_0", Self::Q5_0),
        ("q4_1", Self::Q4_1),
        ("q4_0", Self::Q4_0),
        ("iq4_nl", Self::Iq4Nl),
    ];
}

impl<T: Choice> Setting for T {
    fn take(value: &Bound<'_, PyAny>, field: Field) -> PyResult<Self> {
        let word = String::take(value, field)?;
        let known = T::WORDS.iter().find(|(known, _)| *known == word);
        known.map(|(_, choice)| *choice).ok_or_else(|| {
            let words: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
            field.out_of_range(value, &format!("one of {}", words.join(", ")))
        })
    }
}
