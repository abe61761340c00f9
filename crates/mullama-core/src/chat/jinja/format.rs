//! Python's `str.format`.

use std::rc::Rc;

use super::arguments::Given;
use super::dict::Dict;
use super::error::{Error, Result};
use super::meter::{Meter, Writer};
use super::spec::Spec;
use super::value::Value;
use super::{operators, print};
use crate::chat::normalize::shown;

/// What fields refer to.
enum Fields<'g> {
    Given(&'g Given),
    Mapping(&'g Dict),
}

/// A pattern that is read, and how many fields without a number it had.
struct Formatter<'g> {
    fields: Fields<'g>,
    automatic: usize,
    meter: Rc<Meter>,
}

/// `pattern.format(…)`.
pub(super) fn format(pattern: &str, given: &Given, meter: &Rc<Meter>) -> Result<Value> {
    run(pattern, Fields::Given(given), meter)
}

/// `pattern.format_map(mapping)`.
pub(super) fn format_map(pattern: &str, mapping: &Value, meter: &Rc<Meter>) -> Result<Value> {
    match mapping {
        Value::Dict(dict) => run(pattern, Fields::Mapping(dict), meter),
        other => Err(Error::failed(format!("format_map() takes a dict, not {}", other.kind()))),
    }
}

fn run(pattern: &str, fields: Fields<'_>, meter: &Rc<Meter>) -> Result<Value> {
    meter.text_work(pattern.len())?;
    let mut writer = Writer::new(meter);
    Formatter { fields, automatic: 0, meter: Rc::clone(meter) }.write(pattern, 0, &mut writer)?;
    Ok(writer.into())
}

impl Formatter<'_> {
    /// Writes a pattern. A format of a field may itself have fields, one level deep.
    fn write(&mut self, pattern: &str, level: usize, writer: &mut Writer) -> Result<()> {
        let mut rest = pattern;
        while let Some(at) = rest.find(['{', '}']) {
            writer.push_str(&rest[..at])?;
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                writer.push_str(brace)?;
                rest = after;
                continue;
            }
            if brace == "}" {
                return Err(Error::failed("a single \"}\" in a format"));
            }
            let Some(end) = field_end(rest) else { return Err(Error::failed("a single \"{\" in a format")) };
            self.field(&rest[..end], level, writer)?;
            rest = &rest[end + 1..];
        }
        writer.push_str(rest)
    }

    fn field(&mut self, field: &str, level: usize, writer: &mut Writer) -> Result<()> {
        let (name, spec) = field.split_once(':').unwrap_or((field, ""));
        let (name, conversion) = match name.rsplit_once('!') {
            Some((name, conversion)) => (name, Some(conversion)),
            None => (name, None),
        };
        let mut value = self.value(name)?;
        if let Some(conversion) = conversion {
            let mut text = Writer::new(&self.meter);
            match conversion {
                "s" => print::write(&value, &mut text)?,
                "r" | "a" => print::write_repr(&value, &mut text)?,
                _ => return Err(Error::failed(format!("unknown conversion {} in a format", shown(conversion)))),
            }
            value = text.into();
        }
        let mut written = Writer::new(&self.meter);
        if spec.contains('{') {
            if level > 0 {
                return Err(Error::failed("fields in a format are nested too deeply"));
            }
            self.write(spec, level + 1, &mut written)?;
        } else {
            written.push_str(spec)?;
        }
        if written.as_str().is_empty() {
            return print::write(&value, writer);
        }
        if matches!(value, Value::Seq(_) | Value::Dict(_) | Value::None) {
            return Err(Error::failed(format!("a format does not apply to a value of type {}", value.kind())));
        }
        Spec::parse(written.as_str())?.write(&value, writer)
    }

    fn value(&mut self, name: &str) -> Result<Value> {
        let end = name.find(['.', '[']).unwrap_or(name.len());
        let (first, mut rest) = name.split_at(end);
        let unknown = || Error::failed(format!("the format names {}, which was not given", shown(first)));
        let mut value = match self.fields {
            Fields::Mapping(dict) => dict.get_text(first)?.cloned().ok_or_else(unknown)?,
            Fields::Given(given) if first.is_empty() || first.bytes().all(|it| it.is_ascii_digit()) => {
                let at = first.parse().unwrap_or(self.automatic);
                if self.automatic > 0 && !first.is_empty() {
                    return Err(Error::failed("a format has fields with and without numbers"));
                }
                self.automatic += usize::from(first.is_empty());
                given.positional.get(at).cloned().ok_or_else(unknown)?
            }
            Fields::Given(given) => {
                self.meter.text_work(first.len().saturating_mul(given.named.len()))?;
                self.meter.work(given.named.len())?;
                given.named.iter().find(|(name, _)| **name == *first).map(|(_, it)| it.clone()).ok_or_else(unknown)?
            }
        };
        while let Some(after) = rest.strip_prefix('[') {
            let Some((key, after)) = after.split_once(']') else {
                return Err(Error::failed("expected \"]\" in a format"));
            };
            let key = match key.parse() {
                Ok(number) => Value::Int(number),
                Err(_) => Value::text(&self.meter, key)?,
            };
            value = operators::item(&value, &key, &self.meter)?.ok_or_else(unknown)?;
            rest = after;
        }
        if rest.is_empty() { Ok(value) } else { Err(Error::failed("attributes in a format are not supported")) }
    }
}

/// Where a field ends: at the brace that closes it.
fn field_end(rest: &str) -> Option<usize> {
    let mut open = 0_usize;
    for (at, byte) in rest.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' if open == 0 => return Some(at),
            b'}' => open -= 1,
            _ => {}
        }
    }
    None
}
