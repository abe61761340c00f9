//! Equality, order and membership of values, as in Python. Each visit of a part is paid for.

use std::cmp::Ordering;
use std::rc::Rc;

use super::ast::Comparison;
use super::dict::Key;
use super::error::{Error, Result};
use super::meter::Meter;
use super::value::{Seq, SeqKind, Value};

/// Whether a comparison holds.
pub(super) fn holds(comparison: Comparison, one: &Value, other: &Value, meter: &Rc<Meter>) -> Result<bool> {
    Ok(match comparison {
        Comparison::Equal => equal(one, other, meter)?,
        Comparison::NotEqual => !equal(one, other, meter)?,
        Comparison::Less => order(one, other, "<", meter)?.is_some_and(Ordering::is_lt),
        Comparison::LessOrEqual => order(one, other, "<=", meter)?.is_some_and(Ordering::is_le),
        Comparison::Greater => order(one, other, ">", meter)?.is_some_and(Ordering::is_gt),
        Comparison::GreaterOrEqual => order(one, other, ">=", meter)?.is_some_and(Ordering::is_ge),
        Comparison::In => contains(other, one, meter)?,
        Comparison::NotIn => !contains(other, one, meter)?,
    })
}

/// Python's `==`.
pub(super) fn equal(one: &Value, other: &Value, meter: &Rc<Meter>) -> Result<bool> {
    meter.work(1)?;
    Ok(match (one, other) {
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
        (Value::Text(one), Value::Text(other)) => {
            let (one, other) = (one.as_str(), other.as_str());
            meter.text_work(if one.len() == other.len() { one.len() } else { 0 })?;
            one == other
        }
        (Value::Seq(one), Value::Seq(other)) => {
            if one.kind == SeqKind::Generator
                || std::mem::discriminant(&one.kind) != std::mem::discriminant(&other.kind)
            {
                return Ok(one.same(other));
            }
            equal_items(one, other, meter)?
        }
        (Value::Dict(one), Value::Dict(other)) => {
            if one.same(other) {
                return Ok(true);
            }
            if one.pairs().len() != other.pairs().len() {
                return Ok(false);
            }
            for (key, value) in one.pairs() {
                let Some(found) = other.get(&Key::of(key, meter)?) else { return Ok(false) };
                if !equal(value, found, meter)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Function(one), Value::Function(other)) => one == other,
        (Value::Namespace(one), Value::Namespace(other)) | (Value::Loop(one), Value::Loop(other)) => one == other,
        (Value::Macro(one), Value::Macro(other)) => Rc::ptr_eq(&one.def, &other.def) && one.scope == other.scope,
        (Value::Cycler(one), Value::Cycler(other)) => Rc::ptr_eq(one, other),
        (Value::Joiner(one), Value::Joiner(other)) => Rc::ptr_eq(one, other),
        (one, other) => numbers(one, other) == Some(Some(Ordering::Equal)),
    })
}

fn equal_items(one: &Seq, other: &Seq, meter: &Rc<Meter>) -> Result<bool> {
    if one.same(other) {
        return Ok(true);
    }
    let (one, other) = (one.as_slice(), other.as_slice());
    if one.len() != other.len() {
        return Ok(false);
    }
    for (one, other) in one.iter().zip(other) {
        if !equal(one, other, meter)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The order of two numbers; `None` for other values, and inside it for what has no order.
#[expect(clippy::option_option, reason = "whether they are numbers, and whether these have an order")]
fn numbers(one: &Value, other: &Value) -> Option<Option<Ordering>> {
    match (one.as_int(), other.as_int()) {
        (Some(one), Some(other)) => Some(Some(one.cmp(&other))),
        _ => Some(one.as_float()?.partial_cmp(&other.as_float()?)),
    }
}

/// The order of two values; `sign` is for the error of those that have none.
pub(super) fn order(one: &Value, other: &Value, sign: &str, meter: &Rc<Meter>) -> Result<Option<Ordering>> {
    meter.work(1)?;
    if let Some(order) = numbers(one, other) {
        return Ok(order);
    }
    match (one, other) {
        (Value::Text(one), Value::Text(other)) => {
            let (one, other) = (one.as_str(), other.as_str());
            meter.text_work(one.len().min(other.len()))?;
            Ok(Some(one.cmp(other)))
        }
        (Value::Seq(one), Value::Seq(other))
            if one.kind == other.kind && matches!(one.kind, SeqKind::List | SeqKind::Tuple) =>
        {
            for (one, other) in one.as_slice().iter().zip(other.as_slice()) {
                if !equal(one, other, meter)? {
                    return order(one, other, sign, meter);
                }
            }
            Ok(Some(one.as_slice().len().cmp(&other.as_slice().len())))
        }
        (Value::Undefined(missing), _) | (_, Value::Undefined(missing)) => Err(missing.error()),
        _ => Err(Error::failed(format!("{sign:?} does not compare {} and {}", one.kind(), other.kind()))),
    }
}

/// Python's `in`.
pub(super) fn contains(container: &Value, item: &Value, meter: &Rc<Meter>) -> Result<bool> {
    match (container, item) {
        (Value::Text(text), Value::Text(part)) => {
            meter.text_work(text.as_str().len().saturating_add(part.as_str().len()))?;
            Ok(text.as_str().contains(part.as_str()))
        }
        (Value::Text(_), Value::Undefined(missing)) => Err(missing.error()),
        (Value::Text(_), item) => {
            Err(Error::failed(format!("\"in\" looks for a str in a str, not for {}", item.kind())))
        }
        (Value::Dict(dict), item) => Ok(dict.get(&Key::of(item, meter)?).is_some()),
        (Value::Seq(seq), item) => {
            for found in seq.as_slice() {
                if equal(found, item, meter)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        (Value::Undefined(_), _) => Ok(false),
        (other, _) => Err(Error::failed(format!("\"in\" does not search a value of type {}", other.kind()))),
    }
}

/// The order of items by their keys; equal ones keep theirs. Comparing can fail and has no order for some numbers, so this
/// is a merge sort of its own: it goes on with any answers.
pub(super) fn sorted(keyed: &[(Value, Value)], reverse: bool, meter: &Rc<Meter>) -> Result<Vec<usize>> {
    let _held = meter.hold(keyed.len().saturating_mul(2 * size_of::<usize>()))?;
    let mut sorted: Vec<usize> = (0..keyed.len()).collect();
    let mut merged = Vec::with_capacity(keyed.len());
    let mut width = 1;
    while width < keyed.len() {
        merged.clear();
        for chunk in sorted.chunks(2 * width) {
            let (mut left, mut right) = chunk.split_at(width.min(chunk.len()));
            while let (Some(&one), Some(&other)) = (left.first(), right.first()) {
                let order = order(&keyed[other].0, &keyed[one].0, "<", meter)?;
                let other_first = order == Some(if reverse { Ordering::Greater } else { Ordering::Less });
                let from = if other_first { &mut right } else { &mut left };
                merged.push(from[0]);
                *from = &from[1..];
            }
            merged.extend(left);
            merged.extend(right);
        }
        std::mem::swap(&mut sorted, &mut merged);
        width *= 2;
    }
    Ok(sorted)
}
