//! The frames of answers, as JSON: `token`, `done` and `error`.

use mullama::{Token, TokenId};
use serde::Serialize;
use serde_json::Value;

use super::frame::{Opcode, encode};
use crate::error::ApiError;
use crate::generation::{Ending, Progress, finite};

/// The id of a request, which its frames repeat; requests without an id have frames without one.
pub(super) type Id = Option<Value>;

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Answer<'a> {
    Token {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a Value>,
        text: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        logprob: Option<f32>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        top_logprobs: Vec<(TokenId, f32)>,
    },
    Done {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a Value>,
        finish_reason: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        stop_sequence: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        seed: Option<u32>,
        usage: UsageBody,
    },
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a Value>,
        code: &'a str,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        field: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
        /// The request of this id runs on; only the message was refused.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        request_continues: bool,
    },
}

#[derive(Debug, Serialize)]
struct UsageBody {
    #[serde(rename = "prompt_tokens")]
    prompt: usize,
    #[serde(rename = "cached_tokens")]
    cached: usize,
    #[serde(rename = "completion_tokens")]
    completion: usize,
}

impl UsageBody {
    fn of(progress: &Progress) -> Self {
        let usage = progress.usage;
        Self { prompt: usage.prompt_tokens, cached: usage.cached_tokens, completion: usage.completion_tokens }
    }
}

fn write(answer: &Answer<'_>, out: &mut Vec<u8>) {
    // These values cannot fail: they have no maps with keys that are no text.
    encode(Opcode::Text, &serde_json::to_vec(answer).unwrap_or_default(), out);
}

/// One token. Its text may be empty, so that credits can be counted by frames.
pub(super) fn token(id: &Id, token: &Token, out: &mut Vec<u8>) {
    let logprob = token.logprob.map(finite);
    let top_logprobs = token.top_logprobs.iter().map(|(id, logprob)| (*id, finite(*logprob))).collect();
    write(&Answer::Token { id: id.as_ref(), text: &token.text, logprob, top_logprobs }, out);
}

/// The end of a request: that of its answer, or an error.
pub(super) fn ended(id: &Id, ended: &Result<Ending, ApiError>, out: &mut Vec<u8>) {
    match ended {
        Ok(ending) => done(id, ending, out),
        Err(failed) => error(id, failed, out),
    }
}

/// The end of an answer.
fn done(id: &Id, ending: &Ending, out: &mut Vec<u8>) {
    let answer = Answer::Done {
        id: id.as_ref(),
        finish_reason: ending.reason.as_str(),
        stop_sequence: ending.stop_sequence.as_deref(),
        seed: Some(ending.seed),
        usage: UsageBody::of(&ending.progress),
    };
    write(&answer, out);
}

/// The end of an answer that the client cancelled, maybe before it started.
pub(super) fn cancelled(id: &Id, progress: &Progress, out: &mut Vec<u8>) {
    let usage = UsageBody::of(progress);
    write(&Answer::Done { id: id.as_ref(), finish_reason: "cancelled", stop_sequence: None, seed: None, usage }, out);
}

/// The error that ends a request.
pub(super) fn error(id: &Id, error: &ApiError, out: &mut Vec<u8>) {
    write(&error_answer(id, error, false), out);
}

/// The error of a message that names a request which runs on.
pub(super) fn refusal(id: &Id, error: &ApiError, out: &mut Vec<u8>) {
    write(&error_answer(id, error, true), out);
}

fn error_answer<'a>(id: &'a Id, error: &'a ApiError, request_continues: bool) -> Answer<'a> {
    Answer::Error {
        id: id.as_ref(),
        code: error.code,
        message: &error.message,
        field: error.field.as_deref(),
        retry_after: error.retry_after,
        request_continues,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_impossible_has_a_number_in_its_frame() {
        for impossible in [f32::NEG_INFINITY, f32::NAN, f32::INFINITY] {
            let (text, top_logprobs) = ("a".to_owned(), vec![(97, -0.5), (98, impossible)]);
            let logprob = Some(impossible);
            let token = Token { text, id: Some(97), bytes: Vec::new(), index: 0, logprob, top_logprobs };
            let mut out = Vec::new();
            super::token(&Some(7.into()), &token, &mut out);
            let frame: Value = serde_json::from_slice(&out[2..]).expect("valid JSON");
            let wanted = serde_json::json!({
                "type": "token", "id": 7, "text": "a", "logprob": -9999.0, "top_logprobs": [[97, -0.5], [98, -9999.0]]
            });
            assert_eq!(frame, wanted);
        }
    }
}
