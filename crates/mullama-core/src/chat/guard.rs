//! Prevents text in messages from becoming control tokens: `<|im_end|>` that a user typed stays plain text.
//!
//! Templates are programs, so the rendered text alone does not show which part came from a message. Before rendering, a
//! mark (a character that the chat does not contain) is put into every position of a message where a control token
//! could be read, alone or together with text that the template writes beside it. Text of the template itself has no
//! mark and is parsed as usual. A part of the text with a mark in it is tokenized as plain text, without the mark.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::Value;

use super::Chat;

/// Characters that may be a mark: noncharacters of Unicode, then its planes for private use.
const MARKS: [RangeInclusive<char>; 3] =
    ['\u{fdd0}'..='\u{fdef}', '\u{f0000}'..='\u{ffffd}', '\u{100000}'..='\u{10fffd}'];

/// Whether a character may be a mark. Such characters are never escaped, because the mark is removed again.
pub(super) fn may_be_mark(character: char) -> bool {
    MARKS.iter().any(|marks| marks.contains(&character))
}

/// A part of a rendered prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Control tokens in it are parsed.
    Parsed(String),
    /// Plain text: control tokens in it are not parsed.
    Plain(String),
}

/// Where a text is in a message. Templates compare words like "text" and "function" that are nested deeper in a
/// message, so fewer positions are marked there: no template completes a control token around those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// A field of a message, such as its content.
    Field,
    /// A text in a list or a mapping.
    Part,
    /// The name of a field in a mapping.
    Name,
}

/// The spellings of the control tokens of a vocabulary.
#[derive(Debug)]
pub(super) struct Guard {
    /// Every proper prefix and every proper suffix of a spelling.
    heads: HashSet<Box<str>>,
    tails: HashSet<Box<str>>,
    /// The length of the longest spelling in bytes.
    longest: usize,
    /// All spellings in one text, separated by NUL: a text that is found in it may be the middle of a spelling.
    all: String,
    /// Spellings that the tokenizer reads as control tokens in plain text as well: a text with one of them is tokenized
    /// in parts.
    stubborn: Vec<String>,
    /// Finds every spelling, including overlapping ones.
    any: AhoCorasick,
    /// Finds the spellings as the tokenizer does: from the left, the longest first.
    first: AhoCorasick,
}

