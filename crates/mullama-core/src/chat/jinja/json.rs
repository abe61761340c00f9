//! The filter `tojson` as Hugging Face has it: `json.dumps(value, ensure_ascii=False, …)` of Python.

use std::rc::Rc;

use super::arguments::{Given, flag, text};
use super::error::{Error, Result};
use super::meter::{Meter, Writer};
use super::print;
use super::value::{SeqKind, Value};
use crate::chat::guard::may_be_mark;

/// How Python writes JSON.
#[derive(Debug)]
struct Style<'v> {
    ensure_ascii: bool,
    /// What one level is indented by: a text and how many times. `None` is one line.
    indent: Option<(&'v str, usize)>,
    item_separator: &'v str,
    key_separator: &'v str,
    sort_keys: bool,
}

/// Writes a value as JSON. Keywords: `ensure_ascii`, `indent`, `separators`, `sort_keys`.
pub(super) fn tojson(value: &Value, given: Given, meter: &Rc<Meter>) -> Result<Value> {
    let [ensure_ascii, indent, separators, sort_keys] =
        given.bind(["ensure_ascii", "indent", "separators", "sort_keys"])?;
    let indent = match &indent {
        None | Some(Value::None) => None,
        Some(Value::Text(text)) => Some((text.as_str(), 1)),
        Some(value) => Some((" ", super::arguments::count(Some(value), "indent", 0)?)),
    };
    let (item_separator, key_separator) = match &separators {
        None | Some(Value::None) => (if indent.is_some() { "," } else { ", " }, ": "),
        Some(Value::Seq(seq)) if seq.as_slice().len() == 2 => {
            let part = |at: usize| text(seq.as_slice().get(at), "separators").map(Option::unwrap_or_default);
            (part(0)?, part(1)?)
        }
        Some(_) => return Err(Error::failed("the argument \"separators\" must be two texts")),
    };
    let style = Style {
        ensure_ascii: flag(ensure_ascii.as_ref()),
        indent,
        item_separator,
        key_separator,
        sort_keys: flag(sort_keys.as_ref()),
    };
    let mut writer = Writer::new(meter);
    style.write(value, 0, &mut writer)?;
    Ok(writer.into())
}

impl Style<'_> {
    /// Recurses as deep as containers can be nested.
    fn write(&self, value: &Value, depth: usize, writer: &mut Writer) -> Result<()> {
        writer.meter().work(1)?;
        match value {
            Value::None => writer.push_str("null"),
            Value::Bool(yes) => writer.push_str(if *yes { "true" } else { "false" }),
            Value::Int(number) => writer.push_str(&number.to_string()),
            Value::Float(number) => writer.push_str(&float(*number)),
            Value::Text(text) => self.string(text.as_str(), writer),
            Value::Seq(seq) if matches!(seq.kind, SeqKind::List | SeqKind::Tuple | SeqKind::Generator) => {
                writer.push('[')?;
                for (at, item) in seq.as_slice().iter().enumerate() {
                    self.before_item(at, depth, writer)?;
                    self.write(item, depth + 1, writer)?;
                }
                self.end(!seq.as_slice().is_empty(), depth, writer)?;
                writer.push(']')
            }
            Value::Dict(dict) => {
                let pairs = dict.pairs();
                let mut order: Vec<usize> = Vec::new();
                let _order = writer.meter().hold(pairs.len().saturating_mul(size_of::<usize>()))?;
                order.extend(0..pairs.len());
                if self.sort_keys {
                    writer.meter().work(pairs.len().saturating_mul(16))?;
                    for (key, _) in pairs {
                        writer.meter().text_work(key.as_str().map_or(0, str::len).saturating_mul(16))?;
                    }
                    order.sort_by(|&one, &other| pairs[one].0.as_str().cmp(&pairs[other].0.as_str()));
                }
                writer.push('{')?;
                for (at, index) in order.into_iter().enumerate() {
                    let (key, value) = &pairs[index];
                    self.before_item(at, depth, writer)?;
                    self.key(key, writer)?;
                    writer.push_str(self.key_separator)?;
                    self.write(value, depth + 1, writer)?;
                }
                self.end(!pairs.is_empty(), depth, writer)?;
                writer.push('}')
            }
            Value::Undefined(missing) => Err(missing.error()),
            other => Err(Error::failed(format!("a value of type {} is not JSON", other.kind()))),
        }
    }

    /// The key of an object: texts, and what Python makes a text of.
    fn key(&self, key: &Value, writer: &mut Writer) -> Result<()> {
        match key {
            Value::None => self.string("null", writer),
            Value::Bool(yes) => self.string(if *yes { "true" } else { "false" }, writer),
            Value::Int(number) => self.string(&number.to_string(), writer),
            Value::Float(number) => self.string(&float(*number), writer),
            Value::Text(text) => self.string(text.as_str(), writer),
            other => Err(Error::failed(format!("a value of type {} is not a key of JSON", other.kind()))),
        }
    }

    fn before_item(&self, at: usize, depth: usize, writer: &mut Writer) -> Result<()> {
        if at > 0 {
            writer.push_str(self.item_separator)?;
        }
        self.new_line(depth + 1, writer)
    }

    fn end(&self, some: bool, depth: usize, writer: &mut Writer) -> Result<()> {
        if some { self.new_line(depth, writer) } else { Ok(()) }
    }

    fn new_line(&self, depth: usize, writer: &mut Writer) -> Result<()> {
        let Some((indent, times)) = self.indent else { return Ok(()) };
        writer.push('\n')?;
        writer.repeat(indent, times.saturating_mul(depth))
    }

    fn string(&self, text: &str, writer: &mut Writer) -> Result<()> {
        writer.push('"')?;
        for character in text.chars() {
            match character {
                '"' => writer.push_str("\\\"")?,
                '\\' => writer.push_str("\\\\")?,
                '\n' => writer.push_str("\\n")?,
                '\r' => writer.push_str("\\r")?,
                '\t' => writer.push_str("\\t")?,
                '\u{8}' => writer.push_str("\\b")?,
                '\u{c}' => writer.push_str("\\f")?,
                character if character < ' ' || (self.ensure_ascii && character > '~' && !may_be_mark(character)) => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        writer.push_str(&format!("\\u{unit:04x}"))?;
                    }
                }
                character => writer.push(character)?,
            }
        }
        writer.push('"')
    }
}

/// A float as Python's JSON has it: other names for what is not a finite number.
fn float(number: f64) -> String {
    match number {
        _ if number.is_finite() => print::float(number),
        _ if number.is_nan() => "NaN".to_owned(),
        _ if number < 0.0 => "-Infinity".to_owned(),
        _ => "Infinity".to_owned(),
    }
}
