//! Cuts the source of a template into tokens, with the white space that `trim_blocks` and `lstrip_blocks` leave.

use super::error::{Error, Result};

/// A token and its line, from 1.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) line: u32,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    /// Text outside of all tags.
    Data(String),
    BlockBegin,
    BlockEnd,
    PrintBegin,
    PrintEnd,
    Name(String),
    Text(String),
    Int(i128),
    Float(f64),
    Operator(&'static str),
}

/// Maximum length of a name in bytes. A name is read whenever a variable is looked up, in each scope, for one unit of
/// work.
const MAX_NAME: usize = 256;

/// All operators, longer ones first.
const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".",
    ":", "|", ",", ";",
];

/// What a tag begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Block,
    Print,
    Comment,
}

/// Reads all tokens of a template.
pub(super) fn tokens(source: &str) -> Result<Vec<Token>> {
    // Jinja2 reads every line end as `\n`, and drops the last one.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = source.strip_suffix('\n').unwrap_or(&source);
    let mut lexer = Lexer { source, at: 0, line: 1, at_line_start: true, tokens: Vec::new() };
    while lexer.at < source.len() {
        lexer.data()?;
    }
    Ok(lexer.tokens)
}

struct Lexer<'s> {
    source: &'s str,
    at: usize,
    line: u32,
    /// Whether the last tag took a line end with it, so that what follows stands at the start of a line.
    at_line_start: bool,
    tokens: Vec<Token>,
}

