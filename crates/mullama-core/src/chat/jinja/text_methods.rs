//! Methods of Python's texts. Each pays for the text that it reads, and writes through the bounded writer.

use std::rc::Rc;

use super::arguments::{Given, count, flag, int, required, text as text_of};
use super::error::{Error, Result};
use super::meter::{Meter, Writer};
use super::text::{self, is_space};
use super::value::{SeqBuilder, SeqKind, Text, Value};
use super::{format, operators};

/// All of them.
const METHODS: [&str; 40] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "islower",
    "isnumeric",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
];

const MORE: [&str; 2] = ["upper", "zfill"];

/// Whether texts have this method.
pub(super) fn is_known(name: &str) -> bool {
    METHODS.contains(&name) || MORE.contains(&name)
}

/// Calls a method of a text.
pub(super) fn call(owner: &Text, name: &str, given: Given, meter: &Rc<Meter>) -> Result<Value> {
    let source = owner.as_str();
    // Most methods look at each character a few times.
    meter.text_work(source.len().saturating_mul(2))?;
    match name {
        "upper" | "lower" | "casefold" | "swapcase" | "capitalize" | "title" => {
            given.bind([])?;
            text::in_case(source, name, meter)
        }
        "strip" | "lstrip" | "rstrip" => strip(source, name, given, meter),
        "removeprefix" | "removesuffix" => {
            let [part] = given.bind(["part"])?;
            let part = required(part, "part")?;
            let part = text_of(Some(&part), "part")?.unwrap_or_default();
            let rest = if name == "removeprefix" { source.strip_prefix(part) } else { source.strip_suffix(part) };
            rest.map_or_else(|| Ok(Value::Text(owner.clone())), |rest| Value::text(meter, rest))
        }
        "split" | "rsplit" => split(source, name == "rsplit", given, meter),
        "splitlines" => {
            let [keeps] = given.bind(["keepends"])?;
            lines(source, flag(keeps.as_ref()), meter)
        }
        "partition" | "rpartition" => partition(source, name == "rpartition", given, meter),
        "join" => {
            let [items] = given.bind(["iterable"])?;
            join(source, &required(items, "iterable")?, meter)
        }
        "replace" => {
            let [old, new, most] = given.bind(["old", "new", "count"])?;
            let (old, new) = (required(old, "old")?, required(new, "new")?);
            let old = text_of(Some(&old), "old")?.unwrap_or_default();
            let new = text_of(Some(&new), "new")?.unwrap_or_default();
            let most = int(most.as_ref(), "count")?.and_then(|most| usize::try_from(most).ok());
            text::replace(source, old, new, most.unwrap_or(usize::MAX), meter)
        }
        "startswith" | "endswith" => affix(source, name == "endswith", given, meter),
        "find" | "rfind" | "index" | "rindex" | "count" => find(source, name, given, meter),
        "ljust" | "rjust" | "center" | "zfill" => justify(source, name, given, meter),
        "expandtabs" => {
            let [size] = given.bind(["tabsize"])?;
            expand_tabs(source, count(size.as_ref(), "tabsize", 8)?, meter)
        }
        "format" => format::format(source, &given, meter),
        "format_map" => {
            let [mapping] = given.bind(["mapping"])?;
            format::format_map(source, &required(mapping, "mapping")?, meter)
        }
        _ => {
            given.bind([])?;
            meter.work(source.len() / 4)?;
            Ok(Value::Bool(text::is_all(source, name)))
        }
    }
}

fn strip(source: &str, name: &str, given: Given, meter: &Rc<Meter>) -> Result<Value> {
    let [chars] = given.bind(["chars"])?;
    let chars = text_of(chars.as_ref(), "chars")?;
    Value::text(meter, text::strip(source, chars, name != "rstrip", name != "lstrip", meter)?)
}

