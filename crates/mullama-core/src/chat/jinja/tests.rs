//! `value is test`.

use std::rc::Rc;

use super::arguments::{Given, required};
use super::ast::{Comparison, Operator};
use super::error::{Error, Result};
use super::meter::Meter;
use super::value::{SeqKind, Value};
use super::{compare, filters, operators};
use crate::chat::normalize::shown;

/// Tests of one value, without arguments.
const PLAIN: [&str; 22] = [
    "defined",
    "undefined",
    "none",
    "boolean",
    "true",
    "false",
    "integer",
    "float",
    "number",
    "string",
    "mapping",
    "sequence",
    "iterable",
    "callable",
    "escaped",
    "lower",
    "upper",
    "odd",
    "even",
    "filter",
    "test",
    "sameas",
];

/// Whether a value passes a test.
pub(super) fn holds(name: &str, value: &Value, given: Given, meter: &Rc<Meter>) -> Result<bool> {
    if let Some(comparison) = comparison(name) {
        let [other] = given.bind(["other"])?;
        return compare::holds(comparison, value, &required(other, "other")?, meter);
    }
    match name {
        "divisibleby" => {
            let [number] = given.bind(["num"])?;
            let rest = operators::apply(Operator::Modulo, value, &required(number, "num")?, meter)?;
            Ok(!rest.is_true())
        }
        "sameas" => {
            let [other] = given.bind(["other"])?;
            Ok(same(value, &required(other, "other")?))
        }
        "odd" | "even" => {
            given.bind([])?;
            let rest = operators::apply(Operator::Modulo, value, &Value::Int(2), meter)?;
            Ok(rest.is_true() == (name == "odd"))
        }
        "lower" | "upper" => {
            given.bind([])?;
            let text = value.as_str().unwrap_or_default();
            meter.work(text.len())?;
            let other_case = if name == "lower" { char::is_uppercase } else { char::is_lowercase };
            Ok(text.chars().any(char::is_alphabetic) && !text.chars().any(other_case))
        }
        _ if is_known(name) => {
            given.bind([])?;
            Ok(is(name, value))
        }
        _ => Err(Error::failed(format!("test {} is unknown", shown(name)))),
    }
}

fn comparison(name: &str) -> Option<Comparison> {
    Some(match name {
        "eq" | "equalto" | "==" => Comparison::Equal,
        "ne" | "!=" => Comparison::NotEqual,
        "lt" | "lessthan" | "<" => Comparison::Less,
        "le" | "<=" => Comparison::LessOrEqual,
        "gt" | "greaterthan" | ">" => Comparison::Greater,
        "ge" | ">=" => Comparison::GreaterOrEqual,
        "in" => Comparison::In,
        _ => return None,
    })
}

fn is_known(name: &str) -> bool {
    PLAIN.contains(&name) || name == "divisibleby" || comparison(name).is_some()
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "defined" => !matches!(value, Value::Undefined(_)),
        "undefined" => matches!(value, Value::Undefined(_)),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)),
        "string" => matches!(value, Value::Text(_)),
        "mapping" => matches!(value, Value::Dict(_)),
        // Whatever has a length and items.
        "sequence" => match value {
            Value::Seq(seq) => !matches!(seq.kind, SeqKind::Generator | SeqKind::View(_)),
            value => matches!(value, Value::Text(_) | Value::Dict(_) | Value::Undefined(_)),
        },
        "iterable" => matches!(value, Value::Seq(_) | Value::Dict(_) | Value::Text(_) | Value::Undefined(_)),
        "callable" => matches!(
            value,
            Value::Function(_)
                | Value::Method(_)
                | Value::Macro(_)
                | Value::Joiner(_)
                | Value::Loop(_)
                | Value::Undefined(_)
        ),
        "filter" => value.as_str().is_some_and(filters::is_known),
        "test" => value.as_str().is_some_and(is_known),
        // A prompt is not HTML: nothing is escaped.
        _ => false,
    }
}

fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::None, Value::None) => true,
        (Value::Bool(one), Value::Bool(other)) => one == other,
        (Value::Int(one), Value::Int(other)) => one == other,
        (Value::Seq(one), Value::Seq(other)) => one.same(other),
        (Value::Dict(one), Value::Dict(other)) => one.same(other),
        (Value::Text(one), Value::Text(other)) => one.same(other),
        _ => false,
    }
}
