//! Filters of lists and dicts.

use std::collections::HashSet;

use super::arguments::{Given, count, flag, required, text};
use super::dict::Key;
use super::error::{Error, Result};
use super::meter::Writer;
use super::runner::Runner;
use super::value::{Seq, SeqBuilder, SeqKind, Value};
use super::{compare, methods, operators, print, tests};
use crate::chat::normalize::shown;

/// All of them.
pub(super) const NAMES: [&str; 19] = [
    "first",
    "last",
    "reverse",
    "join",
    "items",
    "dictsort",
    "sort",
    "unique",
    "min",
    "max",
    "sum",
    "groupby",
    "batch",
    "slice",
    "map",
    "select",
    "reject",
    "selectattr",
    "rejectattr",
];

/// The longest attribute.
const MAX_PATH: usize = 1000;

/// What a filter sorts, compares or groups by.
struct By {
    /// The attributes, each a path such as `function.name`.
    paths: Vec<String>,
    case_sensitive: bool,
    default: Option<Value>,
}

/// Applies a filter.
pub(super) fn apply(runner: &mut Runner, name: &str, value: &Value, given: Given) -> Result<Value> {
    match name {
        "first" | "last" => {
            given.bind([])?;
            let items = runner.items(value)?;
            let items = items.as_slice();
            let found = if name == "first" { items.first() } else { items.last() };
            Ok(found
                .cloned()
                .unwrap_or_else(|| Value::missing(&format!("the {name} item of an empty sequence").into(), None)))
        }
        "reverse" => {
            given.bind([])?;
            reverse(runner, value)
        }
        "join" => join(runner, value, given),
        "items" => pairs(runner, value, given),
        "dictsort" => dictsort(runner, value, given),
        "sort" => sort(runner, value, given),
        "unique" => unique(runner, value, given),
        "min" | "max" => {
            let [case_sensitive, attribute] = given.bind(["case_sensitive", "attribute"])?;
            let by = By::new(attribute.as_ref(), case_sensitive.as_ref(), false)?;
            extreme(runner, value, &by, name == "max")
        }
        "sum" => sum(runner, value, given),
        "groupby" => groupby(runner, value, given),
        "batch" => batch(runner, value, given),
        "slice" => slices(runner, value, given),
        "map" => map(runner, value, given),
        _ => select(runner, name, value, given),
    }
}

fn list(runner: &Runner, items: impl IntoIterator<Item = Value>) -> Result<Value> {
    let mut built = SeqBuilder::new(&runner.meter)?;
    items.into_iter().try_for_each(|item| built.push(item))?;
    built.list()
}

/// The pairs of a dict.
fn pairs(runner: &Runner, value: &Value, given: Given) -> Result<Value> {
    given.bind([])?;
    match value {
        Value::Undefined(_) => SeqBuilder::new(&runner.meter)?.finish(SeqKind::Generator),
        Value::Dict(_) => {
            let view = methods::call(value, "items", Given::new(&runner.meter)?, &runner.meter)?;
            let Value::Seq(view) = view else { return Ok(view) };
            Ok(Value::Seq(view.of_kind(SeqKind::Generator)))
        }
        other => Err(Error::failed(format!("items takes a dict, not {}", other.kind()))),
    }
}

fn sort(runner: &mut Runner, value: &Value, given: Given) -> Result<Value> {
    let [reverse, case_sensitive, attribute] = given.bind(["reverse", "case_sensitive", "attribute"])?;
    let by = By::new(attribute.as_ref(), case_sensitive.as_ref(), true)?;
    let items = runner.items(value)?;
    let keyed = by.keyed(runner, &items)?;
    let _keyed = runner.meter.hold(keyed.len().saturating_mul(4 * size_of::<Value>()))?;
    let sorted = compare::sorted(&keyed, flag(reverse.as_ref()), &runner.meter)?;
    list(runner, sorted.into_iter().map(|at| keyed[at].1.clone()))
}

