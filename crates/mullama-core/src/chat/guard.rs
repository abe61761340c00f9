//! Keeps what somebody wrote in a message from becoming control tokens: `<|im_end|>` that a user typed stays letters.
//!
//! Templates are programs, so nobody can tell from the rendered text alone who wrote what. Before rendering, a mark goes
//! into every place of a message where a control token could be read, alone or together with what the template puts
//! beside it. What the template writes itself has no mark and is found as ever. A stretch of text with a mark in it is
//! tokenized as plain text, without the mark.

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::Value;

use super::Chat;

/// Characters that Unicode will never give a meaning, then a plane for private use.
const MARKS: [std::ops::RangeInclusive<char>; 2] = ['\u{fdd0}'..='\u{fdef}', '\u{f0000}'..='\u{ffffd}'];

/// Whether a character may be a mark: nothing is to escape it, for it is taken out again.
pub(super) fn may_be_mark(character: char) -> bool {
    MARKS.iter().any(|marks| marks.contains(&character))
}

/// A stretch of a rendered prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Control tokens in it are meant.
    Parsed(String),
    /// Letters alone.
    Plain(String),
}

/// How far a text is from what somebody said. Templates compare words like "text" and "function" inside a message, so
/// there less is marked: nobody writes a template that completes a control token around those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// A field of a message, such as its content.
    Said,
    /// A text in a list or a mapping.
    Part,
    /// The name of a field there.
    Name,
}

/// Knows how the control tokens of a vocabulary are spelled.
#[derive(Debug)]
pub(super) struct Guard {
    spellings: Vec<String>,
    /// Those of them that the tokenizer reads as tokens in plain text, too: a text with one of them is tokenized in parts.
    stubborn: Vec<String>,
    /// Finds every spelling, overlapping ones too.
    any: AhoCorasick,
    /// Finds the spellings as the tokenizer would: from the left, the longest.
    first: AhoCorasick,
}

