//! How one value is formatted: the part behind the colon in `str.format`, and what `%` formatting has in common with it.

use super::error::{Error, Result};
use super::meter::Writer;
use super::print;
use super::value::Value;
use crate::chat::normalize::shown;

/// Digits behind the point. Doubles have no more than 1,074 that are not zero.
const MAX_PRECISION: usize = 1100;

/// A format of one value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spec {
    pub(super) fill: char,
    /// `<`, `>`, `^` or `=`; without one, numbers go right and others left.
    pub(super) align: Option<char>,
    /// `+`, `-` or a space.
    pub(super) sign: char,
    /// `#`.
    pub(super) alternate: bool,
    pub(super) width: usize,
    /// `,` or `_` between groups of digits.
    pub(super) grouping: Option<char>,
    pub(super) precision: Option<usize>,
    /// The letter at the end.
    pub(super) kind: Option<char>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            fill: ' ',
            align: None,
            sign: '-',
            alternate: false,
            width: 0,
            grouping: None,
            precision: None,
            kind: None,
        }
    }
}

/// Takes a number off the start of a text. A number that is too large is refused when it is used.
pub(super) fn digits(text: &mut &str) -> Option<usize> {
    let len = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(len);
    *text = rest;
    (len > 0).then(|| number.parse().unwrap_or(usize::MAX))
}

impl Spec {
    /// Reads `[[fill]align][sign][#][0][width][grouping][.precision][kind]`.
    pub(super) fn parse(source: &str) -> Result<Self> {
        let mut spec = Self::default();
        let mut rest = source;
        let mut characters = rest.chars();
        let (first, second) = (characters.next(), characters.next());
        let is_align = |character: Option<char>| character.filter(|it| "<>^=".contains(*it));
        if let (Some(fill), Some(align)) = (first, is_align(second)) {
            (spec.fill, spec.align) = (fill, Some(align));
            rest = &rest[fill.len_utf8() + 1..];
        } else if let Some(align) = is_align(first) {
            spec.align = Some(align);
            rest = &rest[1..];
        }
        let mut skip = |signs: &str| {
            let found = rest.chars().next().filter(|it| signs.contains(*it));
            rest = &rest[usize::from(found.is_some())..];
            found
        };
        spec.sign = skip("+- ").unwrap_or('-');
        spec.alternate = skip("#").is_some();
        if skip("0").is_some() && spec.align.is_none() {
            (spec.fill, spec.align) = ('0', Some('='));
        }
        spec.width = digits(&mut rest).unwrap_or(0);
        let mut skip = |signs: &str| {
            let found = rest.chars().next().filter(|it| signs.contains(*it));
            rest = &rest[usize::from(found.is_some())..];
            found
        };
        spec.grouping = skip(",_");
        if skip(".").is_some() {
            spec.precision = digits(&mut rest);
        }
        let mut kinds = rest.chars();
        spec.kind = kinds.next();
        if kinds.next().is_some() {
            return Err(Error::failed(format!("{} is not a valid format", shown(source))));
        }
        Ok(spec)
    }

    /// Writes a value.
    pub(super) fn write(&self, value: &Value, writer: &mut Writer) -> Result<()> {
        match value {
            Value::Bool(_) if self.kind.is_none() => self.write_text(value, writer),
            Value::Int(_) | Value::Bool(_) if !self.is_float() => {
                self.integer(value.as_int().unwrap_or_default(), writer)
            }
            Value::Int(_) | Value::Bool(_) | Value::Float(_) => {
                self.float(value.as_float().unwrap_or_default(), writer)
            }
            value => self.write_text(value, writer),
        }
    }

    fn is_float(&self) -> bool {
        self.kind.is_some_and(|kind| "eEfFgG%".contains(kind))
    }

    fn refuse<T>(&self, value: &str) -> Result<T> {
        Err(Error::failed(format!("the format {:?} does not take a value of type {value}", self.kind.unwrap_or(' '))))
    }

    fn write_text(&self, value: &Value, writer: &mut Writer) -> Result<()> {
        if self.kind.is_some_and(|kind| kind != 's') || self.align == Some('=') && self.fill != '0' {
            return self.refuse(value.kind());
        }
        let mut text = Writer::new(writer.meter());
        print::write(value, &mut text)?;
        let text = text.as_str();
        writer.meter().text_work(text.len())?;
        let cut = self.precision.and_then(|most| text.char_indices().nth(most)).map_or(text.len(), |(at, _)| at);
        let align = self.align.filter(|align| *align != '=').unwrap_or('<');
        self.pad("", &text[..cut], align, writer)
    }