fn sum(runner: &mut Runner, value: &Value, given: Given) -> Result<Value> {
    let [attribute, start] = given.bind(["attribute", "start"])?;
    let by = By::new(attribute.as_ref(), Some(&Value::Bool(true)), false)?;
    let items = runner.items(value)?;
    let mut sum = start.unwrap_or(Value::Int(0));
    for item in items.as_slice() {
        let item = by.key(runner, item)?;
        sum = operators::apply(super::ast::Operator::Add, &sum, &item, &runner.meter)?;
    }
    Ok(sum)
}

fn reverse(runner: &mut Runner, value: &Value) -> Result<Value> {
    if let Some(text) = value.as_str() {
        runner.meter.work(text.len())?;
        let mut writer = Writer::new(&runner.meter);
        text.chars().rev().try_for_each(|it| writer.push(it))?;
        return Ok(writer.into());
    }
    let items = runner.items(value)?;
    let mut built = SeqBuilder::new(&runner.meter)?;
    built.extend(items.as_slice().iter().rev())?;
    built.finish(SeqKind::Generator)
}

fn join(runner: &mut Runner, value: &Value, given: Given) -> Result<Value> {
    let [separator, attribute] = given.bind(["d", "attribute"])?;
    let by = By::new(attribute.as_ref(), Some(&Value::Bool(true)), false)?;
    let items = runner.items(value)?;
    let mut between = Writer::new(&runner.meter);
    separator.iter().try_for_each(|it| print::write(it, &mut between))?;
    let mut writer = Writer::new(&runner.meter);
    for (at, item) in items.as_slice().iter().enumerate() {
        if at > 0 {
            writer.push_str(between.as_str())?;
        }
        print::write(&by.key(runner, item)?, &mut writer)?;
    }
    Ok(writer.into())
}

fn dictsort(runner: &Runner, value: &Value, given: Given) -> Result<Value> {
    let [case_sensitive, by, reverse] = given.bind(["case_sensitive", "by", "reverse"])?;
    let Value::Dict(dict) = value else {
        return Err(match value {
            Value::Undefined(missing) => missing.error(),
            other => Error::failed(format!("dictsort takes a dict, not {}", other.kind())),
        });
    };
    let by_value = match text(by.as_ref(), "by")? {
        None | Some("key") => false,
        Some("value") => true,
        Some(other) => {
            return Err(Error::failed(format!("dictsort sorts by \"key\" or \"value\", not {}", shown(other))));
        }
    };
    let mut keyed = Vec::new();
    let _keyed = runner.meter.hold(dict.pairs().len().saturating_mul(4 * size_of::<Value>()))?;
    for (key, value) in dict.pairs() {
        let by = if by_value { value } else { key };
        keyed.push((folded(by, flag(case_sensitive.as_ref()), runner)?, methods::pair(key, value, &runner.meter)?));
    }
    let sorted = compare::sorted(&keyed, flag(reverse.as_ref()), &runner.meter)?;
    list(runner, sorted.into_iter().map(|at| keyed[at].1.clone()))
}

#[expect(clippy::mutable_key_type, reason = "the meter inside a text is not part of its hash")]
fn unique(runner: &mut Runner, value: &Value, given: Given) -> Result<Value> {
    let [case_sensitive, attribute] = given.bind(["case_sensitive", "attribute"])?;
    let by = By::new(attribute.as_ref(), case_sensitive.as_ref(), false)?;
    let items = runner.items(value)?;
    let mut seen = HashSet::new();
    let mut held = runner.meter.hold(items.as_slice().len().saturating_mul(4 * size_of::<Key>()))?;
    let mut built = SeqBuilder::new(&runner.meter)?;
    for item in items.as_slice() {
        let key = by.key(runner, item)?;
        let key = Key::of(&key, &runner.meter)?;
        if !seen.contains(&key) {
            held.grow(key.bytes())?;
            seen.insert(key);
            built.push(item.clone())?;
        }
    }
    built.finish(SeqKind::Generator)
}

