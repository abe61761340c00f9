//! Values, filters, tests and methods as templates know them from Python, where minijinja has them otherwise or not at all.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use minijinja::value::{Kwargs, Rest, StringInput, Value, ValueKind, ValueOrKwargs, from_args};
use minijinja::{Environment, Error, ErrorKind, State, filters};
use minijinja_contrib::pycompat;

use super::guard::may_be_mark;
use super::json;

/// Lists in lists that a template may write. Writing recurses, and templates can nest without end.
const MOST_LEVELS: usize = 256;

/// What writing a value inside a list costs, and a quarter more for each of its bytes.
const WRITING: u64 = 16;

/// Bytes that one filter or method may make.
const MOST_BYTES: usize = 64 << 20;

/// Most digits of a width in a format.
const WIDEST: usize = 4;

/// What ends a line for Python's `str.splitlines`, beside `\r\n`.
const LINE_ENDS: [char; 10] =
    ['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];

/// Teaches an environment what Python does.
pub(super) fn install(environment: &mut Environment<'_>) {
    environment.set_formatter(|out, state, value| write_text(out, state, value));
    environment.set_unknown_method_callback(method);
    environment.add_filter("string", string);
    environment.add_filter("trim", trim);
    environment.add_filter("indent", indent);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    // Whatever has a length and items: in Python also strings and dicts.
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String | ValueKind::Undefined)
    });
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
}

/// Writes a value as Python's `str` does.
fn write_text<W: Write>(out: &mut W, state: &State, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => {
            pay(state, value, 0)?;
            write!(Printable(out), "{value}")?;
        }
        ValueKind::Number if !value.is_integer() => {
            let number = f64::try_from(value.clone())?;
            // JSON has other names for what is no finite number.
            let text = if number.is_finite() { json::float(number) } else { number.to_string().to_lowercase() };
            out.write_str(&text)?;
        }
        _ => write!(out, "{value}")?,
    }
    Ok(())
}

/// Pays for writing a value. Lists that hold one another many times over cost more than anybody has.
fn pay(state: &State, value: &Value, level: usize) -> Result<(), Error> {
    if level > MOST_LEVELS {
        let message = format!("more than {MOST_LEVELS} lists in one another cannot be written");
        return Err(Error::new(ErrorKind::InvalidOperation, message));
    }
    state.consume_fuel(WRITING + value.as_str().map_or(0, str::len) as u64 / 4)?;
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => value.try_iter()?.try_for_each(|item| pay(state, &item, level + 1)),
        ValueKind::Map => value.try_iter()?.try_for_each(|key| pay(state, &value.get_item(&key)?, level + 1)),
        _ => Ok(()),
    }
}

/// Passes the text of a list or a dict on, and escapes in it what Python does not print. Such characters stand only inside
/// the quotes of strings.
struct Printable<'a, W>(&'a mut W);

impl<W: Write> Write for Printable<'_, W> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if text.is_ascii() {
            return self.0.write_str(text);
        }
        for character in text.chars() {
            // Rust and Python draw the line at the same Unicode categories; behind a letter Rust lets marks stand.
            let printed = character.is_ascii()
                || may_be_mark(character)
                || format!("a{character}").escape_debug().nth(1) == Some(character);
            match u32::from(character) {
                _ if printed => self.0.write_char(character)?,
                code @ ..=0xff => write!(self.0, "\\x{code:02x}")?,
                code @ ..=0xffff => write!(self.0, "\\u{code:04x}")?,
                code => write!(self.0, "\\U{code:08x}")?,
            }
        }
        Ok(())
    }
}

/// Python's `str`.
fn string(state: &State, value: &Value) -> Result<Value, Error> {
    if value.kind() == ValueKind::String {
        return Ok(value.clone());
    }
    let mut text = String::new();
    write_text(&mut text, state, value)?;
    Ok(Value::from(text))
}

/// Jinja2's filter: a list becomes Python's `str` of it first.
fn trim(state: &State, value: &Value, chars: Option<Cow<'_, str>>) -> Result<Value, Error> {
    let text = string(state, value)?;
    Ok(filters::trim(StringInput::new(state, &text)?, chars))
}

/// Jinja2's filter. Unlike minijinja's, it takes the keyword `boolean`.
fn default(value: &Value, arguments: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let arguments = arguments.into_values();
    let (arguments, keywords): (&[Value], Kwargs) = from_args(&arguments)?;
    let other = match arguments.first() {
        Some(other) => other.clone(),
        None if keywords.has("default_value") => keywords.get("default_value")?,
        None => Value::from(""),
    };
    let boolean = match arguments.get(1) {
        Some(boolean) => boolean.is_true(),
        None => keywords.get::<Option<bool>>("boolean")?.unwrap_or(false),
    };
    keywords.assert_all_used()?;
    Ok(if value.is_undefined() || (boolean && !value.is_true()) { other } else { value.clone() })
}