    /// Writes a number or a text with what fills it up to the width.
    fn pad(&self, sign: &str, body: &str, align: char, writer: &mut Writer) -> Result<()> {
        let missing = self.width.saturating_sub(sign.len() + body.chars().count());
        let (before, inside, after) = match align {
            '<' => (0, 0, missing),
            '^' => (missing / 2, 0, missing - missing / 2),
            '=' => (0, missing, 0),
            _ => (missing, 0, 0),
        };
        writer.fill(self.fill, before)?;
        writer.push_str(sign)?;
        writer.fill(self.fill, inside)?;
        writer.push_str(body)?;
        writer.fill(self.fill, after)
    }

    fn sign(&self, negative: bool) -> &'static str {
        match (negative, self.sign) {
            (true, _) => "-",
            (false, '+') => "+",
            (false, ' ') => " ",
            _ => "",
        }
    }

    fn integer(&self, number: i128, writer: &mut Writer) -> Result<()> {
        let magnitude = number.unsigned_abs();
        let (prefix, mut digits) = match self.kind {
            None | Some('d' | 'i' | 'u' | 'n') => ("", magnitude.to_string()),
            Some('x') => ("0x", format!("{magnitude:x}")),
            Some('X') => ("0X", format!("{magnitude:X}")),
            Some('o') => ("0o", format!("{magnitude:o}")),
            Some('b') => ("0b", format!("{magnitude:b}")),
            Some('c') => {
                let character = u32::try_from(number).ok().and_then(char::from_u32);
                let Some(character) = character else { return Err(Error::failed(format!("{number} is no character"))) };
                return self.pad("", character.encode_utf8(&mut [0; 4]), self.align.unwrap_or('<'), writer);
            }
            Some(_) => return self.refuse("int"),
        };
        if let Some(least) = self.precision {
            let least = bounded(least)?;
            digits.insert_str(0, &"0".repeat(least.saturating_sub(digits.len())));
        }
        let digits = self.grouped(&digits);
        let sign = format!("{}{}", self.sign(number < 0), if self.alternate { prefix } else { "" });
        self.pad(&sign, &digits, self.align.unwrap_or('>'), writer)
    }

    fn grouped(&self, digits: &str) -> String {
        let Some(grouping) = self.grouping else { return digits.to_owned() };
        let (whole, rest) = digits.split_at(digits.find(['.', 'e']).unwrap_or(digits.len()));
        let mut grouped = String::new();
        for (at, digit) in whole.char_indices() {
            if at > 0 && (whole.len() - at).is_multiple_of(3) {
                grouped.push(grouping);
            }
            grouped.push(digit);
        }
        grouped + rest
    }

    fn float(&self, number: f64, writer: &mut Writer) -> Result<()> {
        let magnitude = number.abs();
        let precision = self.precision.map(bounded).transpose()?;
        let body = if magnitude.is_finite() {
            match self.kind {
                Some('f' | 'F') => format!("{magnitude:.*}", precision.unwrap_or(6)),
                Some('%') => format!("{:.*}%", precision.unwrap_or(6), magnitude * 100.0),
                Some('e' | 'E') => exponential(magnitude, precision.unwrap_or(6)),
                Some('g' | 'G') => general(magnitude, precision.unwrap_or(6), self.alternate),
                None if precision.is_none() => print::float(magnitude),
                None => {
                    let text = general(magnitude, precision.unwrap_or(6), false);
                    if text.contains(['.', 'e']) { text } else { text + ".0" }
                }
                Some(_) => return self.refuse("float"),
            }
        } else {
            print::float(magnitude)
        };
        let body = if self.kind.is_some_and(char::is_uppercase) { body.to_uppercase() } else { body };
        let sign = self.sign(number.is_sign_negative() && !number.is_nan());
        self.pad(sign, &self.grouped(&body), self.align.unwrap_or('>'), writer)
    }
}

fn bounded(precision: usize) -> Result<usize> {
    if precision <= MAX_PRECISION {
        return Ok(precision);
    }
    Err(Error::failed(format!("a precision of {precision} is larger than {MAX_PRECISION}")))
}

/// `1.5e+03`.
fn exponential(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// C's `%g`: as many significant digits, with an exponent where the number is very large or small.
fn general(number: f64, precision: usize, keeps_zeros: bool) -> String {
    let precision = precision.max(1);
    let scientific = exponential(number, precision - 1);
    let exponent: i64 = scientific.split_once('e').and_then(|(_, it)| it.parse().ok()).unwrap_or(0);
    let wide = i64::try_from(precision).unwrap_or(i64::MAX);
    let trim = |digits: &str| {
        if keeps_zeros || !digits.contains('.') {
            return digits.to_owned();
        }
        digits.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    if (-4..wide).contains(&exponent) {
        let decimals = usize::try_from(wide - 1 - exponent).unwrap_or(0);
        return trim(&format!("{number:.decimals$}"));
    }
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "+00"));
    format!("{}e{exponent}", trim(digits))
}