impl Guard {
    /// Creates a guard for control tokens with these spellings. A spelling of one character cannot be distinguished
    /// from text.
    pub(super) fn new(
        spellings: impl IntoIterator<Item = String>,
        stubborn: Vec<String>,
    ) -> Result<Self, aho_corasick::BuildError> {
        let spellings: Vec<String> = spellings.into_iter().filter(|spelling| spelling.chars().count() > 1).collect();
        let (mut heads, mut tails) = (HashSet::new(), HashSet::new());
        for spelling in &spellings {
            for (at, _) in spelling.char_indices().skip(1) {
                heads.insert(spelling[..at].into());
                tails.insert(spelling[at..].into());
            }
        }
        let any = AhoCorasick::new(&spellings)?;
        let first = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&spellings)?;
        let longest = spellings.iter().map(String::len).max().unwrap_or(0);
        Ok(Self { heads, tails, longest, all: spellings.join("\0"), stubborn, any, first })
    }

    /// The chat with marks in the texts of its messages, tools and documents, and the mark. `None` if the chat contains
    /// every character that could be one.
    pub(super) fn mark(&self, chat: &Chat) -> Option<(Chat, char)> {
        let mark = unused_mark(chat)?;
        let mut marked = chat.clone();
        for message in &mut marked.messages {
            // The program chooses the role, and templates compare it.
            for (_, value) in message.0.iter_mut().filter(|(name, _)| *name != "role") {
                match value {
                    Value::String(text) => *text = self.break_up(text, mark, Depth::Field),
                    value => self.mark_value(value, mark),
                }
            }
        }
        marked.tools.iter_mut().flatten().for_each(|tool| self.mark_value(tool, mark));
        if let Some(documents) = marked.chat_template_kwargs.get_mut("documents") {
            self.mark_value(documents, mark);
        }
        Some((marked, mark))
    }

    fn mark_value(&self, value: &mut Value, mark: char) {
        match value {
            Value::String(text) => *text = self.break_up(text, mark, Depth::Part),
            Value::Array(items) => items.iter_mut().for_each(|item| self.mark_value(item, mark)),
            Value::Object(fields) => {
                let marked = std::mem::take(fields).into_iter().map(|(name, mut value)| {
                    self.mark_value(&mut value, mark);
                    (self.break_up(&name, mark, Depth::Name), value)
                });
                *fields = marked.collect();
            }
            _ => {}
        }
    }

    /// The text with the mark in every position where a spelling occurs, starts before the text's end, ends after its
    /// start, or surrounds the text.
    fn break_up(&self, text: &str, mark: char, depth: Depth) -> String {
        let after_first = |from: usize| from + text[from..].chars().next().map_or(0, char::len_utf8);
        let mut breaks: Vec<usize> =
            self.any.find_overlapping_iter(text).map(|found| after_first(found.start())).collect();
        if depth != Depth::Name {
            if depth == Depth::Field
                && text.len() < self.longest
                && text.chars().nth(1).is_some()
                && self.all.contains(text)
            {
                breaks.push(after_first(0));
            }
            let lengths = (1..self.longest.min(text.len() + 1)).rev();
            for at in lengths.clone().map(|length| text.len() - length).filter(|&at| text.is_char_boundary(at)) {
                if self.heads.contains(&text[at..]) {
                    breaks.push(after_first(at));
                }
            }
            for length in lengths.filter(|&length| text.is_char_boundary(length)) {
                if self.tails.contains(&text[..length]) {
                    breaks.push(if text[..length].chars().nth(1).is_some() { after_first(0) } else { 0 });
                }
            }
        }
        breaks.sort_unstable();
        breaks.dedup();
        let mut marked = String::with_capacity(text.len() + breaks.len() * mark.len_utf8());
        let mut from = 0;
        for at in breaks {
            marked.push_str(&text[from..at]);
            marked.push(mark);
            from = at;
        }
        marked.push_str(&text[from..]);
        marked
    }

    /// The control tokens of a text, in their order.
    pub(super) fn tokens<'t>(&self, text: &'t str) -> impl Iterator<Item = &'t str> {
        self.first.find_iter(text).map(|found| &text[found.range()])
    }

    /// The rendered text in pieces, in their order. A plain piece reaches from one control token to the next, so that
    /// the tokenizer sees whole words.
    pub(super) fn pieces(&self, rendered: &str, mark: char) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let (mut parsed_from, mut plain_from) = (0, 0);
        let tokens = self.first.find_iter(rendered).map(|found| (found.start(), found.end()));
        for (start, end) in tokens.chain([(rendered.len(), rendered.len())]) {
            let stretch = &rendered[plain_from..start];
            if stretch.contains(mark) {
                pieces.push(Piece::Parsed(rendered[parsed_from..plain_from].to_owned()));
                let plain = stretch.replace(mark, "");
                if self.stubborn.iter().any(|spelling| plain.contains(spelling)) {
                    pieces.extend(stretch.split(mark).map(|part| Piece::Plain(part.to_owned())));
                } else {
                    pieces.push(Piece::Plain(plain));
                }
                parsed_from = start;
            }
            plain_from = end;
        }
        pieces.push(Piece::Parsed(rendered[parsed_from..].to_owned()));
        pieces.retain(|piece| !matches!(piece, Piece::Parsed(text) | Piece::Plain(text) if text.is_empty()));
        pieces
    }
}

/// The first possible mark that does not occur in the chat. The chat is read once.
fn unused_mark(chat: &Chat) -> Option<char> {
    let mut used = HashSet::new();
    let mut see = |text: &str| used.extend(text.chars().filter(|&character| may_be_mark(character)));
    let fields = chat.messages.iter().flat_map(|message| &message.0);
    for (name, value) in fields.chain(&chat.chat_template_kwargs) {
        see(name);
        each_text(value, &mut see);
    }
    chat.tools.iter().flatten().for_each(|tool| each_text(tool, &mut see));
    chat.chat_template.iter().for_each(|template| see(template));
    MARKS.into_iter().flatten().find(|mark| !used.contains(mark))
}

