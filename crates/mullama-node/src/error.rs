//! Every error of the core as JavaScript gets it: a code, and the rest as JSON, of which the package makes its own error.

use mullama::{Fact, MullamaError as E, StreamFailure};
use napi_derive::napi;
use serde_json::{Map, Value, json};

use crate::value::camel_case;

/// What a native function throws. Its code is that of the error; its message is the JSON that the package reads.
pub(crate) type Failure = napi::Error<String>;

/// The code of a value of a wrong type, of which the package makes a `TypeError`.
const WRONG_TYPE: &str = "WRONG_TYPE";

/// The error for JavaScript.
pub(crate) fn failure(error: E) -> Failure {
    let facts: Map<String, Value> = error.facts().into_iter().map(|(name, fact)| fact_of(name, fact)).collect();
    let whole = json!({ "class": error.class(), "message": message(&error), "facts": facts });
    Failure::new(error.code().to_owned(), whole.to_string())
}

/// The core's classes of errors with their codes, as JSON.
#[napi]
pub(crate) fn error_classes() -> String {
    json!(E::CLASSES).to_string()
}

/// A `TypeError` with this message.
pub(crate) fn wrong_type(message: &str) -> Failure {
    Failure::new(WRONG_TYPE.to_owned(), json!({ "class": "TypeError", "message": message, "facts": {} }).to_string())
}

/// A thread that has ended without an answer.
pub(crate) fn ended() -> E {
    E::StreamingError(StreamFailure::EngineEnded)
}

fn fact_of(name: &'static str, fact: Fact<'_>) -> (String, Value) {
    let value = match fact {
        // The names of settings are facts too.
        Fact::Text(text) if name == "field" || name == "deadline" => camel_case(&text).into(),
        Fact::Text(text) if name == "range" => in_javascript(&text).into(),
        Fact::Text(text) => text.into(),
        Fact::Texts(texts) => texts.to_vec().into(),
        Fact::Number(number) => number.into(),
        Fact::Flag(flag) => flag.into(),
        Fact::Path(path) => path.to_string_lossy().into(),
        _ => Value::Null,
    };
    (camel_case(name), value)
}

/// The message, with the names that settings have in JavaScript.
fn message(error: &E) -> String {
    match error {
        E::InvalidConfig { field, value, range } => {
            format!("{} is {value}, but must be {}", camel_case(field), in_javascript(range))
        }
        // They name settings, and nothing in them comes from outside.
        E::ContextOverflow { .. }
        | E::Overloaded { .. }
        | E::PausedOverloaded { .. }
        | E::Displaced { .. }
        | E::StreamTimeout { .. } => camel_case(&error.message()),
        E::StreamingError(StreamFailure::ModelFileChanged { .. }) => error.message().replace("use_mmap", "useMmap"),
        _ => error.message(),
    }
}

/// A range in JavaScript's words.
fn in_javascript(range: &str) -> String {
    range.replace("None", "null")
}
