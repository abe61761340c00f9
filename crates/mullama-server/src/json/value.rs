//! A JSON value at a path of the request.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::Arc;

use mullama::{DynamicValue, MullamaError, Numeral};
use serde_json::{Map, Value};

use crate::error::ApiError;

/// Most characters of a value that an error repeats.
const SHOWN_CHARS: usize = 80;
/// Most characters of a name that an error repeats.
const NAME_CHARS: usize = 64;

/// A value and where it is in the request, such as `messages[2].content`. The path is written only for an error.
#[derive(Debug, Clone)]
pub(crate) struct Json<'a> {
    value: &'a Value,
    place: Place<'a>,
}

/// A step from a value to one inside it, and the steps to that value. The items of a list share those steps.
#[derive(Debug, Clone)]
struct Place<'a> {
    parent: Option<Arc<Place<'a>>>,
    step: Step<&'a str>,
}

/// A step of a path, whose fields have names of type `T`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step<T> {
    Field(T),
    Item(usize),
}

/// The path of these steps.
pub(super) fn path_of<'s, T: AsRef<str> + 's>(steps: impl IntoIterator<Item = &'s Step<T>>) -> String {
    steps.into_iter().fold(String::new(), |path, step| match step {
        Step::Field(name) => joined(path, name.as_ref()),
        Step::Item(index) => format!("{path}[{index}]"),
    })
}

impl<'a> Json<'a> {
    /// A value of this name; a whole body has none.
    pub(crate) fn new(value: &'a Value, name: &'a str) -> Self {
        Self { value, place: Place { parent: None, step: Step::Field(name) } }
    }

    pub(crate) fn value(&self) -> &'a Value {
        self.value
    }

    /// Where it is; empty for a whole body.
    pub(crate) fn path(&self) -> String {
        let (mut steps, mut place) = (Vec::new(), Some(&self.place));
        while let Some(Place { parent, step }) = place {
            steps.push(*step);
            place = parent.as_deref();
        }
        path_of(steps.iter().rev())
    }

    /// The error of this value; the message continues its path.
    pub(crate) fn error(&self, message: impl Display) -> ApiError {
        ApiError::field(self.path(), message)
    }

    /// The error of a wrong type.
    pub(crate) fn must_be(&self, wanted: &str) -> ApiError {
        if self.value.is_number() && wanted.starts_with("an integer") {
            return self.error(format_args!("is {}, but must be {wanted}", self.value));
        }
        self.error(format_args!("must be {wanted}, not {}", kind(self.value)))
    }

    /// A value inside this one.
    fn inside(&self, value: &'a Value, step: Step<&'a str>) -> Self {
        Self { value, place: Place { parent: self.shared_place(), step } }
    }

    fn shared_place(&self) -> Option<Arc<Place<'a>>> {
        let is_body = matches!(self.place, Place { parent: None, step: Step::Field("") });
        (!is_body).then(|| Arc::new(self.place.clone()))
    }

    /// A field of an object; `None` if it is missing or null.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Self>, ApiError> {
        let found = self.object()?.get_key_value(name).filter(|(_, value)| !value.is_null());
        Ok(found.map(|(name, value)| self.inside(value, Step::Field(name))))
    }

    /// A field of an object that must be there.
    pub(crate) fn require(&self, name: &str) -> Result<Self, ApiError> {
        self.get(name)?.ok_or_else(|| ApiError::field(self.child(name), "is required"))
    }

    /// A field of an object that must be there, even if it is null.
    pub(crate) fn present(&self, name: &str) -> Result<Self, ApiError> {
        let found = self.object()?.get_key_value(name);
        let found = found.ok_or_else(|| ApiError::field(self.child(name), "is required"))?;
        Ok(self.inside(found.1, Step::Field(found.0)))
    }

    /// The path of a field of this object.
    pub(crate) fn child(&self, name: &str) -> String {
        joined(self.path(), name)
    }

    pub(crate) fn object(&self) -> Result<&'a Map<String, Value>, ApiError> {
        self.value.as_object().ok_or_else(|| self.must_be("an object"))
    }

    pub(crate) fn list(&self) -> Result<impl ExactSizeIterator<Item = Self> + use<'a>, ApiError> {
        let items = self.value.as_array().ok_or_else(|| self.must_be("a list"))?;
        let parent = self.shared_place();
        let item =
            move |(index, value)| Self { value, place: Place { parent: parent.clone(), step: Step::Item(index) } };
        Ok(items.iter().enumerate().map(item))
    }

    /// A list of at most so many items, which are called `what`.
    pub(crate) fn list_of(
        &self,
        most: usize,
        what: &str,
    ) -> Result<impl ExactSizeIterator<Item = Self> + use<'a>, ApiError> {
        let items = self.list()?;
        if items.len() > most {
            return Err(self.error(format_args!("has {} {what}, but must have at most {most}", items.len())));
        }
        Ok(items)
    }

    pub(crate) fn text(&self) -> Result<&'a str, ApiError> {
        self.value.as_str().ok_or_else(|| self.must_be("a string"))
    }

    pub(crate) fn flag(&self) -> Result<bool, ApiError> {
        self.value.as_bool().ok_or_else(|| self.must_be("true or false"))
    }

    /// A field that is true or false.
    pub(crate) fn flag_or(&self, name: &str, default: bool) -> Result<bool, ApiError> {
        self.get(name)?.map_or(Ok(default), |value| value.flag())
    }

    /// A field that is a text.
    pub(crate) fn text_of(&self, name: &str) -> Result<Option<&'a str>, ApiError> {
        self.get(name)?.map(|value| value.text()).transpose()
    }

    /// An integer of this range.
    pub(crate) fn integer<T>(&self, range: RangeInclusive<T>) -> Result<T, ApiError>
    where
        T: TryFrom<i128> + PartialOrd + Display,
    {
        let number = match self.to_integer()? {
            Numeral::NotANumber => return Err(self.must_be("an integer")),
            Numeral::Value(number) => T::try_from(number).ok().filter(|number| range.contains(number)),
            Numeral::TooLarge => None,
        };
        let (least, most) = (range.start(), range.end());
        number.ok_or_else(|| self.error(format_args!("is {}, but must be {least} to {most}", self.value)))
    }

    /// A field under the one of these names that the request has. Two names of one thing may not contradict each other.
    pub(crate) fn one_of(&self, names: &[&str]) -> Result<Option<Self>, ApiError> {
        let mut found: Option<(Self, &str)> = None;
        for name in names {
            match (&found, self.get(name)?) {
                (None, Some(value)) => found = Some((value, name)),
                (Some((first, known)), Some(value)) if !is_same(first.value, value.value) => {
                    return Err(value.error(format_args!("and {known} differ, but mean the same: give one of them")));
                }
                _ => {}
            }
        }
        Ok(found.map(|(value, _)| value))
    }
}

/// Whether two values are the same; 1 and 1.0 are.
pub(super) fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

/// The path of a field of the object at a path.
fn joined(path: String, name: &str) -> String {
    let name = shortened(name);
    if path.is_empty() { name } else { path + "." + &name }
}

/// A name of a field as an error repeats it.
pub(crate) fn shortened(name: &str) -> String {
    name.chars().take(NAME_CHARS).collect()
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
        Ok(Some(self.list()?.map(Ok)))
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
