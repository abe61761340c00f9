//! JSON from outside as values of a template.

use std::rc::Rc;

use serde_json::{Map, Number, Value as Json};

use super::dict::DictBuilder;
use super::error::{Error, Result};
use super::meter::Meter;
use super::value::{MAX_DEPTH, SeqBuilder, Value};

/// A variable from outside.
#[derive(Debug, Clone, Copy)]
pub(in crate::chat) enum Input<'j> {
    None,
    Bool(bool),
    Text(&'j str),
    Json(&'j Json),
    /// A list of JSON values.
    List(&'j [Json]),
    /// A list of JSON objects.
    Objects(&'j [&'j Map<String, Json>]),
}

/// About how many bytes a variable has. What is nested too deeply is counted in part: it will be refused.
pub(in crate::chat) fn size_of_input(input: &Input<'_>) -> usize {
    match input {
        Input::None | Input::Bool(_) => 1,
        Input::Text(text) => text.len(),
        Input::Json(json) => size(json, 0),
        Input::List(items) => items.iter().map(|item| size(item, 1)).sum(),
        Input::Objects(items) => items.iter().map(|item| object_size(item, 1)).sum(),
    }
}

/// What a value costs beside its text.
const NODE: usize = 16;

fn size(json: &Json, depth: usize) -> usize {
    if depth > MAX_DEPTH {
        return NODE;
    }
    match json {
        Json::String(text) => NODE + text.len(),
        Json::Array(items) => items.iter().map(|item| size(item, depth + 1)).fold(NODE, usize::saturating_add),
        Json::Object(fields) => object_size(fields, depth),
        _ => NODE,
    }
}

fn object_size(fields: &Map<String, Json>, depth: usize) -> usize {
    let sizes = fields.iter().map(|(name, value)| name.len() + size(value, depth + 1));
    sizes.fold(NODE, usize::saturating_add)
}

/// The value that a variable is in a template.
pub(super) fn value(input: &Input<'_>, meter: &Rc<Meter>) -> Result<Value> {
    match input {
        Input::None => Ok(Value::None),
        Input::Bool(yes) => Ok(Value::Bool(*yes)),
        Input::Text(text) => Value::text(meter, text),
        Input::Json(json) => of_json(json, meter, 0),
        Input::List(items) => list(items.iter(), meter, of_json),
        Input::Objects(items) => list(items.iter().copied(), meter, object),
    }
}

fn list<'j, T>(
    items: impl Iterator<Item = T>,
    meter: &Rc<Meter>,
    convert: fn(T, &Rc<Meter>, usize) -> Result<Value>,
) -> Result<Value>
where
    T: 'j,
{
    let mut built = SeqBuilder::new(meter)?;
    for item in items {
        built.push(convert(item, meter, 1)?)?;
    }
    built.list()
}

fn of_json(json: &Json, meter: &Rc<Meter>, depth: usize) -> Result<Value> {
    if depth > MAX_DEPTH {
        return Err(Error::failed(format!(
            "messages, tools and other variables are nested more than {MAX_DEPTH} levels deep"
        )));
    }
    match json {
        Json::Null => Ok(Value::None),
        Json::Bool(yes) => Ok(Value::Bool(*yes)),
        Json::Number(number) => Ok(of_number(number)),
        Json::String(text) => Value::text(meter, text),
        Json::Array(items) => {
            let mut built = SeqBuilder::new(meter)?;
            for item in items {
                built.push(of_json(item, meter, depth + 1)?)?;
            }
            built.list()
        }
        Json::Object(fields) => object(fields, meter, depth),
    }
}

fn object(fields: &Map<String, Json>, meter: &Rc<Meter>, depth: usize) -> Result<Value> {
    let mut built = DictBuilder::new(meter)?;
    for (name, value) in fields {
        built.insert(Value::text(meter, name)?, of_json(value, meter, depth + 1)?)?;
    }
    built.finish()
}

fn of_number(number: &Number) -> Value {
    let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    whole.map_or_else(|| Value::Float(number.as_f64().unwrap_or(f64::NAN)), Value::Int)
}
