//! The frames of answers, as JSON: `token`, `done` and `error`.

use mullama::{Token, TokenId};
use serde::Serialize;
use serde_json::Value;

use super::frame::{Opcode, encode};
use crate::error::ApiError;
use crate::generation::{Ending, Progress};

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
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        top_logprobs: &'a [(TokenId, f32)],
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
    let logprob = token.logprob.map(|logprob| logprob.max(f32::MIN));
    write(&Answer::Token { id: id.as_ref(), text: &token.text, logprob, top_logprobs: &token.top_logprobs }, out);
}

/// The end of an answer.
pub(super) fn done(id: &Id, ending: &Ending, out: &mut Vec<u8>) {
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

/// The error of a request or of a message.
pub(super) fn error(id: &Id, error: &ApiError, out: &mut Vec<u8>) {
    let answer = Answer::Error {
        id: id.as_ref(),
        code: error.code,
        message: &error.message,
        field: error.field.as_deref(),
        retry_after: error.retry_after,
    };
    write(&answer, out);
}