/// Pieces between separators. `from_end` finds them from the end.
fn split(source: &str, from_end: bool, given: Given, meter: &Rc<Meter>) -> Result<Value> {
    let [separator, most] = given.bind(["sep", "maxsplit"])?;
    let separator = text_of(separator.as_ref(), "sep")?;
    let most = int(most.as_ref(), "maxsplit")?.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let mut pieces = SeqBuilder::new(meter)?;
    let mut push = |piece: &str| pieces.push(Value::text(meter, piece)?);
    let limit = most.saturating_add(1);
    match (separator, from_end) {
        (Some(""), _) => return Err(Error::failed("empty separator")),
        (Some(separator), false) => source.splitn(limit, separator).try_for_each(push)?,
        (Some(separator), true) => {
            meter.text_work(source.len())?;
            source.rsplitn(limit, separator).try_for_each(push)?;
            return reversed(pieces, meter);
        }
        (None, false) => {
            let mut rest = source.trim_start_matches(is_space);
            let mut done = 0;
            while !rest.is_empty() {
                let end = if done < most { rest.find(is_space) } else { None };
                let Some(end) = end else {
                    push(rest)?;
                    break;
                };
                push(&rest[..end])?;
                rest = rest[end..].trim_start_matches(is_space);
                done += 1;
            }
        }
        (None, true) => {
            let mut rest = source.trim_end_matches(is_space);
            let mut done = 0;
            while !rest.is_empty() {
                let start = if done < most { rest.char_indices().rfind(|(_, it)| is_space(*it)) } else { None };
                let Some((start, space)) = start else {
                    push(rest)?;
                    break;
                };
                push(&rest[start + space.len_utf8()..])?;
                rest = rest[..start].trim_end_matches(is_space);
                done += 1;
            }
            return reversed(pieces, meter);
        }
    }
    pieces.list()
}

fn reversed(pieces: SeqBuilder, meter: &Rc<Meter>) -> Result<Value> {
    let pieces = pieces.list()?;
    let mut reversed = SeqBuilder::new(meter)?;
    if let Value::Seq(pieces) = &pieces {
        reversed.extend(pieces.as_slice().iter().rev())?;
    }
    reversed.list()
}

fn lines(source: &str, keeps_ends: bool, meter: &Rc<Meter>) -> Result<Value> {
    let mut lines = SeqBuilder::new(meter)?;
    for (line, end) in text::lines(source) {
        lines.push(Value::text(meter, &source[line.start..if keeps_ends { end } else { line.end }])?)?;
    }
    lines.list()
}

fn partition(source: &str, from_end: bool, given: Given, meter: &Rc<Meter>) -> Result<Value> {
    let [separator] = given.bind(["sep"])?;
    let separator = required(separator, "sep")?;
    let separator = text_of(Some(&separator), "sep")?.unwrap_or_default();
    if separator.is_empty() {
        return Err(Error::failed("empty separator"));
    }
    let found = if from_end { source.rfind(separator) } else { source.find(separator) };
    let parts = match found {
        Some(at) => [&source[..at], separator, &source[at + separator.len()..]],
        None if from_end => ["", "", source],
        None => [source, "", ""],
    };
    let mut tuple = SeqBuilder::new(meter)?;
    for part in parts {
        tuple.push(Value::text(meter, part)?)?;
    }
    tuple.finish(SeqKind::Tuple)
}

/// Joins texts, and nothing but texts.
fn join(separator: &str, items: &Value, meter: &Rc<Meter>) -> Result<Value> {
    let mut writer = Writer::new(meter);
    let mut write = |at: usize, item: Option<&str>| {
        let Some(item) = item else {
            return Err(Error::failed(format!("item {at} is joined, but is not a str")));
        };
        if at > 0 {
            writer.push_str(separator)?;
        }
        writer.push_str(item)
    };
    match items {
        Value::Seq(seq) => {
            seq.as_slice().iter().enumerate().try_for_each(|(at, item)| write(at, item.as_str()))?;
        }
        Value::Dict(dict) => {
            dict.pairs().iter().enumerate().try_for_each(|(at, (key, _))| write(at, key.as_str()))?;
        }
        Value::Text(text) => {
            let mut buffer = [0; 4];
            let mut characters = text.as_str().chars().enumerate();
            characters.try_for_each(|(at, it)| write(at, Some(it.encode_utf8(&mut buffer))))?;
        }
        other => return Err(Error::failed(format!("a value of type {} cannot be joined", other.kind()))),
    }
    Ok(writer.into())
}