/// Jinja2's filter: what is no number is 0.
fn int(
    state: &State,
    value: &Value,
    default: Option<Value>,
    base: Option<u32>,
    keywords: Kwargs,
) -> Result<Value, Error> {
    let default = default.or_else(|| (!keywords.has("default")).then(|| Value::from(0)));
    filters::int(state, value, default, base, keywords)
}

/// Jinja2's filter: what is no number is 0.0.
fn float(state: &State, value: &Value, default: Option<Value>, keywords: Kwargs) -> Result<Value, Error> {
    let default = default.or_else(|| (!keywords.has("default")).then(|| Value::from(0.0)));
    filters::float(state, value, default, keywords)
}

/// Jinja2's filter: a width may be a string, Python's line ends count, and a last one stays.
#[expect(clippy::needless_pass_by_value, reason = "the signature of a filter")]
fn indent(
    text: &str,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    keywords: Kwargs,
) -> Result<String, Error> {
    let width = width.map_or_else(|| keywords.get::<Option<Value>>("width"), |width| Ok(Some(width)))?;
    let first = first.map_or_else(|| keywords.get::<Option<bool>>("first"), |first| Ok(Some(first)))?.unwrap_or(false);
    let blank = blank.map_or_else(|| keywords.get::<Option<bool>>("blank"), |blank| Ok(Some(blank)))?.unwrap_or(false);
    keywords.assert_all_used()?;
    let width = width.unwrap_or_else(|| Value::from(4));
    let (margin, times) = match width.as_str() {
        Some(margin) => (margin, 1),
        None => (" ", usize::try_from(width.clone())?),
    };
    let text = format!("{text}\n");
    let lines = lines(&text);
    bounded(margin.len().saturating_mul(times).saturating_mul(lines.len()))?;
    let margin = margin.repeat(times);
    let mut indented = String::new();
    for (at, line) in lines.into_iter().enumerate() {
        if at > 0 {
            indented.push('\n');
        }
        let moved = if at == 0 { first } else { blank || !line.is_empty() };
        if moved {
            indented.push_str(&margin);
        }
        indented.push_str(line);
    }
    Ok(indented)
}

/// Lines of a text as Python's `str.splitlines` finds them.
fn lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (line, end) = rest.split_at(rest.find(LINE_ENDS).unwrap_or(rest.len()));
        let ended = if end.starts_with("\r\n") { 2 } else { end.chars().next().map_or(0, char::len_utf8) };
        lines.push(line);
        rest = &end[ended..];
    }
    lines
}

fn bounded(bytes: usize) -> Result<(), Error> {
    if bytes <= MOST_BYTES {
        return Ok(());
    }
    let message = format!("a text of {bytes} bytes is longer than {MOST_BYTES}");
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// Methods of Python's strings, lists and dicts: what `pycompat` lacks or has otherwise, then what it has.
fn method(state: &mut State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    match (value.as_str(), name) {
        (Some(text), "split" | "rsplit") => {
            let (separator, most, keywords): (Option<&str>, Option<i64>, Kwargs) = from_args(arguments)?;
            let separator = separator.map_or_else(|| keywords.get::<Option<&str>>("sep"), |it| Ok(Some(it)))?;
            let most = most.map_or_else(|| keywords.get::<Option<i64>>("maxsplit"), |it| Ok(Some(it)))?;
            keywords.assert_all_used()?;
            let limit = most.and_then(|most| usize::try_from(most).ok()).map(|most| most.saturating_add(1));
            match (separator, limit) {
                (Some(""), _) => Err(Error::new(ErrorKind::InvalidOperation, "empty separator")),
                (Some(separator), Some(limit)) if name == "rsplit" => {
                    let parts: Vec<Value> = text.rsplitn(limit, separator).map(Value::from).collect();
                    Ok(parts.into_iter().rev().collect())
                }
                (None, Some(_)) if name == "rsplit" => Err(Error::from(ErrorKind::UnknownMethod)),
                _ => filters::split(value, separator.map(Arc::from), most),
            }
        }
        (Some(text), "splitlines") if arguments.is_empty() => Ok(lines(text).into_iter().map(Value::from).collect()),
        (Some(text), "removeprefix" | "removesuffix") => {
            let (part,): (&str,) = from_args(arguments)?;
            let rest = if name == "removeprefix" { text.strip_prefix(part) } else { text.strip_suffix(part) };
            Ok(Value::from(rest.unwrap_or(text)))
        }
        (Some(text), "replace") => {
            let (old, new, _): (&str, &str, Option<i64>) = from_args(arguments)?;
            bounded(text.matches(old).count().saturating_mul(new.len()))?;
            pycompat::unknown_method_callback(state, value, name, arguments)
        }
        (Some(separator), "join") => {
            let items = arguments.first().and_then(Value::len).unwrap_or(0);
            bounded(separator.len().saturating_mul(items))?;
            pycompat::unknown_method_callback(state, value, name, arguments)
        }
        (Some(text), "format") if text.split(|it: char| !it.is_ascii_digit()).any(|number| number.len() > WIDEST) => {
            Err(Error::new(ErrorKind::InvalidOperation, "the format has a number that is too large"))
        }
        _ => pycompat::unknown_method_callback(state, value, name, arguments),
    }
}