/// Visits every text in a value, including the names of fields.
fn each_text(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(items) => items.iter().for_each(|item| each_text(item, visit)),
        Value::Object(fields) => {
            for (name, value) in fields {
                visit(name);
                each_text(value, visit);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Message;
    use proptest::prelude::*;

    fn guard() -> Guard {
        let spellings = ["<|im_start|>", "<|im_end|>", "</s>", "[INST]", "[/INST]"].map(str::to_owned);
        Guard::new(spellings, vec!["</s>".to_owned()]).unwrap()
    }

    fn content(chat: &Chat) -> &str {
        chat.messages[0].fields()["content"].as_str().unwrap()
    }

    #[test]
    fn a_typed_control_token_is_plain_text_and_the_templates_own_is_not() {
        let chat = Chat::new([Message::user("hi <|im_end|> there")]);
        let (marked, mark) = guard().mark(&chat).unwrap();
        let pieces = guard().pieces(&format!("<|im_start|>user\n{}<|im_end|>\n", content(&marked)), mark);
        let parsed = |text: &str| Piece::Parsed(text.to_owned());
        let plain = Piece::Plain("user\nhi <|im_end|> there".to_owned());
        assert_eq!(pieces, [parsed("<|im_start|>"), plain, parsed("<|im_end|>\n")]);
    }

    #[test]
    fn a_spelling_that_is_a_token_in_plain_text_too_is_taken_apart() {
        let (marked, mark) = guard().mark(&Chat::new([Message::user("a</s>b")])).unwrap();
        let plain = |text: &str| Piece::Plain(text.to_owned());
        assert_eq!(guard().pieces(content(&marked), mark), [plain("a<"), plain("/s>b")]);
    }

    #[test]
    fn text_without_control_tokens_is_one_piece() {
        let chat = Chat::new([Message::user("hi there")]);
        let (marked, mark) = guard().mark(&chat).unwrap();
        assert_eq!(marked, chat);
        let rendered = "<|im_start|>user\nhi there<|im_end|>\n";
        assert_eq!(guard().pieces(rendered, mark), [Piece::Parsed(rendered.to_owned())]);
    }

    #[test]
    fn keys_and_fields_below_a_message_are_marked_like_its_text() {
        let nested = serde_json::json!({"role": "<|im_end|>", "<|im_end|>": ["</s>"]});
        let (marked, mark) = guard().mark(&Chat::new([Message::new("user", "hi").with("x", nested)])).unwrap();
        let written = serde_json::to_string(&marked).unwrap();
        assert_eq!(guard().tokens(&written).count(), 0, "{written}");
        assert_eq!(written.matches(mark).count(), 3);
    }

    #[test]
    fn the_mark_is_a_character_that_the_chat_does_not_contain() {
        let chat = Chat::new([Message::user("\u{fdd0}\u{fdd1}<|im_end|>")]);
        assert_eq!(guard().mark(&chat).unwrap().1, '\u{fdd2}');
    }

    #[test]
    fn a_chat_with_every_possible_mark_has_none() {
        let all: String = MARKS.into_iter().flatten().collect();
        let (last, most) = all.chars().next_back().zip(all.get(..all.len() - 4)).unwrap();
        assert_eq!(guard().mark(&Chat::new([Message::user(most)])).map(|(_, mark)| mark), Some(last));
        assert!(guard().mark(&Chat::new([Message::user(all)])).is_none());
    }

    proptest! {
        #[test]
        fn no_message_forges_a_token_whatever_stands_beside_it(
            messages in prop::collection::vec("(<|\\||im_|start|end|>|</s|\\[|INST|\\]|/|a| ){0,6}", 1..4),
            around in prop::collection::vec("(<\\||im_|end|\\|>|</|s>|\\[/|INST|\\]|b|<\\|im_end\\|>){0,2}", 4..5),
        ) {
            let guard = guard();
            let chat = Chat::new(messages.iter().map(Message::user));
            let (marked, mark) = guard.mark(&chat).unwrap();
            let mut rendered = around[0].clone();
            let mut plain = around[0].clone();
            // The bytes of the unmarked text that come from a message.
            let mut written = vec![false; plain.len()];
            for (at, message) in marked.messages.iter().enumerate() {
                let text = message.fields()["content"].as_str().unwrap();
                rendered.push_str(text);
                plain.push_str(&messages[at]);
                written.resize(plain.len(), true);
                rendered.push_str(&around[at + 1]);
                plain.push_str(&around[at + 1]);
                written.resize(plain.len(), false);
            }
            let mut joined = String::new();
            for piece in guard.pieces(&rendered, mark) {
                match piece {
                    Piece::Plain(text) => joined.push_str(&text),
                    Piece::Parsed(text) => {
                        for found in guard.first.find_iter(&text) {
                            let span = joined.len() + found.start()..joined.len() + found.end();
                            prop_assert!(!written[span.clone()].contains(&true), "{:?} of {plain:?}", &plain[span]);
                        }
                        joined.push_str(&text);
                    }
                }
            }
            prop_assert_eq!(joined, plain);
        }
    }
}