impl Guard {
    /// A guard for control tokens of these spellings. One of a single character cannot be told from the character.
    pub(super) fn new(
        spellings: impl IntoIterator<Item = String>,
        stubborn: Vec<String>,
    ) -> Result<Self, aho_corasick::BuildError> {
        let spellings: Vec<String> = spellings.into_iter().filter(|spelling| spelling.chars().count() > 1).collect();
        let any = AhoCorasick::new(&spellings)?;
        let first = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&spellings)?;
        Ok(Self { spellings, stubborn, any, first })
    }

    /// The chat with marks in what people, models and tools wrote, and the mark: a character that it does not contain.
    pub(super) fn mark(&self, chat: &Chat) -> (Chat, char) {
        let written = serde_json::to_string(chat).unwrap_or_default();
        let mark = MARKS.into_iter().flatten().find(|&mark| !written.contains(mark)).unwrap_or('\u{fdd0}');
        let mut marked = chat.clone();
        for message in &mut marked.messages {
            // A role is chosen by the program, and templates compare it.
            for (_, value) in message.0.iter_mut().filter(|(name, _)| *name != "role") {
                match value {
                    Value::String(text) => *text = self.break_up(text, mark, Depth::Said),
                    value => self.mark_value(value, mark),
                }
            }
        }
        marked.tools.iter_mut().flatten().for_each(|tool| self.mark_value(tool, mark));
        if let Some(documents) = marked.chat_template_kwargs.get_mut("documents") {
            self.mark_value(documents, mark);
        }
        (marked, mark)
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

    /// The text with the mark in every place where a spelling stands, begins at the text's end, ended before its start, or
    /// surrounds it.
    fn break_up(&self, text: &str, mark: char, depth: Depth) -> String {
        let after_first = |from: usize| from + text[from..].chars().next().map_or(0, char::len_utf8);
        let mut breaks: Vec<usize> =
            self.any.find_overlapping_iter(text).map(|found| after_first(found.start())).collect();
        let beside = if depth == Depth::Name { &[][..] } else { &self.spellings[..] };
        for spelling in beside {
            if depth == Depth::Said && text.chars().nth(1).is_some() && spelling.contains(text) {
                breaks.push(after_first(0));
            }
            for (at, _) in spelling.char_indices().skip(1) {
                let (head, tail) = spelling.split_at(at);
                if text.ends_with(head) {
                    breaks.push(after_first(text.len() - head.len()));
                }
                if text.starts_with(tail) {
                    breaks.push(if tail.chars().nth(1).is_some() { after_first(0) } else { 0 });
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

    /// The rendered text in pieces, in their order. A plain one reaches from one control token to the next, so that the
    /// tokenizer sees whole words.
    pub(super) fn pieces(&self, rendered: &str, mark: char) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let (mut parsed_from, mut plain_from) = (0, 0);
        let tokens = self.first.find_iter(rendered).map(|found| (found.start(), found.end()));
        for (start, end) in tokens.chain([(rendered.len(), rendered.len())]) {
            let stretch = &rendered[plain_from..start];
            if stretch.contains(mark) {
                pieces.push(Piece::Parsed(rendered[parsed_from..plain_from].to_owned()));
                let letters = stretch.replace(mark, "");
                if self.stubborn.iter().any(|spelling| letters.contains(spelling)) {
                    pieces.extend(stretch.split(mark).map(|part| Piece::Plain(part.to_owned())));
                } else {
                    pieces.push(Piece::Plain(letters));
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
        let (marked, mark) = guard().mark(&chat);
        let pieces = guard().pieces(&format!("<|im_start|>user\n{}<|im_end|>\n", content(&marked)), mark);
        let parsed = |text: &str| Piece::Parsed(text.to_owned());
        let plain = Piece::Plain("user\nhi <|im_end|> there".to_owned());
        assert_eq!(pieces, [parsed("<|im_start|>"), plain, parsed("<|im_end|>\n")]);
    }

    #[test]
    fn a_spelling_that_is_a_token_in_plain_text_too_is_taken_apart() {
        let (marked, mark) = guard().mark(&Chat::new([Message::user("a</s>b")]));
        let plain = |text: &str| Piece::Plain(text.to_owned());
        assert_eq!(guard().pieces(content(&marked), mark), [plain("a<"), plain("/s>b")]);
    }

    #[test]
    fn text_without_control_tokens_is_one_piece() {
        let chat = Chat::new([Message::user("hi there")]);
        let (marked, mark) = guard().mark(&chat);
        assert_eq!(marked, chat);
        let rendered = "<|im_start|>user\nhi there<|im_end|>\n";
        assert_eq!(guard().pieces(rendered, mark), [Piece::Parsed(rendered.to_owned())]);
    }

    #[test]
    fn keys_and_fields_below_a_message_are_marked_like_its_text() {
        let nested = serde_json::json!({"role": "<|im_end|>", "<|im_end|>": ["</s>"]});
        let (marked, mark) = guard().mark(&Chat::new([Message::new("user", "hi").with("x", nested)]));
        let written = serde_json::to_string(&marked).unwrap();
        assert_eq!(guard().tokens(&written).count(), 0, "{written}");
        assert_eq!(written.matches(mark).count(), 3);
    }

    #[test]
    fn the_mark_is_a_character_that_nobody_wrote() {
        let chat = Chat::new([Message::user("\u{fdd0}\u{fdd1}<|im_end|>")]);
        assert_eq!(guard().mark(&chat).1, '\u{fdd2}');
    }

    proptest! {
        #[test]
        fn no_message_forges_a_token_whatever_stands_beside_it(
            messages in prop::collection::vec("(<|\\||im_|start|end|>|</s|\\[|INST|\\]|/|a| ){0,6}", 1..4),
            around in prop::collection::vec("(<\\||im_|end|\\|>|</|s>|\\[/|INST|\\]|b|<\\|im_end\\|>){0,2}", 4..5),
        ) {
            let guard = guard();
            let chat = Chat::new(messages.iter().map(Message::user));
            let (marked, mark) = guard.mark(&chat);
            let mut rendered = around[0].clone();
            let mut letters = around[0].clone();
            // Which bytes of the letters a message wrote.
            let mut written = vec![false; letters.len()];
            for (at, message) in marked.messages.iter().enumerate() {
                let text = message.fields()["content"].as_str().unwrap();
                rendered.push_str(text);
                letters.push_str(&messages[at]);
                written.resize(letters.len(), true);
                rendered.push_str(&around[at + 1]);
                letters.push_str(&around[at + 1]);
                written.resize(letters.len(), false);
            }
            let mut joined = String::new();
            for piece in guard.pieces(&rendered, mark) {
                match piece {
                    Piece::Plain(text) => joined.push_str(&text),
                    Piece::Parsed(text) => {
                        for found in guard.first.find_iter(&text) {
                            let place = joined.len() + found.start()..joined.len() + found.end();
                            prop_assert!(!written[place.clone()].contains(&true), "{:?} of {letters:?}", &letters[place]);
                        }
                        joined.push_str(&text);
                    }
                }
            }
            prop_assert_eq!(joined, letters);
        }
    }
}
