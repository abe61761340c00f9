//! `value | filter`: which filters there are, and those of single values. Filters of texts and of lists have files of
//! their own.

use super::arguments::{Given, count, flag, int, required, text};
use super::dict::DictBuilder;
use super::error::{Error, Result};
use super::eval::SHOWN_KEY;
use super::meter::Writer;
use super::runner::Runner;
use super::value::{SeqBuilder, SeqKind, Value};
use super::{json, list_filters, methods, operators, percent, print, text_filters};
use crate::chat::normalize::shown;

/// Filters of Jinja2 that are left out: they make HTML, depend on chance, or format for people.
const LEFT_OUT: [&str; 9] =
    ["random", "urlize", "xmlattr", "pprint", "striptags", "wordwrap", "filesizeformat", "forceescape", "urlencode"];

/// Filters of any value.
const OF_VALUES: [&str; 14] = [
    "abs", "attr", "d", "default", "float", "format", "int", "length", "count", "round", "safe", "string", "tojson",
    "list",
];

/// Whether there is a filter of this name.
pub(super) fn is_known(name: &str) -> bool {
    OF_VALUES.contains(&name) || text_filters::NAMES.contains(&name) || list_filters::NAMES.contains(&name)
}

impl Runner {
    /// Applies a filter.
    pub(super) fn filter(&mut self, name: &str, value: Value, given: Given) -> Result<Value> {
        self.meter.work(1)?;
        if text_filters::NAMES.contains(&name) {
            return text_filters::apply(name, &value, given, &self.meter);
        }
        if list_filters::NAMES.contains(&name) {
            return list_filters::apply(self, name, &value, given);
        }
        match name {
            "default" | "d" => {
                let [other, boolean] = given.bind(["default_value", "boolean"])?;
                let missing = matches!(value, Value::Undefined(_)) || flag(boolean.as_ref()) && !value.is_true();
                if missing { other.map_or_else(|| Value::text(&self.meter, ""), Ok) } else { Ok(value) }
            }
            "tojson" => json::tojson(&value, given, &self.meter),
            "string" | "safe" => {
                given.bind([])?;
                if matches!(value, Value::Text(_)) {
                    return Ok(value);
                }
                let mut writer = Writer::new(&self.meter);
                print::write(&value, &mut writer)?;
                Ok(writer.into())
            }
            "length" | "count" => {
                given.bind([])?;
                self.length(&value)
            }
            "list" => {
                given.bind([])?;
                let items = self.items(&value)?;
                Ok(Value::Seq(items.of_kind(SeqKind::List)))
            }
            "attr" => self.attr(&value, given),
            "format" => self.format(&value, given),
            "abs" | "int" | "float" | "round" => number(name, &value, given, self),
            _ if LEFT_OUT.contains(&name) => Err(Error::failed(format!("the filter {name:?} is not supported"))),
            _ => Err(Error::failed(format!("filter {} is unknown", shown(name)))),
        }
    }

    /// An attribute by its name, and never an item of a dict.
    fn attr(&mut self, value: &Value, given: Given) -> Result<Value> {
        let [name] = given.bind(["name"])?;
        let name = required(name, "name")?;
        let name = text(Some(&name), "name")?.unwrap_or_default();
        if name.len() > SHOWN_KEY {
            return Err(Error::failed(format!("the name of an attribute is longer than {SHOWN_KEY} bytes")));
        }
        let name = name.into();
        if matches!(value, Value::Dict(_)) {
            let found = methods::find(value, &name);
            return Ok(found.unwrap_or_else(|| Value::missing(&name, Some(value.kind()))));
        }
        self.attribute(value, &name)
    }

    /// The value is a pattern for `%` formatting.
    fn format(&self, value: &Value, given: Given) -> Result<Value> {
        let pattern = value.as_str().unwrap_or_default();
        if given.named.is_empty() {
            let mut values = SeqBuilder::new(&self.meter)?;
            values.extend(&given.positional)?;
            return percent::format(pattern, &values.finish(SeqKind::Tuple)?, &self.meter);
        }
        let mut values = DictBuilder::new(&self.meter)?;
        for (name, value) in given.named {
            values.insert(Value::text(&self.meter, &name)?, value)?;
        }
        percent::format(pattern, &values.finish()?, &self.meter)
    }

