//! Parses JSON into a value. What is wrong with the text is reported with the path of the value where it is.
//!
//! An object that has a field twice is refused: parsers disagree about which of the two counts.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use super::value::{Step, kind, path_of};
use crate::error::ApiError;

/// The steps to the value that is being parsed. Those to the wrong value stay after an error.
type Steps = RefCell<Vec<Step<String>>>;

/// Parses a JSON object. `what` is the name of the text in errors, such as "the body".
pub(crate) fn parse(what: &str, bytes: &[u8]) -> Result<Value, ApiError> {
    if let Err(error) = std::str::from_utf8(bytes) {
        // The parser finds the path, unless the bytes are outside of the object.
        return Err(parsed(what, bytes).err().unwrap_or_else(|| {
            ApiError::invalid(format!("{what} is not valid UTF-8 from byte {}", error.valid_up_to()))
        }));
    }
    let value = parsed(what, bytes)?;
    if value.is_object() {
        return Ok(value);
    }
    Err(ApiError::invalid(format!("{what} must be a JSON object, not {}", kind(&value))))
}

fn parsed(what: &str, bytes: &[u8]) -> Result<Value, ApiError> {
    let steps = Steps::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = Parse(&steps).deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    parsed.map_err(|error| {
        let path = path_of(steps.borrow().iter());
        if error.is_data() {
            return ApiError::field(path, format_args!("is given twice: {error}"));
        }
        if path.is_empty() {
            return ApiError::invalid(format!("{what} is not valid JSON: {error}"));
        }
        ApiError::field(path, format_args!("is not valid JSON: {error}"))
    })
}

/// Parses one value.
#[derive(Clone, Copy)]
struct Parse<'s>(&'s Steps);

impl Parse<'_> {
    fn enter(self, step: Step<String>) {
        self.0.borrow_mut().push(step);
    }

    fn leave(self) -> Option<Step<String>> {
        self.0.borrow_mut().pop()
    }
}

impl<'de> DeserializeSeed<'de> for Parse<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Parse<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(flag.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            self.enter(Step::Item(items.len()));
            let Some(item) = list.next_element_seed(self)? else { break };
            self.leave();
            items.push(item);
        }
        self.leave();
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = object.next_key::<String>()? {
            self.enter(Step::Field(name));
            let value = object.next_value_seed(self)?;
            let Some(Step::Field(name)) = self.leave() else { continue };
            match fields.entry(name) {
                Entry::Vacant(entry) => drop(entry.insert(value)),
                Entry::Occupied(entry) => {
                    self.enter(Step::Field(entry.key().clone()));
                    return Err(A::Error::custom("an object may have a field only once"));
                }
            }
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::parse;
    use crate::json::arbitrary::value;

    fn field(json: &[u8]) -> Option<String> {
        parse("the body", json).expect_err("it is not valid").field
    }

    #[test]
    fn what_is_wrong_is_reported_with_its_path() {
        for (json, path) in [
            (&br#"{"a": [1, {"b": 1e999}]}"#[..], Some("a[1].b")),
            (br#"{"a": {"b": "\ud800"}}"#, Some("a.b")),
            (b"{\"a\": [\"x\", \"\xff\"]}", Some("a[1]")),
            (br#"{"a": nul}"#, Some("a")),
            (br#"{"a": 1, "b": {"c": 1, "d": 2, "c": 1}}"#, Some("b.c")),
            (br#"{"a": 1, "a": 1}"#, Some("a")),
            (br#"{"a": 1, "\u0061": 1}"#, Some("a")),
            (br#"{"a": [1, 2"#, Some("a[2]")),
            (b"{\"\xff\": 1}", None),
            (b"{} \xff", None),
            (b"[1]", None),
            (b"", None),
        ] {
            assert_eq!(field(json).as_deref(), path, "{}", String::from_utf8_lossy(json));
        }
        let deep = format!("{{\"a\": {}", "[".repeat(1000));
        assert!(field(deep.as_bytes()).is_some_and(|path| path.starts_with("a[0][0]")));
        let long = format!("{{\"{}\": nul}}", "x".repeat(10_000));
        assert_eq!(field(long.as_bytes()).map(|path| path.len()), Some(64));
    }

    proptest! {
        #[test]
        fn a_value_is_the_same_as_serde_json_parses(value in value()) {
            let text = json!({"value": value}).to_string();
            prop_assert_eq!(parse("the body", text.as_bytes()).ok(), serde_json::from_str(&text).ok());
        }

        #[test]
        fn no_bytes_are_parsed_that_serde_json_refuses(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(value) = parse("the body", &bytes) {
                prop_assert_eq!(serde_json::from_slice::<Value>(&bytes).ok(), Some(value));
            }
        }
    }
}