fn extreme(runner: &mut Runner, value: &Value, by: &By, largest: bool) -> Result<Value> {
    let items = runner.items(value)?;
    let mut best: Option<(Value, &Value)> = None;
    for item in items.as_slice() {
        let key = by.key(runner, item)?;
        let better = match &best {
            None => true,
            Some((best, _)) if largest => {
                compare::order(&key, best, ">", &runner.meter)?.is_some_and(std::cmp::Ordering::is_gt)
            }
            Some((best, _)) => compare::order(&key, best, "<", &runner.meter)?.is_some_and(std::cmp::Ordering::is_lt),
        };
        if better {
            best = Some((key, item));
        }
    }
    Ok(best.map_or_else(|| Value::missing(&"the extreme item of an empty sequence".into(), None), |(_, it)| it.clone()))
}

fn groupby(runner: &mut Runner, value: &Value, given: Given) -> Result<Value> {
    let [attribute, default, case_sensitive] = given.bind(["attribute", "default", "case_sensitive"])?;
    let mut by = By::new(Some(&required(attribute, "attribute")?), case_sensitive.as_ref(), false)?;
    by.default = default;
    let items = runner.items(value)?;
    let keyed = by.keyed(runner, &items)?;
    let _keyed = runner.meter.hold(keyed.len().saturating_mul(4 * size_of::<Value>()))?;
    let sorted = compare::sorted(&keyed, false, &runner.meter)?;
    by.case_sensitive = true;
    let mut groups = SeqBuilder::new(&runner.meter)?;
    let mut rest = &sorted[..];
    while let Some(&first) = rest.first() {
        let mut group = SeqBuilder::new(&runner.meter)?;
        let mut len = 0;
        for &other in rest {
            if len > 0 && !compare::equal(&keyed[first].0, &keyed[other].0, &runner.meter)? {
                break;
            }
            group.push(keyed[other].1.clone())?;
            len += 1;
        }
        // The name of the group is what its first item has, in its own case.
        let name = by.key(runner, &keyed[first].1)?;
        groups.push(methods::pair(&name, &group.list()?, &runner.meter)?)?;
        rest = &rest[len..];
    }
    groups.list()
}

fn batch(runner: &mut Runner, value: &Value, given: Given) -> Result<Value> {
    let [size, fill] = given.bind(["linecount", "fill_with"])?;
    let size = count(Some(&required(size, "linecount")?), "linecount", 0)?.max(1);
    let items = runner.items(value)?;
    let mut batches = SeqBuilder::new(&runner.meter)?;
    for batch in items.as_slice().chunks(size) {
        let mut built = SeqBuilder::new(&runner.meter)?;
        built.extend(batch)?;
        if let Some(fill) = fill.as_ref().filter(|fill| !matches!(fill, Value::None)) {
            for _ in batch.len()..size {
                built.push(fill.clone())?;
            }
        }
        batches.push(built.list()?)?;
    }
    batches.finish(SeqKind::Generator)
}

/// So many lists of about the same length, one after another.
fn slices(runner: &mut Runner, value: &Value, given: Given) -> Result<Value> {
    let [slices, fill] = given.bind(["slices", "fill_with"])?;
    let slices = count(Some(&required(slices, "slices")?), "slices", 0)?.max(1);
    let items = runner.items(value)?;
    let (items, mut from) = (items.as_slice(), 0);
    let (least, longer) = (items.len() / slices, items.len() % slices);
    let mut built = SeqBuilder::new(&runner.meter)?;
    for at in 0..slices {
        let to = from + least + usize::from(at < longer);
        let mut part = SeqBuilder::new(&runner.meter)?;
        part.extend(&items[from..to])?;
        if let Some(fill) = fill.as_ref().filter(|fill| !matches!(fill, Value::None))
            && at >= longer
            && longer > 0
        {
            part.push(fill.clone())?;
        }
        built.push(part.list()?)?;
        from = to;
    }
    built.finish(SeqKind::Generator)
}

