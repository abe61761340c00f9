//! Chats of JavaScript: JSON, with the long texts beside it.
//!
//! V8 takes some 8 ms to write a text of 1 MB as JSON, and 0.4 ms to hand it over as it is. So the package puts long texts
//! into an array, and in the JSON a reference stands for each: the character [`REFERENCE`] and the text's index. A text
//! that begins with this character itself is always in the array, however short it is.

use mullama::Chat;
use serde_json::Value;

use crate::error::{Failure, wrong_type};

/// What a reference begins with; `node/src/prompt.ts` has the same.
const REFERENCE: char = '\u{1}';

/// A chat as the package hands it over: the JSON, and the texts that it refers to.
pub(crate) type Written = (String, Vec<String>);

/// The chat that the package wrote.
pub(crate) fn read((json, mut texts): Written) -> Result<Chat, Failure> {
    let mut chat: Value = serde_json::from_str(&json).map_err(wrong)?;
    if !texts.is_empty() {
        resolve(&mut chat, &mut texts);
    }
    serde_json::from_value(chat).map_err(wrong)
}

fn wrong(error: serde_json::Error) -> Failure {
    wrong_type(&error.to_string())
}

/// Puts the texts where their references are. JSON is nested at most 128 levels deep, which bounds the recursion.
fn resolve(value: &mut Value, texts: &mut [String]) {
    match value {
        Value::String(text) => {
            let index = text.strip_prefix(REFERENCE).and_then(|index| index.parse::<usize>().ok());
            if let Some(referenced) = index.and_then(|index| texts.get_mut(index)) {
                *text = std::mem::take(referenced);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| resolve(item, texts)),
        Value::Object(fields) => fields.values_mut().for_each(|field| resolve(field, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
