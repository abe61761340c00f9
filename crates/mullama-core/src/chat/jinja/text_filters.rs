//! Filters of texts. Other values become texts first.

use std::rc::Rc;

use super::arguments::{Given, count, flag, int, required, text as text_of};
use super::error::{Error, Result};
use super::meter::{Meter, Writer};
use super::text::{self, is_space};
use super::value::Value;
use super::{print, text_methods};
use crate::chat::normalize::shown;

/// All of them.
pub(super) const NAMES: [&str; 12] = [
    "upper",
    "lower",
    "title",
    "capitalize",
    "trim",
    "replace",
    "truncate",
    "wordcount",
    "center",
    "indent",
    "escape",
    "e",
];

/// Applies a filter.
pub(super) fn apply(name: &str, value: &Value, given: Given, meter: &Rc<Meter>) -> Result<Value> {
    let value = match value {
        Value::Text(text) => text.clone(),
        value => {
            let mut writer = Writer::new(meter);
            print::write(value, &mut writer)?;
            writer.into()
        }
    };
    let source = value.as_str();
    meter.text_work(source.len().saturating_mul(2))?;
    match name {
        "upper" | "lower" | "capitalize" => {
            given.bind([])?;
            text::in_case(source, name, meter)
        }
        "title" => {
            given.bind([])?;
            title(source, meter)
        }
        "trim" => {
            let [chars] = given.bind(["chars"])?;
            Value::text(meter, text::strip(source, text_of(chars.as_ref(), "chars")?, true, true, meter)?)
        }
        "replace" => {
            let [old, new, most] = given.bind(["old", "new", "count"])?;
            let (old, new) = (plain(old, "old", meter)?, plain(new, "new", meter)?);
            let most = int(most.as_ref(), "count")?.and_then(|most| usize::try_from(most).ok());
            let (old, new) = (old.as_str().unwrap_or_default(), new.as_str().unwrap_or_default());
            text::replace(source, old, new, most.unwrap_or(usize::MAX), meter)
        }
        "truncate" => truncate(source, given, meter),
        "wordcount" => {
            given.bind([])?;
            let is_word = |it: char| it == '_' || it.is_alphanumeric();
            Ok(Value::Int(source.split(|it| !is_word(it)).filter(|word| !word.is_empty()).count() as i128))
        }
        "center" => {
            let [width] = given.bind(["width"])?;
            let mut given = Given::new(meter)?;
            given.push(width.unwrap_or(Value::Int(80)))?;
            text_methods::call(&value, "center", given, meter)
        }
        "indent" => indent(source, given, meter),
        _ => {
            given.bind([])?;
            escape(source, meter)
        }
    }
}

/// An argument as text.
fn plain(value: Option<Value>, name: &str, meter: &Rc<Meter>) -> Result<Value> {
    let mut writer = Writer::new(meter);
    print::write(&required(value, name)?, &mut writer)?;
    Ok(writer.into())
}

/// Each word with a capital first letter. Unlike Python's method, apostrophes do not end a word.
fn title(source: &str, meter: &Rc<Meter>) -> Result<Value> {
    let mut writer = Writer::new(meter);
    let mut at_start = true;
    for character in source.chars() {
        if at_start {
            text::push_title(character, &mut writer)?;
        } else {
            character.to_lowercase().try_for_each(|it| writer.push(it))?;
        }
        at_start = is_space(character) || "-({[<".contains(character);
    }
    Ok(writer.into())
}

/// The text cut to a length in characters. It may be longer by the leeway without being cut.
fn truncate(source: &str, given: Given, meter: &Rc<Meter>) -> Result<Value> {
    let [length, killwords, end, leeway] = given.bind(["length", "killwords", "end", "leeway"])?;
    let length = count(length.as_ref(), "length", 255)?;
    let leeway = count(leeway.as_ref(), "leeway", 5)?;
    let end = text_of(end.as_ref(), "end")?.unwrap_or("...");
    let end_length = end.chars().count();
    if length < end_length {
        return Err(Error::failed(format!("truncate to {length} characters leaves no room for {}", shown(end))));
    }
    if source.chars().count() <= length.saturating_add(leeway) {
        return Value::text(meter, source);
    }
    let cut = source.char_indices().nth(length - end_length).map_or(source.len(), |(at, _)| at);
    let mut kept = &source[..cut];
    if !flag(killwords.as_ref()) {
        kept = kept.rsplit_once(' ').map_or(kept, |(words, _)| words);
    }
    let mut writer = Writer::new(meter);
    writer.push_str(kept)?;
    writer.push_str(end)?;
    Ok(writer.into())
}

/// Each line behind a margin: a text, or a number of spaces.
fn indent(source: &str, given: Given, meter: &Rc<Meter>) -> Result<Value> {
    let [width, first, blank] = given.bind(["width", "first", "blank"])?;
    let (margin, times) = match &width {
        Some(Value::Text(margin)) => (margin.as_str(), 1),
        width => (" ", count(width.as_ref(), "width", 4)?),
    };
    let (first, blank) = (flag(first.as_ref()), flag(blank.as_ref()));
    // Jinja2 adds a line end before it splits, so a last one stays.
    let mut ended = Writer::new(meter);
    ended.push_str(source)?;
    ended.push('\n')?;
    let mut writer = Writer::new(meter);
    for (at, (line, _)) in text::lines(ended.as_str()).enumerate() {
        if at > 0 {
            writer.push('\n')?;
        }
        if if at == 0 { first } else { blank || !line.is_empty() } {
            writer.repeat(margin, times)?;
        }
        writer.push_str(&ended.as_str()[line])?;
    }
    Ok(writer.into())
}

/// The characters that are special in HTML, escaped.
fn escape(source: &str, meter: &Rc<Meter>) -> Result<Value> {
    let mut writer = Writer::new(meter);
    for character in source.chars() {
        match character {
            '&' => writer.push_str("&amp;")?,
            '<' => writer.push_str("&lt;")?,
            '>' => writer.push_str("&gt;")?,
            '"' => writer.push_str("&#34;")?,
            '\'' => writer.push_str("&#39;")?,
            other => writer.push(other)?,
        }
    }
    Ok(writer.into())
}