/// The part of a text from one character to another, and where it starts in characters.
fn part<'s>(source: &'s str, start: Option<&Value>, end: Option<&Value>) -> Result<(&'s str, usize)> {
    let (start, end) = (int(start, "start")?, int(end, "end")?);
    if start.is_none() && end.is_none() {
        return Ok((source, 0));
    }
    let len = source.chars().count();
    let (from, to) = operators::bounds(start, end, len);
    let byte = |at: usize| source.char_indices().nth(at).map_or(source.len(), |(byte, _)| byte);
    Ok((&source[byte(from)..byte(to)], from))
}

fn affix(source: &str, at_end: bool, given: Given, meter: &Rc<Meter>) -> Result<Value> {
    let [affix, start, end] = given.bind(["affix", "start", "end"])?;
    let (source, _) = part(source, start.as_ref(), end.as_ref())?;
    let affix = required(affix, "affix")?;
    let single = std::slice::from_ref(&affix);
    let all = match &affix {
        Value::Seq(seq) if seq.kind == SeqKind::Tuple => seq.as_slice(),
        _ => single,
    };
    for affix in all {
        let affix = text_of(Some(affix), "affix")?.unwrap_or_default();
        meter.text_work(affix.len())?;
        if if at_end { source.ends_with(affix) } else { source.starts_with(affix) } {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn find(source: &str, name: &str, given: Given, meter: &Rc<Meter>) -> Result<Value> {
    let [wanted, start, end] = given.bind(["sub", "start", "end"])?;
    let wanted = required(wanted, "sub")?;
    let wanted = text_of(Some(&wanted), "sub")?.unwrap_or_default();
    let (source, from) = part(source, start.as_ref(), end.as_ref())?;
    meter.text_work(source.len().saturating_add(wanted.len()))?;
    if name == "count" {
        let found = if wanted.is_empty() { source.chars().count() + 1 } else { source.matches(wanted).count() };
        return Ok(Value::Int(found as i128));
    }
    let found = if name.starts_with('r') { source.rfind(wanted) } else { source.find(wanted) };
    match found {
        Some(at) => Ok(Value::Int((from + source[..at].chars().count()) as i128)),
        None if name.ends_with("find") => Ok(Value::Int(-1)),
        None => Err(Error::failed("the text was not found")),
    }
}

fn justify(source: &str, name: &str, given: Given, meter: &Rc<Meter>) -> Result<Value> {
    let [width, fill] = given.bind(["width", "fillchar"])?;
    let width = count(Some(&required(width, "width")?), "width", 0)?;
    let mut fill = text_of(fill.as_ref(), "fillchar")?.unwrap_or(" ").chars();
    let (Some(fill), None) = (fill.next(), fill.next()) else {
        return Err(Error::failed("the fill character must be one character"));
    };
    let missing = width.saturating_sub(source.chars().count());
    let mut writer = Writer::new(meter);
    if name == "zfill" {
        let sign = usize::from(source.starts_with(['+', '-']));
        writer.push_str(&source[..sign])?;
        writer.fill('0', missing)?;
        writer.push_str(&source[sign..])?;
        return Ok(writer.into());
    }
    let before = match name {
        "ljust" => 0,
        "rjust" => missing,
        // Python gives an odd one to the left where the width is odd.
        _ => missing / 2 + (missing & width & 1),
    };
    writer.fill(fill, before)?;
    writer.push_str(source)?;
    writer.fill(fill, missing - before)?;
    Ok(writer.into())
}

fn expand_tabs(source: &str, size: usize, meter: &Rc<Meter>) -> Result<Value> {
    let mut writer = Writer::new(meter);
    let mut column = 0;
    for character in source.chars() {
        match character {
            '\t' => {
                let spaces = if size == 0 { 0 } else { size - column % size };
                writer.fill(' ', spaces)?;
                column += spaces;
            }
            other => {
                writer.push(other)?;
                column = if matches!(other, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    Ok(writer.into())
}
