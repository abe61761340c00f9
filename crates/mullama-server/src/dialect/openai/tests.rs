//! The frames of each kind of answer, compared with golden files, and the documentation of the fields with the tables.
//!
//! With `MULLAMA_WRITE_GOLDEN=1` the files are written instead.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mullama::{FinishReason, Model, ModelOptions};
use serde_json::{Value, json};

use super::chat_frames::ChatDialect;
use super::completion_frames::CompletionDialect;
use super::document::Head;
use super::fields::{
    CHAT_TABLES, COMPLETION_TABLES, RESPONSE_MESSAGE, RESPONSE_REASONING, RESPONSE_REASONING_ITEM,
    RESPONSE_STREAM_OPTIONS, RESPONSE_TABLES, RESPONSE_TEXT, STREAM_OPTIONS,
};
use super::options::Options;
use super::responses::{Echo, ResponseDialect};
use crate::dialect::golden::{self, compare, ending, progress, timeout, token};
use crate::dialect::messages::{FUNCTION, MESSAGE, OUTPUT_TEXT, TEXT, TOOL_CALL};
use crate::generation::{Answer, Dialect, Event, Frames, Prefill};
use crate::json::{Field, Handling, Json, markdown};

fn repository(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(path)
}

/// Compares what was written with a golden file, which knows no version.
fn golden(name: &str, bytes: &[u8]) {
    let text = String::from_utf8(bytes.to_vec()).unwrap().replace(env!("CARGO_PKG_VERSION"), "VERSION");
    compare(&format!("tests/golden/openai/{name}"), &text);
}

fn golden_document(name: &str, document: &Value) {
    golden(name, golden::document(document).as_bytes());
}

fn head(id: &str) -> Head {
    static MODEL: OnceLock<Arc<Model>> = OnceLock::new();
    let model = MODEL.get_or_init(|| {
        let options = ModelOptions { vocab_only: true, ..ModelOptions::default() };
        Arc::new(Model::load_with(repository("python/mullama/models/demo.gguf"), &options, None).unwrap())
    });
    Head { id: id.into(), created: 1_700_000_000, name: "demo".into(), model: Arc::clone(model) }
}

fn said(choice: usize, text: &str) -> Event {
    Event::Token { choice, token: token(text, 0), progress: progress(1) }
}

fn ended(choice: usize, reason: FinishReason) -> Event {
    Event::End { choice, ending: ending(reason, None) }
}

fn answer(text: &str, reason: FinishReason) -> Answer {
    let tokens = text.chars().enumerate().map(|(index, letter)| token(&letter.to_string(), index)).collect();
    Answer { text: text.into(), tokens, ending: ending(reason, None) }
}

/// What a dialect writes of events that end well.
fn streamed(mut dialect: impl Dialect, events: &[Event]) -> Vec<u8> {
    let mut frames = Frames::default();
    dialect.start(&mut frames);
    for event in events {
        dialect.event(event, &mut frames);
    }
    dialect.finish(&mut frames);
    frames.take()
}

/// What a dialect writes if the stream fails after one token.
fn failed(mut dialect: impl Dialect) -> Vec<u8> {
    let mut frames = Frames::default();
    dialect.start(&mut frames);
    dialect.event(&said(0, "Hel"), &mut frames);
    dialect.failed(&timeout(), &mut frames);
    frames.take()
}

const STREAMED: Options = Options {
    n: 1,
    stream: true,
    include_usage: false,
    timings_per_token: false,
    return_progress: false,
    logprobs: false,
};

fn chat(options: Options) -> ChatDialect {
    ChatDialect::new(head("chatcmpl-1"), options)
}

fn response(body: &Value, logprobs: Option<u32>) -> ResponseDialect {
    let config = mullama::StreamConfig::new().temperature(0.7).logprobs(logprobs);
    let echo = Echo::read(&Json::new(body, ""), &config).unwrap();
    ResponseDialect::new(head("resp_1"), "msg_1".into(), echo, || 1_700_000_002)
}

#[test]
fn a_chat_has_the_role_first_and_one_finish_reason_and_then_the_usage() {
    let events = [said(0, "Hel"), said(0, ""), said(0, "lo\n\"you\""), ended(0, FinishReason::Stop)];
    let options = Options { include_usage: true, ..STREAMED };
    golden("chat-stream.txt", &streamed(chat(options), &events));
}

#[test]
fn the_choices_of_a_chat_end_one_by_one_and_the_usage_counts_the_prompt_once() {
    let events =
        [said(1, "b"), said(0, "a"), ended(1, FinishReason::Length), said(0, "a"), ended(0, FinishReason::Stop)];
    let options = Options { n: 2, include_usage: true, timings_per_token: true, ..STREAMED };
    golden("chat-choices.txt", &streamed(chat(options), &events));
}

#[test]
fn the_log_probabilities_of_a_chat_have_bytes_and_no_infinity() {
    let events = [said(0, "a"), ended(0, FinishReason::Stop)];
    golden("chat-logprobs.txt", &streamed(chat(Options { logprobs: true, ..STREAMED }), &events));
}

