//! Methods of Python's lists, dicts and other values. Those of texts have files of their own.

use std::rc::Rc;

use super::arguments::{Given, int, required};
use super::dict::{Dict, DictBuilder};
use super::error::{Error, Result};
use super::meter::Meter;
use super::value::{Method, Seq, SeqBuilder, SeqKind, Value};
use super::{compare, operators, text_methods};

const OF_DICTS: [&str; 5] = ["get", "keys", "values", "items", "copy"];
const OF_LISTS: [&str; 3] = ["index", "count", "copy"];
const OF_CYCLERS: [&str; 2] = ["next", "reset"];

/// Methods that change a list or a dict, which the sandbox refuses.
const CHANGING: [&str; 13] = [
    "append",
    "clear",
    "extend",
    "insert",
    "pop",
    "popitem",
    "remove",
    "reverse",
    "sort",
    "setdefault",
    "update",
    "__setitem__",
    "__delitem__",
];

/// A method of a value, or a field that is not an item.
pub(super) fn find(value: &Value, name: &Rc<str>) -> Option<Value> {
    let known = match value {
        Value::Text(_) => text_methods::is_known(name),
        Value::Dict(_) => OF_DICTS.contains(&&**name),
        Value::Seq(seq) => match seq.kind {
            SeqKind::List => OF_LISTS.contains(&&**name),
            SeqKind::Tuple | SeqKind::Range(..) => OF_LISTS[..2].contains(&&**name),
            _ => false,
        },
        Value::Cycler(cycler) if &**name == "current" => {
            return cycler.items.as_slice().get(cycler.at.get()).cloned();
        }
        Value::Cycler(_) => OF_CYCLERS.contains(&&**name),
        _ => false,
    };
    known.then(|| Value::Method(Rc::new(Method { owner: value.clone(), name: Rc::clone(name) })))
}

/// Whether a name is that of a method that changes the value: an item of that name is found only by `value["name"]`.
pub(super) fn changes(value: &Value, name: &str) -> bool {
    matches!(value, Value::Dict(_)) && matches!(name, "clear" | "pop" | "popitem" | "setdefault" | "update")
        || matches!(value, Value::Seq(_)) && CHANGING.contains(&name)
}

/// Calls a method.
pub(super) fn call(owner: &Value, name: &str, given: Given, meter: &Rc<Meter>) -> Result<Value> {
    match owner {
        Value::Text(text) => text_methods::call(text, name, given, meter),
        Value::Dict(dict) => dict_method(dict, name, given, meter),
        Value::Seq(seq) => list_method(seq, name, given, meter),
        Value::Cycler(cycler) => {
            given.bind([])?;
            let items = cycler.items.as_slice();
            let at = cycler.at.get();
            cycler.at.set(if name == "reset" { 0 } else { (at + 1) % items.len() });
            Ok(if name == "reset" { Value::None } else { items[at].clone() })
        }
        other => Err(Error::failed(format!("{} has no method {name:?}", other.kind()))),
    }
}

fn dict_method(dict: &Dict, name: &str, given: Given, meter: &Rc<Meter>) -> Result<Value> {
    if name == "get" {
        let [key, default] = given.bind(["key", "default"])?;
        let found = operators::item(&Value::Dict(dict.clone()), &required(key, "key")?, meter)?;
        return Ok(found.or(default).unwrap_or(Value::None));
    }
    given.bind([])?;
    if name == "copy" {
        let mut copy = DictBuilder::new(meter)?;
        for (key, value) in dict.pairs() {
            copy.insert(key.clone(), value.clone())?;
        }
        return copy.finish();
    }
    let mut view = SeqBuilder::new(meter)?;
    for (key, value) in dict.pairs() {
        view.push(match name {
            "keys" => key.clone(),
            "values" => value.clone(),
            _ => pair(key, value, meter)?,
        })?;
    }
    view.finish(SeqKind::View(match name {
        "keys" => "dict_keys",
        "values" => "dict_values",
        _ => "dict_items",
    }))
}

/// A tuple of two values.
pub(super) fn pair(one: &Value, other: &Value, meter: &Rc<Meter>) -> Result<Value> {
    let mut pair = SeqBuilder::new(meter)?;
    pair.extend([one, other])?;
    pair.finish(SeqKind::Tuple)
}

fn list_method(seq: &Seq, name: &str, given: Given, meter: &Rc<Meter>) -> Result<Value> {
    let items = seq.as_slice();
    match name {
        "copy" => {
            given.bind([])?;
            Ok(Value::Seq(seq.clone()))
        }
        "count" => {
            let [wanted] = given.bind(["value"])?;
            let wanted = required(wanted, "value")?;
            let mut count = 0;
            for item in items {
                count += i128::from(compare::equal(item, &wanted, meter)?);
            }
            Ok(Value::Int(count))
        }
        _ => {
            let [wanted, start, stop] = given.bind(["value", "start", "stop"])?;
            let wanted = required(wanted, "value")?;
            let (start, stop) = (int(start.as_ref(), "start")?, int(stop.as_ref(), "stop")?);
            let (from, to) = operators::bounds(start, stop, items.len());
            for (at, item) in items.iter().enumerate().take(to).skip(from) {
                if compare::equal(item, &wanted, meter)? {
                    return Ok(Value::Int(at as i128));
                }
            }
            Err(Error::failed("the value is not in the list"))
        }
    }
}