impl<'s> Lexer<'s> {
    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    fn skip(&mut self, bytes: usize) -> &'s str {
        let skipped = &self.rest()[..bytes];
        self.line += u32::try_from(skipped.matches('\n').count()).unwrap_or(u32::MAX);
        self.at += bytes;
        skipped
    }

    fn push(&mut self, kind: TokenKind) {
        self.tokens.push(Token { kind, line: self.line });
    }

    fn error<T>(&self, reason: impl std::fmt::Display) -> Result<T> {
        Err(Error::syntax(reason, self.line))
    }

    /// Text up to the next tag, and the tag.
    fn data(&mut self) -> Result<()> {
        let rest = self.rest();
        let found = rest.char_indices().find_map(|(at, character)| {
            let tag = match (character == '{').then(|| rest.as_bytes().get(at + 1)).flatten()? {
                b'%' => Tag::Block,
                b'{' => Tag::Print,
                b'#' => Tag::Comment,
                _ => return None,
            };
            Some((at, tag))
        });
        let Some((at, tag)) = found else {
            self.push_data(rest);
            self.skip(rest.len());
            return Ok(());
        };
        let sign = rest.as_bytes().get(at + 2).copied();
        let text = &rest[..at];
        let kept = match sign {
            Some(b'-') => text.trim_end(),
            Some(b'+') => text,
            _ if tag == Tag::Print => text,
            _ => self.without_indent(text),
        };
        self.push_data(kept);
        self.skip(at + 2 + usize::from(matches!(sign, Some(b'-' | b'+'))));
        match tag {
            Tag::Comment => self.comment(),
            Tag::Print => self.inside(TokenKind::PrintBegin, "}}", &TokenKind::PrintEnd),
            Tag::Block if self.raw_begins() => self.raw(),
            Tag::Block => self.inside(TokenKind::BlockBegin, "%}", &TokenKind::BlockEnd),
        }
    }

    fn push_data(&mut self, text: &str) {
        if !text.is_empty() {
            self.push(TokenKind::Data(text.to_owned()));
        }
    }

    /// The text without the white space between the start of its last line and the tag behind it.
    fn without_indent(&self, text: &'s str) -> &'s str {
        let line = text.rfind('\n').map_or(0, |at| at + 1);
        let whole_line = line > 0 || self.at_line_start;
        if whole_line && text[line..].chars().all(char::is_whitespace) { &text[..line] } else { text }
    }

    /// Behind the end of a tag: white space goes if the tag ends in `-`, and one line end unless it ends in `+`.
    fn after_tag(&mut self, sign: Option<u8>, trims_line_end: bool) {
        let rest = self.rest();
        let bytes = match sign {
            Some(b'-') => rest.len() - rest.trim_start().len(),
            None if trims_line_end && rest.starts_with('\n') => 1,
            _ => 0,
        };
        self.at_line_start = self.skip(bytes).ends_with('\n');
    }

    fn comment(&mut self) -> Result<()> {
        let Some(end) = self.rest().find("#}") else { return self.error("a comment has no end") };
        let sign = self.rest()[..end].bytes().last().filter(|sign| matches!(sign, b'-' | b'+'));
        self.skip(end + 2);
        self.after_tag(sign, true);
        Ok(())
    }

    /// The end of a tag here, if there is one: its sign and length.
    fn end(rest: &str, end: &str) -> Option<(Option<u8>, usize)> {
        let sign = rest.bytes().next().filter(|sign| matches!(sign, b'-' | b'+'));
        let bare = &rest[usize::from(sign.is_some())..];
        bare.starts_with(end).then_some((sign, usize::from(sign.is_some()) + end.len()))
    }

    /// The length up to the end of a tag that consists of this word, and the sign of the end.
    fn word_tag(rest: &str, word: &str) -> Option<(Option<u8>, usize)> {
        let after = rest.trim_start().strip_prefix(word)?.trim_start();
        let (sign, bytes) = Self::end(after, "%}")?;
        Some((sign, rest.len() - after.len() + bytes))
    }

    fn raw_begins(&self) -> bool {
        Self::word_tag(self.rest(), "raw").is_some()
    }

    fn raw(&mut self) -> Result<()> {
        if let Some((sign, bytes)) = Self::word_tag(self.rest(), "raw") {
            self.skip(bytes);
            self.after_tag(sign, true);
        }
        let rest = self.rest();
        let mut from = 0;
        while let Some(found) = rest[from..].find("{%") {
            let at = from + found;
            let inner = &rest[at + 2..];
            let sign = inner.bytes().next().filter(|sign| matches!(sign, b'-' | b'+'));
            let inner = &inner[usize::from(sign.is_some())..];
            let Some((end_sign, bytes)) = Self::word_tag(inner, "endraw") else {
                from = at + 2;
                continue;
            };
            let text = &rest[..at];
            self.push_data(match sign {
                Some(b'-') => text.trim_end(),
                Some(_) => text,
                None => self.without_indent(text),
            });
            self.skip(rest.len() - inner.len() + bytes);
            self.after_tag(end_sign, true);
            return Ok(());
        }
        self.error("a raw block has no end")
    }

    /// The tokens of a tag.
    fn inside(&mut self, begin: TokenKind, end: &str, end_kind: &TokenKind) -> Result<()> {
        self.push(begin);
        let mut open: Vec<&'static str> = Vec::new();
        loop {
            let rest = self.rest();
            self.skip(rest.len() - rest.trim_start().len());
            let rest = self.rest();
            if open.is_empty()
                && let Some((sign, bytes)) = Self::end(rest, end)
            {
                self.push(end_kind.clone());
                self.skip(bytes);
                self.after_tag(sign, *end_kind == TokenKind::BlockEnd);
                return Ok(());
            }
            let Some(first) = rest.chars().next() else { return self.error("the template ends inside a tag") };
            match first {
                '\'' | '"' => self.text(first)?,
                '0'..='9' => self.number()?,
                _ if first == '_' || first.is_alphabetic() => {
                    let len = rest.find(|next: char| next != '_' && !next.is_alphanumeric()).unwrap_or(rest.len());
                    if len > MAX_NAME {
                        return self.error(format!("a name has {len} bytes, at most {MAX_NAME} are allowed"));
                    }
                    self.push(TokenKind::Name(rest[..len].to_owned()));
                    self.skip(len);
                }
                _ => self.operator(&mut open)?,
            }
        }
    }

    fn operator(&mut self, open: &mut Vec<&'static str>) -> Result<()> {
        let rest = self.rest();
        let Some(operator) = OPERATORS.into_iter().find(|operator| rest.starts_with(operator)) else {
            return self.error(format_args!("unexpected character {:?}", rest.chars().next().unwrap_or(' ')));
        };
        match operator {
            "(" => open.push(")"),
            "[" => open.push("]"),
            "{" => open.push("}"),
            ")" | "]" | "}" => match open.pop() {
                Some(expected) if expected == operator => {}
                Some(expected) => return self.error(format_args!("unexpected {operator:?}, expected {expected:?}")),
                None => return self.error(format_args!("unexpected {operator:?}")),
            },
            _ => {}
        }
        self.push(TokenKind::Operator(operator));
        self.skip(operator.len());
        Ok(())
    }

    /// A text in quotes, with Python's escapes.
    fn text(&mut self, quote: char) -> Result<()> {
        let rest = self.rest();
        let mut text = String::new();
        let mut characters = rest.char_indices().skip(1).peekable();
        while let Some((at, character)) = characters.next() {
            if character == quote {
                self.push(TokenKind::Text(text));
                self.skip(at + 1);
                return Ok(());
            }
            if character != '\\' {
                text.push(character);
                continue;
            }
            let Some((_, escaped)) = characters.next() else { break };
            let digits = |radix: u32, most: usize| {
                let digits = &rest[at + 1 + usize::from(radix == 16)..];
                let len = digits.chars().take(most).take_while(|digit| digit.is_digit(radix)).count();
                (len, u32::from_str_radix(&digits[..len], radix).ok().and_then(char::from_u32))
            };
            let (used, meant) = match escaped {
                '\n' => continue,
                'n' => (0, Some('\n')),
                't' => (0, Some('\t')),
                'r' => (0, Some('\r')),
                'a' => (0, Some('\u{7}')),
                'b' => (0, Some('\u{8}')),
                'f' => (0, Some('\u{c}')),
                'v' => (0, Some('\u{b}')),
                '\\' | '\'' | '"' => (0, Some(escaped)),
                'x' => digits(16, 2),
                'u' => digits(16, 4),
                'U' => digits(16, 8),
                '0'..='7' => {
                    let (len, meant) = digits(8, 3);
                    (len - 1, meant)
                }
                _ => {
                    text.push('\\');
                    (0, Some(escaped))
                }
            };
            let Some(meant) = meant else { return self.error(format_args!("\\{escaped} is not a valid escape")) };
            text.push(meant);
            for _ in 0..used {
                characters.next();
            }
        }
        self.error("a text has no end")
    }

    fn number(&mut self) -> Result<()> {
        let rest = self.rest();
        let lower = rest.get(..2).unwrap_or_default().to_ascii_lowercase();
        let radix = match lower.as_str() {
            "0x" => 16,
            "0o" => 8,
            "0b" => 2,
            _ => 10,
        };
        let from = if radix == 10 { 0 } else { 2 };
        let digits = |from: usize, radix: u32| {
            let rest = &rest[from..];
            rest.find(|next: char| next != '_' && !next.is_digit(radix)).unwrap_or(rest.len())
        };
        let mut len = from + digits(from, radix);
        let starts_digit = |at: usize| rest[at..].starts_with(|next: char| next.is_ascii_digit());
        let after_dot = self.tokens.last().is_some_and(|last| last.kind == TokenKind::Operator("."));
        let mut float = false;
        if radix == 10 && !after_dot {
            if rest[len..].starts_with('.') && starts_digit(len + 1) {
                len += 1 + digits(len + 1, 10);
                float = true;
            }
            let sign = usize::from(rest[len..].get(1..2).is_some_and(|sign| sign == "+" || sign == "-"));
            if rest[len..].starts_with(['e', 'E']) && rest.len() > len + 1 + sign && starts_digit(len + 1 + sign) {
                len += 1 + sign + digits(len + 1 + sign, 10);
                float = true;
            }
        }
        let number = rest[from..len].replace('_', "");
        let kind = if float {
            number.parse().ok().map(TokenKind::Float)
        } else {
            i128::from_str_radix(&number, radix).ok().map(TokenKind::Int)
        };
        let Some(kind) = kind else { return self.error(format_args!("{} is not a number", &rest[..len])) };
        self.push(kind);
        self.skip(len);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(source: &str) -> Vec<TokenKind> {
        tokens(source).unwrap().into_iter().map(|token| token.kind).collect()
    }

    fn only(source: &str) -> TokenKind {
        kinds(&format!("{{{{ {source} }}}}")).remove(1)
    }

    #[test]
    fn texts_and_numbers_are_read_as_python_reads_them() {
        assert_eq!(only(r"'a\n\x41\u00e9\'\q\101'"), TokenKind::Text("a\nAé'\\qA".to_owned()));
        assert_eq!(only("1_000"), TokenKind::Int(1000));
        assert_eq!(only("0xff"), TokenKind::Int(255));
        assert_eq!(only("1.5e-3"), TokenKind::Float(0.0015));
        assert!(tokens("{{ 'a").is_err());
        assert!(tokens("{{ 9999999999999999999999999999999999999999 }}").is_err());
    }

    #[test]
    fn a_tag_takes_its_own_line_and_the_signs_decide() {
        let data = |text: &str| TokenKind::Data(text.to_owned());
        let seen = |source: &str| {
            let data = kinds(source).into_iter().filter(|kind| matches!(kind, TokenKind::Data(_)));
            data.collect::<Vec<_>>()
        };
        assert_eq!(seen("a\n  {% x %}\n  b"), [data("a\n"), data("  b")]);
        assert_eq!(seen("a\n  {%+ x +%}\n  b"), [data("a\n  "), data("\n  b")]);
        assert_eq!(seen("a\n {%- x -%} \n b"), [data("a"), data("b")]);
        assert_eq!(seen("a\n {# x #}\nb\n"), [data("a\n"), data("b")]);
        assert_eq!(seen("{% raw %}\n{{ x }}{% endraw %}\nc"), [data("{{ x }}"), data("c")]);
    }
}