    /// Python's `len`.
    fn length(&self, value: &Value) -> Result<Value> {
        let len = match value {
            Value::Text(text) => {
                self.meter.text_work(text.as_str().len())?;
                text.as_str().chars().count()
            }
            Value::Seq(seq) if seq.kind != SeqKind::Generator => seq.as_slice().len(),
            Value::Dict(dict) => dict.pairs().len(),
            Value::Undefined(_) => 0,
            other => return Err(Error::failed(format!("a value of type {} has no length", other.kind()))),
        };
        Ok(Value::Int(len as i128))
    }
}

fn number(name: &str, value: &Value, given: Given, runner: &Runner) -> Result<Value> {
    // Reading a number makes a copy of the text.
    let text_bytes = value.as_str().map_or(0, str::len);
    runner.meter.text_work(text_bytes)?;
    let _copy = runner.meter.hold(text_bytes)?;
    match name {
        "abs" => {
            given.bind([])?;
            match value {
                Value::Float(number) => Ok(Value::Float(number.abs())),
                value => operators::signed(value, value.as_int().is_some_and(i128::is_negative)),
            }
        }
        "int" => {
            let [default, base] = given.bind(["default", "base"])?;
            let base = u32::try_from(count(base.as_ref(), "base", 10)?).ok().filter(|base| (2..=36).contains(base));
            let base = base.ok_or_else(|| Error::failed("the base of a number is from 2 to 36"))?;
            Ok(whole(value, base).unwrap_or(default.unwrap_or(Value::Int(0))))
        }
        "float" => {
            let [default] = given.bind(["default"])?;
            let number = match value {
                Value::Text(text) => text.as_str().trim().replace('_', "").parse().ok(),
                value => value.as_float(),
            };
            Ok(number.map(Value::Float).or(default).unwrap_or(Value::Float(0.0)))
        }
        _ => {
            let [precision, method] = given.bind(["precision", "method"])?;
            let precision = int(precision.as_ref(), "precision")?.unwrap_or(0);
            let method = text(method.as_ref(), "method")?.unwrap_or("common");
            if let Some(number) = value.as_int().filter(|_| method == "common") {
                return Ok(Value::Int(round_whole(number, precision)));
            }
            let number = value.as_float().ok_or_else(|| Error::failed("round takes a number"))?;
            round(number, precision, method)
        }
    }
}

/// The int that a value is, or that it spells.
#[expect(clippy::cast_possible_truncation, reason = "as Python's int does")]
fn whole(value: &Value, base: u32) -> Option<Value> {
    if let Some(number) = value.as_int() {
        return Some(Value::Int(number));
    }
    let from_float = |number: f64| number.is_finite().then(|| Value::Int(number as i128));
    match value {
        Value::Float(number) => from_float(*number),
        Value::Text(text) => {
            let digits = text.as_str().trim().replace('_', "");
            let prefix = match base {
                2 => ["0b", "0B"],
                8 => ["0o", "0O"],
                16 => ["0x", "0X"],
                _ => ["", ""],
            };
            let unprefixed = prefix.iter().find_map(|prefix| digits.strip_prefix(prefix)).unwrap_or(&digits);
            let number = i128::from_str_radix(unprefixed, base).ok().map(Value::Int);
            number.or_else(|| digits.parse().ok().and_then(from_float))
        }
        _ => None,
    }
}

/// An int rounded to tens, hundreds and so on for a negative precision, ties to even.
fn round_whole(number: i128, precision: i128) -> i128 {
    let places = u32::try_from(precision.saturating_neg().max(0)).unwrap_or(u32::MAX);
    let Some(scale) = 10_i128.checked_pow(places) else { return 0 };
    let (whole, rest) = (number.div_euclid(scale), number.rem_euclid(scale));
    let up = rest > scale - rest || rest == scale - rest && whole % 2 != 0;
    (whole + i128::from(up)).saturating_mul(scale)
}

fn round(number: f64, precision: i128, method: &str) -> Result<Value> {
    let places = i32::try_from(precision.clamp(-308, 308)).unwrap_or(0);
    let scale = 10_f64.powi(places);
    let rounded = match method {
        // Python rounds the decimal number that the float is, ties to even.
        "common" if places >= 0 => format!("{number:.*}", places.unsigned_abs() as usize).parse().unwrap_or(number),
        "common" => (number * scale).round_ties_even() / scale,
        "ceil" => (number * scale).ceil() / scale,
        "floor" => (number * scale).floor() / scale,
        other => {
            return Err(Error::failed(format!(
                "the method of rounding is \"common\", \"ceil\" or \"floor\", not {}",
                shown(other)
            )));
        }
    };
    Ok(Value::Float(rounded))
}
