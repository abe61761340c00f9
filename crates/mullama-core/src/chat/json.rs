//! The filter `tojson` as Hugging Face has it: `json.dumps(value, ensure_ascii=False, …)` of Python.

use std::fmt::Write;

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

use super::guard::may_be_mark;

/// Levels of a value that is written. Writing recurses, and a template can nest without end.
const MOST_LEVELS: usize = 256;

/// Bytes of a value that is written.
const MOST_BYTES: usize = 64 << 20;

/// Spaces that a level is indented by.
const MOST_INDENT: usize = 100;

/// How Python writes JSON.
#[derive(Debug)]
struct Style {
    ensure_ascii: bool,
    /// What one level is indented by; `None` is one line.
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

/// Writes a value as JSON. Keywords: `ensure_ascii`, `indent`, `separators`, `sort_keys`.
///
/// # Errors
/// What is no JSON, such as an undefined value.
#[expect(clippy::needless_pass_by_value, reason = "the signature of a filter")]
pub(super) fn tojson(
    state: &State,
    value: &Value,
    ensure_ascii: Option<bool>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let indent: Option<Value> = kwargs.get("indent")?;
    let indent = match indent {
        Some(indent) if indent.kind() == ValueKind::String => Some(indent.to_string()),
        Some(indent) => Some(" ".repeat(usize::try_from(indent)?.min(MOST_INDENT + 1))),
        None => None,
    };
    if indent.as_ref().is_some_and(|indent| indent.len() > MOST_INDENT) {
        return Err(refused(format!("an indent is longer than {MOST_INDENT} bytes")));
    }
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    let [item_separator, key_separator] = match separators.as_deref() {
        Some([item, key]) => [item.clone(), key.clone()],
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "separators are two strings")),
        None => [if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()],
    };
    let named: Option<bool> = kwargs.get("ensure_ascii")?;
    let sort_keys: Option<bool> = kwargs.get("sort_keys")?;
    kwargs.assert_all_used()?;
    let style = Style {
        ensure_ascii: named.or(ensure_ascii).unwrap_or(false),
        indent,
        item_separator,
        key_separator,
        sort_keys: sort_keys.unwrap_or(false),
    };
    let mut json = String::new();
    style.write(value, 0, &mut json)?;
    // As much as minijinja's own filter asks for a byte.
    state.consume_fuel(json.len() as u64 / 4)?;
    Ok(json)
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::BadSerialization, message)
}

/// The key of an object as Python writes it.
fn key_text(key: &Value) -> String {
    match key.kind() {
        ValueKind::None => "null".to_owned(),
        ValueKind::Bool => key.is_true().to_string(),
        _ => key.to_string(),
    }
}

impl Style {
    fn write(&self, value: &Value, depth: usize, json: &mut String) -> Result<(), Error> {
        if depth > MOST_LEVELS || json.len() > MOST_BYTES {
            return Err(refused(format!("the value has more than {MOST_LEVELS} levels or {MOST_BYTES} bytes")));
        }
        match value.kind() {
            ValueKind::None => json.push_str("null"),
            ValueKind::Bool => json.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => json.push_str(&value.to_string()),
            ValueKind::Number => json.push_str(&float(f64::try_from(value.clone())?)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), json),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.map(|item| (None, item)).collect();
                self.items(['[', ']'], items, depth, json)?;
            }
            ValueKind::Map => {
                let mut items = Vec::new();
                for key in value.try_iter()? {
                    let item = value.get_item(&key)?;
                    items.push((Some(key_text(&key)), item));
                }
                if self.sort_keys {
                    items.sort_by(|(one, _), (other, _)| one.cmp(other));
                }
                self.items(['{', '}'], items, depth, json)?;
            }
            kind => return Err(refused(format!("{kind} is no JSON"))),
        }
        Ok(())
    }

    fn items(
        &self,
        [open, close]: [char; 2],
        items: Vec<(Option<String>, Value)>,
        depth: usize,
        json: &mut String,
    ) -> Result<(), Error> {
        json.push(open);
        let some = !items.is_empty();
        for (at, (key, item)) in items.into_iter().enumerate() {
            if at > 0 {
                json.push_str(&self.item_separator);
            }
            self.new_line(depth + 1, json);
            if let Some(key) = key {
                self.string(&key, json);
                json.push_str(&self.key_separator);
            }
            self.write(&item, depth + 1, json)?;
        }
        if some {
            self.new_line(depth, json);
        }
        json.push(close);
        Ok(())
    }

    fn new_line(&self, depth: usize, json: &mut String) {
        if let Some(indent) = &self.indent {
            json.push('\n');
            json.push_str(&indent.repeat(depth));
        }
    }

    fn string(&self, text: &str, json: &mut String) {
        json.push('"');
        for character in text.chars() {
            match character {
                '"' => json.push_str("\\\""),
                '\\' => json.push_str("\\\\"),
                '\n' => json.push_str("\\n"),
                '\r' => json.push_str("\\r"),
                '\t' => json.push_str("\\t"),
                '\u{8}' => json.push_str("\\b"),
                '\u{c}' => json.push_str("\\f"),
                character if character < ' ' || (self.ensure_ascii && character > '~' && !may_be_mark(character)) => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        let _ = write!(json, "\\u{unit:04x}");
                    }
                }
                character => json.push(character),
            }
        }
        json.push('"');
    }
}

/// A float as Python's `repr` writes it: exponents have a sign and two digits.
pub(super) fn float(number: f64) -> String {
    if !number.is_finite() {
        let sign = if number < 0.0 { "-" } else { "" };
        return if number.is_nan() { "NaN".to_owned() } else { format!("{sign}Infinity") };
    }
    let shortest = format!("{number:?}");
    match shortest.split_once('e') {
        None => shortest,
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minijinja::value::Serde;
    use minijinja::{Environment, context};

    fn rendered(expression: &str) -> String {
        let mut environment = Environment::new();
        environment.add_filter("tojson", tojson);
        let value = Value::from(Serde(serde_json::json!({"b": [1, 2.0, 1e20, 1e-7], "a": {"é\"\n": null, "t": true}})));
        environment.render_str(&format!("{{{{ v|{expression} }}}}"), context! { v => value }).unwrap()
    }

    // What Python 3.11 writes for the same calls.
    #[test]
    fn json_is_written_as_python_writes_it() {
        assert_eq!(rendered("tojson"), r#"{"b": [1, 2.0, 1e+20, 1e-07], "a": {"é\"\n": null, "t": true}}"#);
        assert_eq!(
            rendered("tojson(ensure_ascii=true, sort_keys=true, separators=(',', ':'))"),
            r#"{"a":{"t":true,"\u00e9\"\n":null},"b":[1,2.0,1e+20,1e-07]}"#
        );
        let indented = "{\n  \"b\": [\n    1,\n    2.0,\n    1e+20,\n    1e-07\n  ],\n  \"a\": {\n    \"é\\\"\\n\": null,\n    \"t\": true\n  }\n}";
        assert_eq!(rendered("tojson(indent=2)"), indented);
    }
}
