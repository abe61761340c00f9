//! The functions that every template has.

use std::cell::Cell;
use std::fmt::Write;
use std::rc::Rc;

use chrono::format::{Item, StrftimeItems};

use super::arguments::{Given, int, required, text};
use super::dict::DictBuilder;
use super::error::{Error, Result};
use super::runner::Runner;
use super::value::{Cycler, Joiner, SeqBuilder, SeqKind, Value, bounded_depth};
use crate::chat::normalize::shown;

/// All of them.
const FUNCTIONS: [&str; 7] = ["range", "dict", "namespace", "cycler", "joiner", "raise_exception", "strftime_now"];

/// The longest range: the sandbox that Hugging Face's libraries use has the same limit.
const MAX_RANGE: i128 = 100_000;

/// A function by its name.
pub(super) fn known(name: &str) -> Option<&'static str> {
    FUNCTIONS.into_iter().find(|function| *function == name)
}

/// Calls a function.
pub(super) fn call(runner: &mut Runner, name: &str, given: Given) -> Result<Value> {
    match name {
        "range" => range(runner, given),
        "dict" => dict(runner, given),
        "namespace" => {
            let attributes = dict(runner, given)?;
            let Value::Dict(dict) = &attributes else { return Ok(attributes) };
            let name_bytes: usize = dict.pairs().iter().filter_map(|(name, _)| name.as_str()).map(str::len).sum();
            runner.meter.text_work(name_bytes)?;
            let memory = dict.pairs().len().saturating_mul(2 * size_of::<Value>()).saturating_add(name_bytes);
            let _held = runner.meter.hold(memory)?;
            let named = dict.pairs().iter().filter_map(|(name, value)| Some((name.as_str()?.into(), value.clone())));
            runner.scopes.namespace(named.collect())
        }
        "cycler" => {
            let mut items = SeqBuilder::new(&runner.meter)?;
            items.extend(&given.positional_only()?)?;
            match items.list()? {
                Value::Seq(items) if !items.as_slice().is_empty() => {
                    Ok(Value::Cycler(Rc::new(Cycler { items, at: Cell::new(0) })))
                }
                _ => Err(Error::failed("at least one item has to be provided to cycler")),
            }
        }
        "joiner" => {
            let [separator] = given.bind(["sep"])?;
            let separator = separator.map_or_else(|| Value::text(&runner.meter, ", "), Ok)?;
            bounded_depth(1 + separator.depth())?;
            Ok(Value::Joiner(Rc::new(Joiner { separator, used: Cell::new(false) })))
        }
        "raise_exception" => {
            let [message] = given.bind(["message"])?;
            let mut said = super::meter::Writer::new(&runner.meter);
            super::print::write(&required(message, "message")?, &mut said)?;
            Err(Error::raised(said.finish().0))
        }
        _ => {
            let [pattern] = given.bind(["format"])?;
            let pattern = required(pattern, "format")?;
            let words = strftime_now(text(Some(&pattern), "format")?.unwrap_or_default())?;
            Value::text(&runner.meter, &words)
        }
    }
}

fn range(runner: &Runner, given: Given) -> Result<Value> {
    let [start, end, step] = given.bind(["start", "stop", "step"])?;
    let (start, end) = if end.is_some() { (start, end) } else { (None, start) };
    let start = int(start.as_ref(), "start")?.unwrap_or(0);
    let end = int(Some(&required(end, "stop")?), "stop")?;
    let end = end.ok_or_else(|| Error::failed("the argument \"stop\" must be an int"))?;
    let step = int(step.as_ref(), "step")?.unwrap_or(1);
    if step == 0 {
        return Err(Error::failed("the step of a range cannot be 0"));
    }
    let span = if step > 0 { end.saturating_sub(start) } else { start.saturating_sub(end) };
    let len = span.max(0) / step.saturating_abs() + i128::from(span.max(0) % step.saturating_abs() != 0);
    if len > MAX_RANGE {
        return Err(Error::failed(format!("a range of {len} numbers is longer than {MAX_RANGE}")));
    }
    let narrow = |number| i64::try_from(number).map_err(|_| Error::failed("a range has numbers of at most 64 bits"));
    let kind = SeqKind::Range(narrow(start)?, narrow(end)?, narrow(step)?);
    let mut numbers = SeqBuilder::new(&runner.meter)?;
    for at in 0..len {
        numbers.push(Value::Int(start + at * step))?;
    }
    numbers.finish(kind)
}

fn dict(runner: &mut Runner, mut given: Given) -> Result<Value> {
    let mut built = DictBuilder::new(&runner.meter)?;
    let named = std::mem::take(&mut given.named);
    let [first] = given.bind(["mapping"])?;
    match &first {
        None => {}
        Some(Value::Dict(dict)) => {
            for (key, value) in dict.pairs() {
                built.insert(key.clone(), value.clone())?;
            }
        }
        Some(pairs) => {
            for pair in runner.items(pairs)?.as_slice() {
                match runner.items(pair)?.as_slice() {
                    [key, value] => built.insert(key.clone(), value.clone())?,
                    _ => return Err(Error::failed("dict() takes pairs")),
                }
            }
        }
    }
    for (name, value) in named {
        built.insert(Value::text(&runner.meter, &name)?, value)?;
    }
    built.finish()
}

/// The local time in words, as Python's `datetime.now().strftime(format)` in the C locale.
fn strftime_now(pattern: &str) -> Result<String> {
    /// The longest pattern, for each of its characters may become a long word.
    const MAX_PATTERN: usize = 1000;
    let unknown = || Error::failed(format!("strftime_now does not know the format {}", shown(pattern)));
    if pattern.len() > MAX_PATTERN {
        return Err(unknown());
    }
    let mut translated = String::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            translated.push(character);
            continue;
        }
        match characters.next().ok_or_else(unknown)? {
            'f' => translated.push_str("%6f"),
            // A time without a zone has neither.
            'z' | 'Z' => {}
            'c' => translated.push_str("%a %b %e %H:%M:%S %Y"),
            'x' => translated.push_str("%m/%d/%y"),
            'X' => translated.push_str("%H:%M:%S"),
            'P' => translated.push_str("%P"),
            '-' => {
                translated.push_str("%-");
                translated.push(characters.next().ok_or_else(unknown)?);
            }
            known if "aAwdbBmyYHIpMSjUWGuV%eDFTRskhnt".contains(known) => {
                translated.push('%');
                translated.push(known);
            }
            _ => return Err(unknown()),
        }
    }
    let items: Vec<Item<'_>> = StrftimeItems::new(&translated).collect();
    if items.contains(&Item::Error) {
        return Err(unknown());
    }
    let mut words = String::new();
    let now = chrono::Local::now();
    write!(words, "{}", now.format_with_items(items.into_iter())).map_err(|_| unknown())?;
    Ok(words)
}
