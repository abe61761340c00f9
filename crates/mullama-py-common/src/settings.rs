//! Python values as the core's settings take them.

use mullama::{ContextParams, DynamicValue, MullamaError, Numeral, StreamConfig};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyMapping, PyString};

use crate::to_py;

/// How many characters of a wrong value an error message shows.
const SHOWN_CHARS: usize = 200;

/// A Python object whose type is not known yet.
#[derive(Debug, FromPyObject)]
pub struct Value<'py>(pub Bound<'py, PyAny>);

impl<'py> Value<'py> {
    /// A number that is not a bool.
    ///
    /// # Errors
    ///
    /// What the object's own code raises.
    pub fn number<T: for<'a> FromPyObject<'a, 'py, Error = PyErr>>(&self) -> PyResult<Numeral<T>> {
        if self.0.is_instance_of::<PyBool>() {
            return Ok(Numeral::NotANumber);
        }
        self.0.extract().map(Numeral::Value).or_else(|error: PyErr| match error {
            error if error.traceback(self.0.py()).is_some() => Err(error),
            error if error.is_instance_of::<PyOverflowError>(self.0.py()) => Ok(Numeral::TooLarge),
            error if error.is_instance_of::<PyTypeError>(self.0.py()) => Ok(Numeral::NotANumber),
            error => Err(error),
        })
    }

    /// The result; `None` if the type has no such operation. Only an error of the value's own code has a traceback.
    fn supported<T>(&self, result: PyResult<T>) -> PyResult<Option<T>> {
        match result {
            Err(error) if error.traceback(self.0.py()).is_none() => Ok(None),
            other => other.map(Some),
        }
    }
}

impl DynamicValue for Value<'_> {
    type Error = PyErr;

    fn is_none(&self) -> bool {
        self.0.is_none()
    }

    fn to_bool(&self) -> Option<bool> {
        self.0.extract().ok()
    }

    fn to_integer(&self) -> PyResult<Numeral<i128>> {
        Ok(match self.number::<i64>()? {
            Numeral::TooLarge => self.number::<u64>()?.map(i128::from),
            fits => fits.map(i128::from),
        })
    }

    fn to_float(&self) -> PyResult<Numeral<f64>> {
        self.number()
    }

    fn to_text(&self) -> Option<Option<String>> {
        self.0.cast::<PyString>().ok().map(|string| string.to_str().map(str::to_owned).ok())
    }

    fn count(&self) -> PyResult<Option<usize>> {
        self.supported(self.0.len())
    }

    /// A list, a tuple, an array and the like, but not text, bytes, mappings, sets and what has no items.
    fn items(&self) -> PyResult<Option<impl Iterator<Item = PyResult<Self>>>> {
        let has = |name| self.0.hasattr(name);
        let bytes = self.0.is_instance_of::<PyBytes>() || self.0.is_instance_of::<PyByteArray>();
        if bytes || self.0.is_instance_of::<PyString>() || has("keys")? || !has("__getitem__")? {
            return Ok(None);
        }
        Ok(self.supported(self.0.try_iter())?.map(|items| items.map(|item| item.map(Self))))
    }

    fn pairs(&self) -> Option<PyResult<Vec<(Self, Self)>>> {
        self.0.cast::<PyMapping>().ok().map(|mapping| mapping.items()?.extract())
    }

    /// An integer of thousands of digits and a lone surrogate have no text.
    fn shown(&self) -> PyResult<String> {
        let text = self.supported(self.0.str())?;
        let text = text.as_ref().map_or("a number of very many digits".into(), |text| text.to_string_lossy());
        let end = text.char_indices().nth(SHOWN_CHARS).map(|(end, _)| end);
        Ok(end.map_or_else(|| text.to_string(), |end| format!("{}…", &text[..end])))
    }

    /// `TypeError`: `top_k must be an int, not str`.
    fn mistyped(&self, name: &str, wanted: &str) -> PyErr {
        let kind = self.0.get_type().name();
        kind.map_or_else(|error| error, |kind| PyTypeError::new_err(format!("{name} must be {wanted}, not {kind}")))
    }

    fn raised(&self, error: MullamaError) -> PyErr {
        to_py(self.0.py(), &error)
    }
}

/// Reads Python's `StreamConfig`.
///
/// # Errors
///
/// `TypeError` or `InvalidConfigError` for the first field that is wrong.
pub fn stream_config(python: &Bound<'_, PyAny>) -> PyResult<StreamConfig> {
    StreamConfig::read(|name| python.getattr(name).map(Value))
}

/// Reads Python's `ContextParams`.
///
/// # Errors
///
/// `TypeError` or `InvalidConfigError` for the first field that is wrong.
pub fn context_params(python: &Bound<'_, PyAny>) -> PyResult<ContextParams> {
    ContextParams::read(|name| python.getattr(name).map(Value))
}