fn map(runner: &mut Runner, value: &Value, mut given: Given) -> Result<Value> {
    let items = runner.items(value)?;
    let mut mapped = SeqBuilder::new(&runner.meter)?;
    if let Some(attribute) = given.take_named("attribute") {
        let mut by = By::new(Some(&attribute), Some(&Value::Bool(true)), false)?;
        by.default = given.take_named("default");
        given.bind([])?;
        for item in items.as_slice() {
            mapped.push(by.key(runner, item)?)?;
        }
        return mapped.finish(SeqKind::Generator);
    }
    let name = given.take_first().ok_or_else(|| Error::failed("map takes a filter or an attribute"))?;
    let name = text(Some(&name), "name")?.unwrap_or_default();
    for item in items.as_slice() {
        // A filter may be `map` itself.
        let result = runner.nested(|runner| runner.filter(name, item.clone(), given.again()?))?;
        mapped.push(result)?;
    }
    mapped.finish(SeqKind::Generator)
}

/// `select`, `reject`, and both by an attribute.
fn select(runner: &mut Runner, name: &str, value: &Value, mut given: Given) -> Result<Value> {
    let by = if name.ends_with("attr") {
        let attribute = given.take_first().ok_or_else(|| Error::failed(format!("{name} takes an attribute")))?;
        Some(By::new(Some(&attribute), Some(&Value::Bool(true)), false)?)
    } else {
        None
    };
    let test = given.take_first();
    let test = text(test.as_ref(), "test")?;
    let wanted = name.starts_with("select");
    let items = runner.items(value)?;
    let mut selected = SeqBuilder::new(&runner.meter)?;
    for item in items.as_slice() {
        let tested = match &by {
            Some(by) => by.key(runner, item)?,
            None => item.clone(),
        };
        let passes = match test {
            Some(test) => tests::holds(test, &tested, given.again()?, &runner.meter)?,
            None => tested.is_true(),
        };
        if passes == wanted {
            selected.push(item.clone())?;
        }
    }
    selected.finish(SeqKind::Generator)
}

/// A text in lower case, unless case matters; other values are unchanged.
fn folded(value: &Value, case_sensitive: bool, runner: &Runner) -> Result<Value> {
    match value {
        Value::Text(text) if !case_sensitive => super::text::in_case(text.as_str(), "lower", &runner.meter),
        value => Ok(value.clone()),
    }
}

impl By {
    /// `several` allows more than one attribute, with commas between them.
    fn new(attribute: Option<&Value>, case_sensitive: Option<&Value>, several: bool) -> Result<Self> {
        let paths = match attribute {
            None | Some(Value::None) => Vec::new(),
            Some(Value::Int(index)) => vec![index.to_string()],
            Some(attribute) => {
                let attribute = text(Some(attribute), "attribute")?.unwrap_or_default();
                if attribute.len() > MAX_PATH {
                    return Err(Error::failed(format!("an attribute is longer than {MAX_PATH} bytes")));
                }
                if several { attribute.split(',').map(str::to_owned).collect() } else { vec![attribute.to_owned()] }
            }
        };
        Ok(Self { paths, case_sensitive: flag(case_sensitive), default: None })
    }

    fn key(&self, runner: &mut Runner, item: &Value) -> Result<Value> {
        match self.paths.as_slice() {
            [] => folded(item, self.case_sensitive, runner),
            [path] => self.at(path, runner, item),
            paths => {
                let mut keys = SeqBuilder::new(&runner.meter)?;
                for path in paths {
                    keys.push(self.at(path, runner, item)?)?;
                }
                keys.list()
            }
        }
    }

    fn at(&self, path: &str, runner: &mut Runner, item: &Value) -> Result<Value> {
        let mut value = item.clone();
        for part in path.split('.') {
            runner.meter.text_work(part.len())?;
            let key = match part.parse() {
                Ok(index) => Value::Int(index),
                Err(_) => Value::text(&runner.meter, part)?,
            };
            value = runner.item(&value, &key)?;
            if let (Value::Undefined(_), Some(default)) = (&value, &self.default) {
                value = default.clone();
            }
        }
        folded(&value, self.case_sensitive, runner)
    }

    fn keyed(&self, runner: &mut Runner, items: &Seq) -> Result<Vec<(Value, Value)>> {
        let mut keyed = Vec::new();
        let _keyed = runner.meter.hold(items.as_slice().len().saturating_mul(4 * size_of::<Value>()))?;
        for item in items.as_slice() {
            keyed.push((self.key(runner, item)?, item.clone()));
        }
        Ok(keyed)
    }
}