#[test]
fn a_chat_tells_how_far_its_prompt_is_computed() {
    let mut frames = Frames::default();
    let mut dialect = chat(Options { return_progress: true, ..STREAMED });
    assert!(dialect.tells_prefill());
    dialect.start(&mut frames);
    let prefill = Prefill { total: 4000, cached: 8, computed: 512, elapsed: Duration::from_millis(1500) };
    dialect.prefill(0, &prefill, &mut frames);
    golden("chat-progress.txt", &frames.take());
}

#[test]
fn a_stream_that_fails_midway_says_so_in_an_event() {
    golden("chat-failed.txt", &failed(chat(STREAMED)));
    golden("completion-failed.txt", &failed(CompletionDialect::new(head("cmpl-1"), STREAMED, 1, Vec::new())));
    golden("response-failed.txt", &failed(response(&json!({}), None)));
}

#[test]
fn a_whole_chat_is_one_document() {
    let options = Options { stream: false, logprobs: true, ..STREAMED };
    golden_document("chat-whole.json", &chat(options).whole(&[answer("é", FinishReason::Length)]));
}

#[test]
fn completions_echo_each_prompt_before_each_of_its_answers() {
    let options = Options { n: 2, include_usage: true, ..STREAMED };
    let dialect = CompletionDialect::new(head("cmpl-1"), options, 2, vec!["One".into(), "Two".into()]);
    let mut events = vec![said(3, " and"), said(0, " is")];
    events.extend((0..4).map(|choice| ended(choice, FinishReason::Length)));
    golden("completion-stream.txt", &streamed(dialect, &events));
}

#[test]
fn the_log_probabilities_of_a_completion_are_lists_with_the_offsets_of_tokens() {
    let options = Options { logprobs: true, ..STREAMED };
    let dialect = || CompletionDialect::new(head("cmpl-1"), options, 1, Vec::new());
    golden(
        "completion-logprobs.txt",
        &streamed(dialect(), &[said(0, "éa"), said(0, "b"), ended(0, FinishReason::Stop)]),
    );
    golden_document("completion-whole.json", &dialect().whole(&[answer("éb", FinishReason::Stop)]));
}

#[test]
fn a_response_has_all_events_in_order() {
    let body = json!({
        "instructions": "Be brief.", "metadata": {"a": "b"}, "max_output_tokens": 9, "reasoning": {"effort": "low"},
    });
    let events = [said(0, "Hel"), said(0, ""), said(0, "lo"), ended(0, FinishReason::Stop)];
    golden("response-stream.txt", &streamed(response(&body, None), &events));
}

#[test]
fn a_response_that_is_cut_is_incomplete() {
    let events = [said(0, "Hel"), ended(0, FinishReason::Length)];
    golden("response-incomplete.txt", &streamed(response(&json!({}), Some(2)), &events));
    let whole = response(&json!({"user": "me"}), None).whole(&[answer("Hello", FinishReason::Stop)]);
    golden_document("response-whole.json", &whole);
}

#[test]
fn every_field_that_sets_a_setting_names_one_that_exists() {
    let tables = [CHAT_TABLES, COMPLETION_TABLES, RESPONSE_TABLES].concat();
    for field in tables.iter().flat_map(|table| table.iter()) {
        let Handling::Sets(name) = field.handling else { continue };
        assert!(mullama::StreamConfig::FIELDS.contains(&name), "{name}");
    }
}

#[test]
fn the_documentation_has_every_field() {
    let sections: [(&str, &[&[Field]]); 14] = [
        ("## `/v1/chat/completions`", CHAT_TABLES),
        ("## `/v1/completions`", COMPLETION_TABLES),
        ("## `stream_options` of chat completions and completions", &[STREAM_OPTIONS]),
        ("## A message of `messages`", &[MESSAGE]),
        ("## A call in `tool_calls`", &[TOOL_CALL]),
        ("## `function` of a call", &[FUNCTION]),
        ("## A part of a `content`: `text` and `input_text`", &[TEXT]),
        ("## A part of a `content`: `output_text`", &[OUTPUT_TEXT]),
        ("## `/v1/responses`", RESPONSE_TABLES),
        ("## A message of `input`", &[RESPONSE_MESSAGE]),
        ("## An item of `input` that is earlier reasoning", &[RESPONSE_REASONING_ITEM]),
        ("## `stream_options` of responses", &[RESPONSE_STREAM_OPTIONS]),
        ("## `text` of responses", &[RESPONSE_TEXT]),
        ("## `reasoning` of responses", &[RESPONSE_REASONING]),
    ];
    let mut page = String::from(
        "# The fields of OpenAI's requests\n\nEvery field is honoured, or refused with status 400 and its name; none is \
         silently ignored. A field that is null counts as left out. A number that is no integer is read as the \
         nearest 64-bit float. This page is written from the tables in the server's code.\n",
    );
    for (title, tables) in sections {
        page.extend(["\n", title, "\n\n", &markdown(tables)]);
    }
    compare("docs/server-fields.md", &page);
}
