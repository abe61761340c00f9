//! Arithmetic, joining, repeating, indexing and slicing, as in Python.

use std::rc::Rc;

use super::ast::Operator;
use super::dict::Key;
use super::error::{Error, Result};
use super::meter::{Meter, Writer};
use super::value::{SeqBuilder, SeqKind, Value};
use super::{percent, print};

/// The result of an operator.
pub(super) fn apply(operator: Operator, one: &Value, other: &Value, meter: &Rc<Meter>) -> Result<Value> {
    meter.work(1)?;
    match (operator, one, other) {
        (Operator::Add, Value::Text(one), Value::Text(other)) => {
            let mut writer = Writer::new(meter);
            writer.push_str(one.as_str())?;
            writer.push_str(other.as_str())?;
            Ok(writer.into())
        }
        (Operator::Add, Value::Seq(one), Value::Seq(other))
            if one.kind == other.kind && matches!(one.kind, SeqKind::List | SeqKind::Tuple) =>
        {
            let mut joined = SeqBuilder::new(meter)?;
            joined.extend(one.as_slice())?;
            joined.extend(other.as_slice())?;
            joined.finish(one.kind)
        }
        (Operator::Multiply, Value::Text(_) | Value::Seq(_), times)
        | (Operator::Multiply, times, Value::Text(_) | Value::Seq(_))
            if times.as_int().is_some() =>
        {
            let value = if matches!(one, Value::Text(_) | Value::Seq(_)) { one } else { other };
            let times = usize::try_from(times.as_int().unwrap_or(0).max(0)).unwrap_or(usize::MAX);
            repeat(value, times, meter)
        }
        (Operator::Modulo, Value::Text(pattern), values) => percent::format(pattern.as_str(), values, meter),
        (_, Value::Undefined(missing), _) | (_, _, Value::Undefined(missing)) => Err(missing.error()),
        _ => arithmetic(operator, one, other),
    }
}

fn repeat(value: &Value, times: usize, meter: &Rc<Meter>) -> Result<Value> {
    match value {
        Value::Seq(seq) => {
            let mut repeated = SeqBuilder::new(meter)?;
            if !seq.as_slice().is_empty() {
                for _ in 0..times {
                    repeated.extend(seq.as_slice())?;
                }
            }
            repeated.finish(if seq.kind == SeqKind::Tuple { SeqKind::Tuple } else { SeqKind::List })
        }
        value => {
            let mut writer = Writer::new(meter);
            writer.repeat(value.as_str().unwrap_or_default(), times)?;
            Ok(writer.into())
        }
    }
}

fn sign(operator: Operator) -> &'static str {
    match operator {
        Operator::Add => "+",
        Operator::Subtract => "-",
        Operator::Multiply => "*",
        Operator::Divide => "/",
        Operator::FloorDivide => "//",
        Operator::Modulo => "%",
        Operator::Power => "**",
    }
}

fn arithmetic(operator: Operator, one: &Value, other: &Value) -> Result<Value> {
    let too_large = || Error::failed(format!("the result of {:?} does not fit 128 bits", sign(operator)));
    if let (Some(a), Some(b)) = (one.as_int(), other.as_int())
        && operator != Operator::Divide
        && !(operator == Operator::Power && b < 0)
    {
        if matches!(operator, Operator::FloorDivide | Operator::Modulo) && b == 0 {
            return Err(Error::failed("division by zero"));
        }
        let result = match operator {
            Operator::Add => a.checked_add(b),
            Operator::Subtract => a.checked_sub(b),
            Operator::Multiply => a.checked_mul(b),
            Operator::Power => power(a, b),
            Operator::FloorDivide => {
                a.checked_div_euclid(b).map(|q| if b < 0 && a.rem_euclid(b) != 0 { q - 1 } else { q })
            }
            _ => a.checked_rem_euclid(b).map(|r| if b < 0 && r != 0 { r + b } else { r }),
        };
        return result.map(Value::Int).ok_or_else(too_large);
    }
    let (Some(a), Some(b)) = (one.as_float(), other.as_float()) else {
        let (sign, one, other) = (sign(operator), one.kind(), other.kind());
        return Err(Error::failed(format!("{sign:?} does not take {one} and {other}")));
    };
    if b == 0.0 && matches!(operator, Operator::Divide | Operator::FloorDivide | Operator::Modulo)
        || operator == Operator::Power && a == 0.0 && b < 0.0
    {
        return Err(Error::failed("division by zero"));
    }
    Ok(Value::Float(match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
        Operator::FloorDivide => (a / b).floor(),
        Operator::Modulo => a - b * (a / b).floor(),
        Operator::Power => a.powf(b),
    }))
}

fn power(base: i128, exponent: i128) -> Option<i128> {
    match base {
        0 | 1 => Some(if exponent == 0 { 1 } else { base }),
        -1 => Some(if exponent % 2 == 0 { 1 } else { -1 }),
        _ => base.checked_pow(u32::try_from(exponent).ok()?),
    }
}

/// `-value` or `+value`.
pub(super) fn signed(value: &Value, negative: bool) -> Result<Value> {
    match value {
        Value::Float(number) => Ok(Value::Float(if negative { -number } else { *number })),
        Value::Undefined(missing) => Err(missing.error()),
        value => match value.as_int() {
            Some(number) => Ok(Value::Int(if negative { number.saturating_neg() } else { number })),
            None => Err(Error::failed(format!("a value of type {} has no sign", value.kind()))),
        },
    }
}

