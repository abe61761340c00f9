//! Python's `%` formatting of texts.

use std::rc::Rc;

use super::error::{Error, Result};
use super::meter::{Meter, Writer};
use super::print;
use super::spec::{Spec, digits};
use super::value::{SeqKind, Value};
use crate::chat::normalize::shown;

/// Puts values into a pattern such as `"%s: %d"`.
pub(super) fn format(pattern: &str, values: &Value, meter: &Rc<Meter>) -> Result<Value> {
    meter.text_work(pattern.len())?;
    let single = std::slice::from_ref(values);
    let positional = match values {
        Value::Seq(seq) if seq.kind == SeqKind::Tuple => seq.as_slice(),
        _ => single,
    };
    let mut arguments = Values { positional, mapping: values, used: 0 };
    let mut writer = Writer::new(meter);
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        writer.push_str(&rest[..at])?;
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            writer.push('%')?;
            rest = after;
            continue;
        }
        rest = conversion(rest, &mut arguments, &mut writer)?;
    }
    writer.push_str(rest)?;
    let takes_all = matches!(values, Value::Dict(_)) || arguments.used == positional.len();
    if takes_all { Ok(writer.into()) } else { Err(Error::failed("not all values were used by the format")) }
}

struct Values<'v> {
    positional: &'v [Value],
    mapping: &'v Value,
    used: usize,
}

impl Values<'_> {
    fn next(&mut self) -> Result<Value> {
        let value = self.positional.get(self.used).cloned();
        self.used += 1;
        value.ok_or_else(|| Error::failed("the format has more values than were given"))
    }

    fn named(&self, name: &str) -> Result<Value> {
        let Value::Dict(dict) = self.mapping else { return Err(Error::failed("the format requires a mapping")) };
        let found = dict.get_text(name)?.cloned();
        found.ok_or_else(|| Error::failed(format!("the format names {}, which was not given", shown(name))))
    }

    /// A number that the pattern has, or takes from the values.
    fn number(&mut self, rest: &mut &str) -> Result<Option<i128>> {
        if let Some(after) = rest.strip_prefix('*') {
            *rest = after;
            let number = self.next()?.as_int();
            return number.map(Some).ok_or_else(|| Error::failed("\"*\" in a format wants an int"));
        }
        Ok(digits(rest).map(|number| number as i128))
    }
}

/// Writes one value, and returns the pattern behind its conversion.
fn conversion<'p>(mut rest: &'p str, arguments: &mut Values<'_>, writer: &mut Writer) -> Result<&'p str> {
    let mut named = None;
    if let Some(after) = rest.strip_prefix('(') {
        let Some((name, after)) = after.split_once(')') else { return Err(Error::failed("incomplete format key")) };
        (named, rest) = (Some(arguments.named(name)?), after);
    }
    let flags_end = rest.find(|flag| !"-+ #0".contains(flag)).unwrap_or(rest.len());
    let (flags, after) = rest.split_at(flags_end);
    rest = after;
    let mut spec = Spec { align: Some('>'), alternate: flags.contains('#'), ..Spec::default() };
    spec.sign = ['+', ' '].into_iter().find(|sign| flags.contains(*sign)).unwrap_or('-');
    let zeros = flags.contains('0');
    let width = arguments.number(&mut rest)?.unwrap_or(0);
    spec.width = usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX);
    if let Some(after) = rest.strip_prefix('.') {
        rest = after;
        let precision = arguments.number(&mut rest)?.unwrap_or(0);
        spec.precision = Some(usize::try_from(precision.max(0)).unwrap_or(usize::MAX));
    }
    rest = rest.trim_start_matches(['h', 'l', 'L']);
    let Some(kind) = rest.chars().next() else { return Err(Error::failed("incomplete format")) };
    let value = match named {
        Some(value) => value,
        None => arguments.next()?,
    };
    let is_number = "diuoxXeEfFgG".contains(kind);
    if zeros && is_number && width >= 0 {
        (spec.fill, spec.align) = ('0', Some('='));
    }
    if flags.contains('-') || width < 0 {
        (spec.fill, spec.align) = (' ', Some('<'));
    }
    spec.kind = Some(kind);
    write(&value, kind, spec, writer)?;
    Ok(&rest[kind.len_utf8()..])
}

#[expect(clippy::cast_possible_truncation, reason = "as Python's int does")]
fn write(value: &Value, kind: char, mut spec: Spec, writer: &mut Writer) -> Result<()> {
    match (kind, value) {
        ('s', _) => spec.write(&text(value, false, writer)?, writer),
        ('r' | 'a', _) => {
            spec.kind = Some('s');
            spec.write(&text(value, true, writer)?, writer)
        }
        ('c', Value::Text(one)) if one.as_str().chars().take(2).count() == 1 => {
            spec.kind = Some('s');
            spec.write(value, writer)
        }
        ('d' | 'i' | 'u', Value::Float(number)) if number.is_finite() => {
            spec.write(&Value::Int(*number as i128), writer)
        }
        ('d' | 'i' | 'u' | 'o' | 'x' | 'X' | 'c', Value::Int(_) | Value::Bool(_))
        | ('e' | 'E' | 'f' | 'F' | 'g' | 'G', Value::Int(_) | Value::Bool(_) | Value::Float(_)) => {
            spec.write(value, writer)
        }
        ('d' | 'i' | 'u' | 'o' | 'x' | 'X' | 'c' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G', other) => {
            Err(Error::failed(format!("%{kind} does not take a value of type {}", other.kind())))
        }
        _ => Err(Error::failed(format!("unsupported format character {kind:?}"))),
    }
}

fn text(value: &Value, repr: bool, writer: &Writer) -> Result<Value> {
    let mut text = Writer::new(writer.meter());
    if repr {
        print::write_repr(value, &mut text)?;
    } else {
        print::write(value, &mut text)?;
    }
    Ok(text.into())
}
