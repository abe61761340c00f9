//! Values of JavaScript as the core's settings take them. The package writes them as JSON, and what JSON has no notation
//! for as an object with the one field `$`: its kind, and the value as text.

use mullama::{DynamicValue, MullamaError, Numeral};
use serde_json::Value as Json;

use crate::error::{Failure, failure, wrong_type};

/// How many characters of a wrong value an error message shows.
const SHOWN_CHARS: usize = 200;

/// A value whose type is not known yet.
#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    Json(&'a Json),
    /// The key of an object.
    Key(&'a str),
}

/// A value that JSON has no notation for.
struct Special<'a> {
    /// "number", "text", "list" or the name of another type.
    kind: &'a str,
    shown: &'a str,
}

impl<'a> Value<'a> {
    fn special(self) -> Option<Special<'a>> {
        let Self::Json(Json::Object(fields)) = self else { return None };
        let parts = fields.get("$").filter(|_| fields.len() == 1)?.as_array()?;
        Some(Special { kind: parts.first()?.as_str()?, shown: parts.get(1)?.as_str()? })
    }

    fn kind(self) -> String {
        if let Some(special) = self.special() {
            return special.kind.replace("text", "string").replace("list", "array");
        }
        let name = match self {
            Self::Json(Json::Null) => "null",
            Self::Json(Json::Bool(_)) => "boolean",
            Self::Json(Json::Number(_)) => "number",
            Self::Json(Json::String(_)) | Self::Key(_) => "string",
            Self::Json(Json::Array(_)) => "array",
            Self::Json(Json::Object(_)) => "object",
        };
        name.to_owned()
    }
}

impl DynamicValue for Value<'_> {
    type Error = Failure;

    fn is_none(&self) -> bool {
        matches!(self, Self::Json(Json::Null))
    }

    fn to_bool(&self) -> Option<bool> {
        if let Self::Json(json) = self { json.as_bool() } else { None }
    }

    /// A number that is not whole is a number out of range: JavaScript has one type for both.
    fn to_integer(&self) -> Result<Numeral<i128>, Failure> {
        Ok(match self {
            Self::Json(Json::Number(number)) => {
                let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
                whole.map_or(Numeral::TooLarge, Numeral::Value)
            }
            _ => match self.special().filter(|special| special.kind == "number") {
                Some(special) => special.shown.parse().map_or(Numeral::TooLarge, Numeral::Value),
                None => Numeral::NotANumber,
            },
        })
    }

    fn to_float(&self) -> Result<Numeral<f64>, Failure> {
        Ok(match self {
            Self::Json(Json::Number(number)) => number.as_f64().map_or(Numeral::TooLarge, Numeral::Value),
            _ => match self.special().filter(|special| special.kind == "number") {
                Some(special) => special.shown.parse().map_or(Numeral::TooLarge, Numeral::Value),
                None => Numeral::NotANumber,
            },
        })
    }

    fn to_text(&self) -> Option<Option<String>> {
        match self {
            Self::Key(key) => Some(Some((*key).to_owned())),
            Self::Json(Json::String(text)) => Some(Some(text.clone())),
            Self::Json(_) => self.special().filter(|special| special.kind == "text").map(|_| None),
        }
    }

    fn count(&self) -> Result<Option<usize>, Failure> {
        if let Some(special) = self.special().filter(|special| special.kind == "list") {
            return Ok(special.shown.parse().ok());
        }
        Ok(match self {
            Self::Json(Json::Array(items)) => Some(items.len()),
            Self::Json(Json::Object(fields)) => Some(fields.len()),
            _ => None,
        })
    }

    fn items(&self) -> Result<Option<impl Iterator<Item = Result<Self, Failure>>>, Failure> {
        let is_long = self.special().is_some_and(|special| special.kind == "list");
        let items = match self {
            Self::Json(Json::Array(items)) => Some(items.as_slice()),
            _ => is_long.then_some([].as_slice()),
        };
        Ok(items.map(|items| items.iter().map(|item| Ok(Value::Json(item)))))
    }

    fn pairs(&self) -> Option<Result<Vec<(Self, Self)>, Failure>> {
        let Self::Json(Json::Object(fields)) = self else { return None };
        let pairs = || fields.iter().map(|(key, value)| (Value::Key(key), Value::Json(value))).collect();
        self.special().is_none().then(|| Ok(pairs()))
    }

    fn shown(&self) -> Result<String, Failure> {
        let text = match (self, self.special()) {
            (_, Some(special)) => special.shown.to_owned(),
            (Self::Key(key), _) => (*key).to_owned(),
            (Self::Json(Json::String(text)), _) => text.clone(),
            (Self::Json(json), _) => json.to_string(),
        };
        let end = text.char_indices().nth(SHOWN_CHARS).map(|(end, _)| end);
        Ok(end.map_or_else(|| text.clone(), |end| format!("{}…", &text[..end])))
    }

    /// `TypeError`: `topK must be an integer, not string`.
    fn mistyped(&self, name: &str, wanted: &str) -> Failure {
        wrong_type(&format!("{} must be {}, not {}", camel_case(name), in_javascript(wanted), self.kind()))
    }

    fn raised(&self, error: MullamaError) -> Failure {
        failure(error)
    }
}

/// A type in JavaScript's words.
fn in_javascript(wanted: &str) -> String {
    match wanted {
        "a str" => "a string".to_owned(),
        "a bool" => "a boolean".to_owned(),
        "a list or a tuple" => "an array".to_owned(),
        "a mapping" => "an object".to_owned(),
        "an int" => "a whole number".to_owned(),
        other => other.replace("an int token id", "a token id"),
    }
}

/// A name of the core in JavaScript's spelling. Words without an underscore stay as they are.
pub(crate) fn camel_case(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut letters = name.chars().peekable();
    let mut last = ' ';
    while let Some(letter) = letters.next() {
        let joins = letter == '_' && last.is_ascii_alphanumeric();
        last = match letters.next_if(|next| joins && next.is_ascii_lowercase()) {
            Some(next) => next.to_ascii_uppercase(),
            None => letter,
        };
        camel.push(last);
    }
    camel
}
