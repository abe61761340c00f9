//! A JSON value at a path of the request.

use mullama::{DynamicValue, MullamaError, Numeral};
use serde_json::{Map, Value};

use crate::error::ApiError;

/// Most characters of a value that an error repeats.
const SHOWN_CHARS: usize = 80;

/// A value and where it is in the request, such as `messages[2].content`.
#[derive(Debug, Clone)]
pub(crate) struct Json<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> Json<'a> {
    pub(crate) fn new(value: &'a Value, path: impl Into<String>) -> Self {
        Self { value, path: path.into() }
    }

    pub(crate) fn value(&self) -> &'a Value {
        self.value
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The error of this value; the message continues its path.
    pub(crate) fn error(&self, message: impl std::fmt::Display) -> ApiError {
        ApiError::field(self.path.clone(), message)
    }

    /// The error of a wrong type.
    pub(crate) fn must_be(&self, wanted: &str) -> ApiError {
        self.error(format_args!("must be {wanted}, not {}", kind(self.value)))
    }

    /// A field of an object; `None` if it is missing or null.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Json<'a>>, ApiError> {
        let found = self.object()?.get(name).filter(|value| !value.is_null());
        Ok(found.map(|value| Json::new(value, self.child(name))))
    }

    /// A field of an object that must be there.
    pub(crate) fn require(&self, name: &str) -> Result<Json<'a>, ApiError> {
        self.get(name)?.ok_or_else(|| ApiError::field(self.child(name), "is required"))
    }

    /// The path of a field of this object.
    pub(crate) fn child(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    pub(crate) fn object(&self) -> Result<&'a Map<String, Value>, ApiError> {
        self.value.as_object().ok_or_else(|| self.must_be("an object"))
    }

    pub(crate) fn list(&self) -> Result<Vec<Json<'a>>, ApiError> {
        let items = self.value.as_array().ok_or_else(|| self.must_be("a list"))?;
        let at = |(index, value)| Json::new(value, format!("{}[{index}]", self.path));
        Ok(items.iter().enumerate().map(at).collect())
    }

    pub(crate) fn text(&self) -> Result<&'a str, ApiError> {
        self.value.as_str().ok_or_else(|| self.must_be("a string"))
    }

    pub(crate) fn flag(&self) -> Result<bool, ApiError> {
        self.value.as_bool().ok_or_else(|| self.must_be("true or false"))
    }

    /// An integer from `least` to `most`.
    pub(crate) fn integer(&self, least: i64, most: i64) -> Result<i64, ApiError> {
        let number = match self.to_integer()? {
            Numeral::NotANumber => return Err(self.must_be("an integer")),
            Numeral::Value(number) => i64::try_from(number).ok().filter(|number| (least..=most).contains(number)),
            Numeral::TooLarge => None,
        };
        number.ok_or_else(|| self.error(format_args!("is {}, but must be {least} to {most}", self.value)))
    }
}

/// What a value is, in words.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The words of JSON for the types that settings name.
fn in_json(wanted: &str) -> &str {
    match wanted {
        "an int" => "an integer",
        "a bool" => "true or false",
        "a str" => "a string",
        "a list or a tuple" => "a list",
        "a mapping" => "an object",
        "an int token id" => "an integer token id",
        other => other,
    }
}

impl DynamicValue for Json<'_> {
    type Error = ApiError;

    fn is_none(&self) -> bool {
        self.value.is_null()
    }

    fn to_bool(&self) -> Option<bool> {
        self.value.as_bool()
    }

    fn to_integer(&self) -> Result<Numeral<i128>, ApiError> {
        let Value::Number(number) = self.value else { return Ok(Numeral::NotANumber) };
        let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
        Ok(match (whole, number.as_f64()) {
            (Some(whole), _) => Numeral::Value(whole),
            // Clients in languages with one type of numbers may write an integer as 5.0.
            (None, Some(number)) if number.fract() == 0.0 && number.abs() < 9e15 => {
                #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
                let whole = number as i128;
                Numeral::Value(whole)
            }
            (None, Some(number)) if number.fract() == 0.0 => Numeral::TooLarge,
            _ => Numeral::NotANumber,
        })
    }

    fn to_float(&self) -> Result<Numeral<f64>, ApiError> {
        Ok(self.value.as_f64().map_or(Numeral::NotANumber, Numeral::Value))
    }

    fn to_text(&self) -> Option<Option<String>> {
        self.value.as_str().map(|text| Some(text.to_owned()))
    }

    fn count(&self) -> Result<Option<usize>, ApiError> {
        Ok(match self.value {
            Value::Array(items) => Some(items.len()),
            Value::Object(fields) => Some(fields.len()),
            _ => None,
        })
    }

    fn items(&self) -> Result<Option<impl Iterator<Item = Result<Self, ApiError>>>, ApiError> {
        if !self.value.is_array() {
            return Ok(None);
        }
        Ok(Some(self.list()?.into_iter().map(Ok)))
    }

    fn pairs(&self) -> Option<Result<Vec<(Self, Self)>, ApiError>> {
        // A key of a JSON object is no value of its own, so biases are read by their dialect.
        None
    }

    fn shown(&self) -> Result<String, ApiError> {
        let text = self.value.to_string();
        let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        Ok(shown)
    }

    fn mistyped(&self, _name: &str, wanted: &str) -> ApiError {
        self.must_be(in_json(wanted))
    }

    fn raised(&self, error: MullamaError) -> ApiError {
        match error {
            MullamaError::InvalidConfig { value, range, .. } => {
                self.error(format_args!("is {value}, but must be {range}"))
            }
            error => error.into(),
        }
    }
}
