//! The control path of the program, for tests and documentation in other languages.
//!
//! `POST /_control/faults` adds a [`Rule`]; `DELETE /_control/faults` removes all. `GET /_control/requests` is the log;
//! `DELETE /_control/requests` empties it. `POST /_control/expire` makes signatures and tokens invalid. `POST
//! /_control/direct` answers blobs without a redirection, `DELETE /_control/direct` with one.

use serde_json::json;

use crate::Rule;
use crate::answer::Answer;
use crate::server::Shared;

/// Answers a request below `/_control/`.
pub(crate) fn answer(shared: &Shared, method: &str, path: &str, body: &[u8]) -> Answer {
    match (method, path) {
        ("POST", "faults") => match serde_json::from_slice::<Rule>(body) {
            Ok(rule) => shared.state().rules.push(rule),
            Err(error) => return Answer::json(400, &json!({"error": error.to_string()})),
        },
        ("DELETE", "faults") => shared.state().rules.clear(),
        ("GET", "requests") => {
            let requests = shared.state().requests.clone();
            let log = serde_json::to_vec(&requests).expect("texts and numbers are JSON");
            return Answer::text(200, "application/json", log);
        }
        ("DELETE", "requests") => shared.state().requests.clear(),
        ("POST", "expire") => shared.state().expire(),
        ("POST" | "DELETE", "direct") => shared.state().set_direct(method == "POST"),
        _ => return Answer::json(404, &json!({"error": format!("no {method} of {path}")})),
    }
    Answer::json(200, &json!({}))
}
