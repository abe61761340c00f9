//! Python values as settings: one rule a type, and every refusal names its field.

use mullama::{FlashAttn, KvType, MullamaError, TokenId};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyIterator, PyMapping, PyString};

use crate::error::to_py;

/// How many characters of a wrong value an error message shows.
const SHOWN_CHARS: usize = 200;

/// Most items of a list of settings that are converted; the fields' own limits are lower.
const MAX_ITEMS: usize = 1 << 20;

/// The field that a value is for.
#[derive(Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    /// The values it allows, in words, where the core's table narrows its type's.
    pub(crate) range: Option<&'static str>,
}

impl Field {
    /// `InvalidConfigError`, for a value that the Rust type cannot hold.
    fn out_of_range(self, value: &Bound<'_, PyAny>, range: &str) -> PyErr {
        let range = self.range.unwrap_or(range).to_owned();
        to_py(value.py(), &MullamaError::InvalidConfig { field: self.name, value: shown(value), range })
    }

    /// A number that is not a bool.
    fn number<'py, T>(self, value: &Bound<'py, PyAny>, wanted: &str, range: &str) -> PyResult<T>
    where
        T: for<'a> FromPyObject<'a, 'py, Error = PyErr>,
    {
        if value.is_instance_of::<PyBool>() {
            return Err(mistyped(self.name, wanted, value));
        }
        value.extract().map_err(|error: PyErr| match error {
            error if error.is_instance_of::<PyOverflowError>(value.py()) => self.out_of_range(value, range),
            error if error.is_instance_of::<PyTypeError>(value.py()) => mistyped(self.name, wanted, value),
            error => error,
        })
    }
}

/// `TypeError`: `top_k must be an int, not str`.
pub(crate) fn mistyped(name: &str, wanted: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let kind = value.get_type().name();
    kind.map_or_else(|error| error, |kind| PyTypeError::new_err(format!("{name} must be {wanted}, not {kind}")))
}

/// A value as text, cut where it is long. An integer of thousands of digits and a lone surrogate have no text.
pub(crate) fn shown(value: &Bound<'_, PyAny>) -> String {
    let Ok(text) = value.str() else { return "a number of very many digits".to_owned() };
    let text = text.to_string_lossy();
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
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
                field.number(value, "an int", $range)
            }
        })*
    };
}

// The core's table has the range of every field of numbers; what is left of `i32` are lists of token ids.
integer_settings! {
    u32: "0 to 4294967295", i32: "token ids of the model's vocabulary", u64: "0 to 18446744073709551615"
}

/// What a field of numbers takes if the core's table does not narrow it.
const SINGLE_PRECISION: &str = "a number from -3.4e38 to 3.4e38";

impl Setting for f32 {
    fn take(value: &Bound<'_, PyAny>, field: Field) -> PyResult<Self> {
        let wide: f64 = field.number(value, "a number", SINGLE_PRECISION)?;
        #[expect(clippy::cast_possible_truncation, reason = "llama.cpp computes with single precision")]
        let narrow = wide as Self;
        if wide.is_finite() && narrow.is_infinite() {
            return Err(field.out_of_range(value, SINGLE_PRECISION));
        }
        Ok(narrow)
    }
}

impl Setting for bool {
    fn take(value: &Bound<'_, PyAny>, field: Field) -> PyResult<Self> {
        value.extract().map_err(|_| mistyped(field.name, "a bool", value))
    }
}

impl Setting for String {
    fn take(value: &Bound<'_, PyAny>, field: Field) -> PyResult<Self> {
        let string = value.cast::<PyString>().map_err(|_| mistyped(field.name, "a str", value))?;
        let text = string.to_str().map(str::to_owned);
        text.map_err(|_| field.out_of_range(value, "text without lone surrogates"))
    }
}

impl<T: Setting> Setting for Option<T> {
    fn take(value: &Bound<'_, PyAny>, field: Field) -> PyResult<Self> {
        if value.is_none() { Ok(None) } else { T::take(value, field).map(Some) }
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn take(value: &Bound<'_, PyAny>, field: Field) -> PyResult<Self> {
        let items = items(value).ok_or_else(|| mistyped(field.name, "a list or a tuple", value))?;
        let too_many = |count: usize| {
            let (value, range) = (format!("a list of {count} items"), format!("at most {MAX_ITEMS} items"));
            to_py(items.py(), &MullamaError::InvalidConfig { field: field.name, value, range })
        };
        // The length first: converting what is refused anyway would hold the interpreter.
        if let Some(count) = value.len().ok().filter(|&count| count > MAX_ITEMS) {
            return Err(too_many(count));
        }
        let mut taken = Self::new();
        for item in &items {
            if taken.len() == MAX_ITEMS {
                return Err(too_many(MAX_ITEMS + 1));
            }
            taken.push(T::take(&item?, field)?);
        }
        Ok(taken)
    }
}

/// The biases that the core accepts.
const BIASES: &str = "numbers up to 1000000000, or negative infinity";

impl Setting for Vec<(TokenId, f32)> {
    fn take(value: &Bound<'_, PyAny>, field: Field) -> PyResult<Self> {
        let biases = value.cast::<PyMapping>().map_err(|_| mistyped(field.name, "a mapping", value))?;
        let count = biases.len()?;
        if count > MAX_ITEMS {
            let (value, range) = (format!("a mapping of {count} items"), format!("at most {MAX_ITEMS} items"));
            return Err(to_py(biases.py(), &MullamaError::InvalidConfig { field: field.name, value, range }));
        }
        let biases: Vec<(Bound<'_, PyAny>, Bound<'_, PyAny>)> = biases.items()?.extract()?;
        let value = Field { range: Some(BIASES), ..field };
        biases.iter().map(|(token, bias)| Ok((Setting::take(token, field)?, Setting::take(bias, value)?))).collect()
    }
}

impl Setting for FlashAttn {
    fn take(value: &Bound<'_, PyAny>, field: Field) -> PyResult<Self> {
        choose(value, field, &Self::NAMED)
    }
}

impl Setting for KvType {
    fn take(value: &Bound<'_, PyAny>, field: Field) -> PyResult<Self> {
        choose(value, field, &Self::NAMED)
    }
}

/// The choice that a word of llama.cpp's names.
fn choose<T: Copy>(value: &Bound<'_, PyAny>, field: Field, choices: &[(&str, T)]) -> PyResult<T> {
    let word = String::take(value, field)?;
    let choice = choices.iter().find(|(known, _)| *known == word).map(|(_, choice)| *choice);
    choice.ok_or_else(|| {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        field.out_of_range(value, &format!("one of {}", words.join(", ")))
    })
}
