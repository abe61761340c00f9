//! Values as text: Python's `str` and `repr`, through the bounded writer.

use super::error::{Error, Result};
use super::meter::Writer;
use super::value::{SeqKind, Value};
use crate::chat::guard::may_be_mark;

/// Writes a value as Python's `str` does.
pub(super) fn write(value: &Value, writer: &mut Writer) -> Result<()> {
    match value {
        Value::Text(text) => writer.push_str(text.as_str()),
        Value::Undefined(_) => Ok(()),
        value => write_repr(value, writer),
    }
}

/// Writes a value as Python's `repr` does. It recurses as deep as containers can be nested.
pub(super) fn write_repr(value: &Value, writer: &mut Writer) -> Result<()> {
    writer.meter().work(1)?;
    match value {
        Value::Undefined(_) => writer.push_str("Undefined"),
        Value::None => writer.push_str("None"),
        Value::Bool(yes) => writer.push_str(if *yes { "True" } else { "False" }),
        Value::Int(number) => writer.push_str(&number.to_string()),
        Value::Float(number) => writer.push_str(&float(*number)),
        Value::Text(text) => quoted(text.as_str(), writer),
        Value::Seq(seq) => match seq.kind {
            SeqKind::List | SeqKind::Generator => items(seq.as_slice(), ["[", "]"], writer),
            SeqKind::Tuple if seq.as_slice().len() == 1 => items(seq.as_slice(), ["(", ",)"], writer),
            SeqKind::Tuple => items(seq.as_slice(), ["(", ")"], writer),
            SeqKind::Range(start, end, 1) => writer.push_str(&format!("range({start}, {end})")),
            SeqKind::Range(start, end, step) => writer.push_str(&format!("range({start}, {end}, {step})")),
            SeqKind::View(name) => {
                writer.push_str(name)?;
                items(seq.as_slice(), ["([", "])"], writer)
            }
        },
        Value::Dict(dict) => {
            writer.push('{')?;
            for (at, (key, value)) in dict.pairs().iter().enumerate() {
                if at > 0 {
                    writer.push_str(", ")?;
                }
                write_repr(key, writer)?;
                writer.push_str(": ")?;
                write_repr(value, writer)?;
            }
            writer.push('}')
        }
        other => Err(Error::failed(format!("a value of type {} has no text", other.kind()))),
    }
}

fn items(items: &[Value], [open, close]: [&str; 2], writer: &mut Writer) -> Result<()> {
    writer.push_str(open)?;
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            writer.push_str(", ")?;
        }
        write_repr(item, writer)?;
    }
    writer.push_str(close)
}

/// Writes a text in quotes, and escapes what Python does not print.
fn quoted(text: &str, writer: &mut Writer) -> Result<()> {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    writer.push(quote)?;
    for character in text.chars() {
        match character {
            '\\' => writer.push_str("\\\\")?,
            '\n' => writer.push_str("\\n")?,
            '\r' => writer.push_str("\\r")?,
            '\t' => writer.push_str("\\t")?,
            character if character == quote => {
                writer.push('\\')?;
                writer.push(character)?;
            }
            character if is_printed(character) => writer.push(character)?,
            character => match u32::from(character) {
                code @ ..=0xff => writer.push_str(&format!("\\x{code:02x}"))?,
                code @ ..=0xffff => writer.push_str(&format!("\\u{code:04x}"))?,
                code => writer.push_str(&format!("\\U{code:08x}"))?,
            },
        }
    }
    writer.push(quote)
}

fn is_printed(character: char) -> bool {
    if character.is_ascii() {
        return !character.is_ascii_control();
    }
    // Rust and Python escape the same Unicode categories, except that Rust prints combining characters after a letter.
    may_be_mark(character) || format!("a{character}").escape_debug().nth(1) == Some(character)
}

/// A float as Python's `repr` writes it.
pub(super) fn float(number: f64) -> String {
    if !number.is_finite() {
        return number.to_string().to_lowercase();
    }
    let shortest = format!("{number:?}");
    match shortest.split_once('e') {
        None => shortest,
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
            let digits = digits.strip_suffix(".0").unwrap_or(digits);
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}
