//! Operations on texts that methods and filters share.

use std::ops::Range;
use std::rc::Rc;

use super::error::Result;
use super::meter::{Meter, Writer};
use super::value::Value;

/// White space, as Python's `str.isspace` has it.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\x1c'..='\x1f').contains(&character)
}

/// The text without characters of a set at its ends; without a set, without white space.
pub(super) fn strip<'s>(
    source: &'s str,
    chars: Option<&str>,
    at_start: bool,
    at_end: bool,
    meter: &Rc<Meter>,
) -> Result<&'s str> {
    let goes = |character: char| match chars {
        None => Ok(is_space(character)),
        Some(chars) => {
            meter.text_work(chars.len())?;
            Ok(chars.contains(character))
        }
    };
    let mut rest = source;
    while let Some(first) = rest.chars().next().filter(|_| at_start) {
        if !goes(first)? {
            break;
        }
        rest = &rest[first.len_utf8()..];
    }
    while let Some(last) = rest.chars().next_back().filter(|_| at_end) {
        if !goes(last)? {
            break;
        }
        rest = &rest[..rest.len() - last.len_utf8()];
    }
    Ok(rest)
}

/// The text with parts replaced, at most so many.
pub(super) fn replace(source: &str, old: &str, new: &str, most: usize, meter: &Rc<Meter>) -> Result<Value> {
    meter.text_work(source.len().saturating_add(old.len()))?;
    let mut writer = Writer::new(meter);
    let mut from = 0;
    for (at, found) in source.match_indices(old).take(most) {
        writer.push_str(&source[from..at])?;
        writer.push_str(new)?;
        from = at + found.len();
    }
    writer.push_str(&source[from..])?;
    Ok(writer.into())
}

/// The lines of a text as Python's `str.splitlines` finds them, each with where it ends with its line end.
pub(super) fn lines(source: &str) -> impl Iterator<Item = (Range<usize>, usize)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let rest = source.get(from..).filter(|rest| !rest.is_empty())?;
        let is_end = |it: char| matches!(it, '\n'..='\r' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
        let len = rest.find(is_end).unwrap_or(rest.len());
        let end = &rest[len..];
        let ended = if end.starts_with("\r\n") { 2 } else { end.chars().next().map_or(0, char::len_utf8) };
        let line = from..from + len;
        from += len + ended;
        Some((line, from))
    })
}

/// The text in other case, by the name of Python's method.
pub(super) fn in_case(source: &str, name: &str, meter: &Rc<Meter>) -> Result<Value> {
    meter.work(source.len() / 4)?;
    let mut writer = Writer::new(meter);
    let mut after_letter = false;
    for (at, character) in source.char_indices() {
        let up = match name {
            "upper" => true,
            "swapcase" => character.is_lowercase(),
            "capitalize" => at == 0,
            "title" => !after_letter,
            _ => false,
        };
        after_letter = character.is_alphabetic();
        if up && matches!(name, "capitalize" | "title") {
            push_title(character, &mut writer)?;
        } else if up {
            character.to_uppercase().try_for_each(|it| writer.push(it))?;
        } else if character == 'Σ' {
            // The lower-case letter differs at the end of a word.
            let word_goes_on = source[at + character.len_utf8()..].chars().next().is_some_and(char::is_alphabetic);
            let word_began = source[..at].chars().next_back().is_some_and(char::is_alphabetic);
            writer.push(if word_began && !word_goes_on { 'ς' } else { 'σ' })?;
        } else {
            character.to_lowercase().try_for_each(|it| writer.push(it))?;
        }
    }
    Ok(writer.into())
}

/// Writes a character as the first of a word: a `ß` becomes `Ss`.
pub(super) fn push_title(character: char, writer: &mut Writer) -> Result<()> {
    let mut large = character.to_uppercase();
    large.next().map_or(Ok(()), |first| writer.push(first))?;
    large.flat_map(char::to_lowercase).try_for_each(|it| writer.push(it))
}

/// Python's `isalpha` and its like.
pub(super) fn is_all(source: &str, name: &str) -> bool {
    let all = |test: fn(char) -> bool| !source.is_empty() && source.chars().all(test);
    let cased = || source.chars().any(|it| it.is_lowercase() || it.is_uppercase());
    match name {
        "isascii" => source.is_ascii(),
        "isalnum" => all(char::is_alphanumeric),
        "isalpha" => all(char::is_alphabetic),
        "isspace" => all(is_space),
        "isdigit" | "isdecimal" => all(|it| it.is_ascii_digit() || !it.is_ascii() && it.is_numeric()),
        "isnumeric" => all(char::is_numeric),
        "islower" => cased() && !source.chars().any(char::is_uppercase),
        "isupper" => cased() && !source.chars().any(char::is_lowercase),
        _ => is_title(source),
    }
}

fn is_title(source: &str) -> bool {
    let (mut after_letter, mut found) = (false, false);
    for character in source.chars() {
        if character.is_uppercase() && after_letter || character.is_lowercase() && !after_letter {
            return false;
        }
        after_letter = character.is_uppercase() || character.is_lowercase();
        found |= after_letter;
    }
    found
}
