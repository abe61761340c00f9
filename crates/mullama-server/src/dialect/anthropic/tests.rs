//! The events of each kind of answer, compared with golden files.

use axum::http::StatusCode;
use mullama::{FinishReason, Usage};

use super::errors::ErrorDocument;
use super::fields::{
    COUNT_TABLES, MESSAGE_FIELDS, MESSAGE_TABLES, OUTPUT_CONFIG, REDACTED_BLOCK, TEXT_BLOCK, THINKING, THINKING_BLOCK,
    TOOL_CHOICE,
};
use super::frames::MessageDialect;
use crate::dialect::golden::{compare, compare_page, document, ended, ending, said, streamed, whole};
use crate::error::ApiError;

fn golden(name: &str, text: &str) {
    compare(&format!("tests/golden/anthropic/{name}"), text);
}

fn dialect(max_tokens: u32) -> MessageDialect {
    MessageDialect {
        id: "msg_1".into(),
        request_id: "req_1".into(),
        model: "demo".into(),
        max_tokens,
        usage: Usage::default(),
    }
}

#[test]
fn a_message_has_all_events_in_order_and_no_empty_delta() {
    let events = [said("Hel"), said(""), said("lo\n\"you\""), ended(FinishReason::Stop, None)];
    golden("stream.txt", &streamed(dialect(9), &events));
}

#[test]
fn a_message_that_a_stop_sequence_ended_names_it() {
    let events = [said("Hel"), ended(FinishReason::Stop, Some("lo"))];
    golden("stop-sequence.txt", &streamed(dialect(9), &events));
}

#[test]
fn the_limit_of_the_client_and_that_of_the_context_have_names_of_their_own() {
    let cut = || [said("Hello"), ended(FinishReason::Length, None)];
    golden("max-tokens.txt", &streamed(dialect(3), &cut()));
    let at_the_end_of_the_context = streamed(dialect(4), &cut());
    assert!(at_the_end_of_the_context.contains(r#""stop_reason":"model_context_window_exceeded""#));
}

#[test]
fn a_silence_is_broken_by_a_ping_and_an_error_midway_is_an_event() {
    golden("failed.txt", &streamed(dialect(9), &[said("Hel")]));
}

#[test]
fn a_whole_message_is_one_document() {
    golden("whole.json", &whole(dialect(9), "Hello", ending(FinishReason::Stop, Some("END"))));
}

#[test]
fn errors_have_the_type_of_their_status_and_the_id_of_the_request() {
    let of = |status: u16| {
        let error = ApiError::new(StatusCode::from_u16(status).unwrap(), "CODE", "the reason");
        document(&serde_json::to_value(ErrorDocument::of(&error, "req_1")).unwrap())
    };
    let all: Vec<String> = [400, 401, 403, 404, 405, 408, 413, 429, 500, 502, 503, 504]
        .into_iter()
        .map(|status| format!("{status}\n{}", of(status)))
        .collect();
    golden("errors.txt", &all.concat());
}

#[test]
fn the_documentation_has_every_field() {
    compare_page(
        "docs/server-fields-anthropic.md",
        "The fields of Anthropic's requests",
        &[
            ("`/v1/messages`", MESSAGE_TABLES),
            ("`/v1/messages/count_tokens`", COUNT_TABLES),
            ("A message of `messages`", &[MESSAGE_FIELDS]),
            ("A block of type `text`", &[TEXT_BLOCK]),
            ("A block of type `thinking`", &[THINKING_BLOCK]),
            ("A block of type `redacted_thinking`", &[REDACTED_BLOCK]),
            ("`thinking`", &[THINKING]),
            ("`tool_choice`", &[TOOL_CHOICE]),
            ("`output_config`", &[OUTPUT_CONFIG]),
        ],
    );
}