/// Joins values as texts: Jinja's `~`.
pub(super) fn concat(values: &[Value], meter: &Rc<Meter>) -> Result<Value> {
    let mut writer = Writer::new(meter);
    values.iter().try_for_each(|value| print::write(value, &mut writer))?;
    Ok(writer.into())
}

/// An item by its index or key, where there is one.
pub(super) fn item(value: &Value, key: &Value, meter: &Rc<Meter>) -> Result<Option<Value>> {
    meter.work(1)?;
    match (value, key) {
        (Value::Undefined(missing), _) => Err(missing.error()),
        (Value::Dict(dict), key) => match key {
            Value::Undefined(_) | Value::Seq(_) | Value::Dict(_) if !matches!(key, Value::Seq(seq) if seq.kind == SeqKind::Tuple) => {
                Ok(None)
            }
            key => Ok(dict.get(&Key::of(key, meter)?).cloned()),
        },
        (Value::Seq(seq), key) if !matches!(seq.kind, SeqKind::Generator | SeqKind::View(_)) => {
            let items = seq.as_slice();
            let at = key.as_int().and_then(|at| position(at, items.len()));
            Ok(at.map(|at| items[at].clone()))
        }
        (Value::Text(text), key) => {
            let text = text.as_str();
            let Some(at) = key.as_int() else { return Ok(None) };
            meter.text_work(text.len())?;
            let found = if text.is_ascii() {
                position(at, text.len()).map(|at| &text[at..=at])
            } else {
                meter.work(text.len())?;
                let at = position(at, text.chars().count());
                at.and_then(|at| text.char_indices().nth(at)).map(|(at, it)| &text[at..at + it.len_utf8()])
            };
            found.map(|found| Value::text(meter, found)).transpose()
        }
        _ => Ok(None),
    }
}

/// Where an index points, counted from the end if it is negative.
pub(super) fn position(at: i128, len: usize) -> Option<usize> {
    let at = if at < 0 { at.checked_add(i128::try_from(len).ok()?)? } else { at };
    usize::try_from(at).ok().filter(|&at| at < len)
}

/// The bounds of a slice with a step of 1.
pub(super) fn bounds(start: Option<i128>, stop: Option<i128>, len: usize) -> (usize, usize) {
    let clamp = |at: i128| {
        let len_wide = i128::try_from(len).unwrap_or(i128::MAX);
        let at = if at < 0 { at.saturating_add(len_wide).max(0) } else { at };
        usize::try_from(at).unwrap_or(usize::MAX).min(len)
    };
    let from = start.map_or(0, clamp);
    (from, stop.map_or(len, clamp).max(from))
}

/// The indexes of a slice with any step.
fn indexes(parts: [Option<i128>; 3], len: usize) -> Vec<usize> {
    let len = i128::try_from(len).unwrap_or(i128::MAX);
    let step = parts[2].unwrap_or(1);
    let (low, high) = if step < 0 { (-1, len - 1) } else { (0, len) };
    let clamp = |at: i128| (if at < 0 { at.saturating_add(len) } else { at }).clamp(low, high);
    let mut at = parts[0].map_or(if step < 0 { high } else { low }, clamp);
    let end = parts[1].map_or(if step < 0 { low } else { high }, clamp);
    let mut found = Vec::new();
    while if step < 0 { at > end } else { at < end } {
        found.extend(usize::try_from(at));
        at = at.saturating_add(step);
    }
    found
}

/// A slice of a text or a sequence.
pub(super) fn slice(value: &Value, parts: [Option<i128>; 3], meter: &Rc<Meter>) -> Result<Value> {
    meter.work(1)?;
    if parts[2] == Some(0) {
        return Err(Error::failed("the step of a slice cannot be 0"));
    }
    let contiguous = parts[2].unwrap_or(1) == 1;
    match value {
        Value::Undefined(missing) => Err(missing.error()),
        Value::Seq(seq) if !matches!(seq.kind, SeqKind::Generator | SeqKind::View(_)) => {
            let kind = if seq.kind == SeqKind::Tuple { SeqKind::Tuple } else { SeqKind::List };
            if contiguous {
                let (from, to) = bounds(parts[0], parts[1], seq.as_slice().len());
                return Ok(Value::Seq(seq.part(from, to).of_kind(kind)));
            }
            let _indexes = meter.hold(seq.as_slice().len() * size_of::<usize>())?;
            meter.work(seq.as_slice().len())?;
            let mut sliced = SeqBuilder::new(meter)?;
            sliced.extend(indexes(parts, seq.as_slice().len()).into_iter().map(|at| &seq.as_slice()[at]))?;
            sliced.finish(kind)
        }
        Value::Text(text) => slice_text(text.as_str(), parts, meter),
        other => Err(Error::failed(format!("a value of type {} cannot be sliced", other.kind()))),
    }
}

fn slice_text(text: &str, parts: [Option<i128>; 3], meter: &Rc<Meter>) -> Result<Value> {
    meter.text_work(text.len())?;
    if parts[2].unwrap_or(1) == 1 && text.is_ascii() {
        let (from, to) = bounds(parts[0], parts[1], text.len());
        return Value::text(meter, &text[from..to]);
    }
    // Four bytes for a character, and eight for its index.
    meter.work(text.len())?;
    let _characters = meter.hold(text.len().saturating_mul(12))?;
    let characters: Vec<char> = text.chars().collect();
    let mut writer = Writer::new(meter);
    for at in indexes(parts, characters.len()) {
        writer.push(characters[at])?;
    }
    Ok(writer.into())
}
