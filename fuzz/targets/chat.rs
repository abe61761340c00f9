//! As much of the crate's module `chat` as the guard sees.

use std::sync::LazyLock;

use serde::Serialize;
use serde_json::{Map, Value};

#[path = "../../crates/mullama-core/src/chat/guard.rs"]
mod guard;

#[derive(Debug, Clone, Serialize)]
pub struct Message(pub Map<String, Value>);

#[derive(Debug, Clone, Serialize)]
pub struct Chat {
    pub messages: Vec<Message>,
    pub tools: Option<Vec<Value>>,
    pub chat_template: Option<String>,
    pub chat_template_kwargs: Map<String, Value>,
}

const SPELLINGS: [&str; 6] = ["<|im_start|>", "<|im_end|>", "<s>", "</s>", "[INST]", "<|"];

static GUARD: LazyLock<guard::Guard> =
    LazyLock::new(|| guard::Guard::new(SPELLINGS.map(str::to_owned), Vec::new()).expect("a guard over six spellings"));

/// A chat whose only message says `content`.
fn said(content: &str) -> Chat {
    let fields = [("role", "user"), ("content", content)].map(|(name, text)| (name.to_owned(), Value::from(text)));
    let messages = vec![Message(fields.into_iter().collect())];
    Chat { messages, tools: None, chat_template: None, chat_template_kwargs: Map::new() }
}

/// Renders the content between `before` and `after`, as the simplest template does, and checks what is parsed.
pub fn check(before: &str, content: &str, after: &str) {
    let guard = &*GUARD;
    let Some((marked, mark)) = guard.mark(&said(content)) else { return };
    // Without a message, or with a template that writes the mark of this one chat, there is nothing to keep apart.
    if content.is_empty() || before.contains(mark) || after.contains(mark) {
        return;
    }
    let Some(Value::String(content_marked)) = marked.messages[0].0.get("content") else {
        panic!("the content is text")
    };
    assert_eq!(content_marked.replace(mark, ""), content);
    let rendered = format!("{before}{content_marked}{after}");
    let pieces = guard.pieces(&rendered, mark);
    let text: String = pieces
        .iter()
        .map(|piece| match piece {
            guard::Piece::Parsed(text) | guard::Piece::Plain(text) => text.replace(mark, ""),
        })
        .collect();
    assert_eq!(text, format!("{before}{content}{after}"));
    // Control tokens in parsed pieces are at most those that the template has without the message.
    let parsed: usize = pieces
        .iter()
        .map(|piece| match piece {
            guard::Piece::Parsed(text) => guard.tokens(text).count(),
            guard::Piece::Plain(_) => 0,
        })
        .sum();
    let own = guard.tokens(before).count() + guard.tokens(after).count();
    assert!(parsed <= own, "{parsed} control tokens are parsed, and the template has {own}");
}
