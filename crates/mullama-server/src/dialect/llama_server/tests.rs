//! The frames of llama-server's answers, compared with golden files. With `MULLAMA_WRITE_GOLDEN=1` they are written.

use std::time::Duration;

use mullama::{FinishReason, MullamaError, StreamConfig};
use serde_json::{Value, json};

use super::fields::{APPLY_TEMPLATE, COMPLETION_TABLES, DETOKENIZE, PROMPT, TOKENIZE};
use super::frames::{CompletionDialect, Facts};
use super::options::{Options, read_config, selected};
use super::{ErrorDocument, error_response};
use crate::dialect::golden::{self, ending, progress, timeout, token};
use crate::error::ApiError;
use crate::generation::{Answer, Dialect, Ending, Event, Frames, Prefill};
use crate::json::Json;

/// Compares what was written with a golden file.
fn golden(name: &str, bytes: &[u8]) {
    golden::compare(&format!("tests/golden/llama_server/{name}"), &String::from_utf8_lossy(bytes));
}

fn dialect(options: Options) -> CompletionDialect {
    let facts = Facts {
        model: "demo".into(),
        prompts: vec!["Hello".into(), "Bye".into()],
        config: StreamConfig::new().max_tokens(3).temperature(0.7).logit_bias(vec![(5, -1.5)]),
        context_len: 4096,
        bytes_of: Box::new(|token| format!("<{token}>").into_bytes()),
    };
    CompletionDialect::new(facts, Options { count: 1, ..options })
}

fn said(choice: usize, text: &str) -> Event {
    Event::Token { choice, token: token(text, 0), progress: progress(1) }
}

fn answer(text: &str, ending: Ending) -> Answer {
    Answer { text: text.into(), tokens: text.chars().map(|letter| token(&letter.to_string(), 0)).collect(), ending }
}

fn streamed(mut dialect: CompletionDialect, events: &[Event]) -> Vec<u8> {
    let mut frames = Frames::default();
    dialect.start(&mut frames);
    for event in events {
        dialect.event(event, &mut frames);
    }
    dialect.finish(&mut frames);
    frames.take()
}

#[test]
fn a_streamed_answer_has_an_event_per_token_and_a_last_one_with_everything() {
    let options = Options { is_streamed: true, ..Options::default() };
    let events = [
        said(0, "Hel"),
        said(0, "lo\n"),
        Event::End { choice: 0, ending: ending(FinishReason::Length, None) },
        said(1, "By"),
        Event::End { choice: 1, ending: ending(FinishReason::Stop, Some("e")) },
    ];
    golden("stream.txt", &streamed(dialect(options), &events));
}

#[test]
fn timings_and_probabilities_come_with_each_token_if_asked_for() {
    let options = Options { is_streamed: true, timings_per_token: true, n_probs: 2, ..Options::default() };
    golden("stream-details.txt", &streamed(dialect(options), &[said(0, "é")]));
}

#[test]
fn a_client_may_be_told_how_far_its_prompt_is_computed() {
    let mut dialect = dialect(Options { is_streamed: true, returns_progress: true, ..Options::default() });
    let mut frames = Frames::default();
    assert!(dialect.tells_prefill());
    let elapsed = Duration::from_millis(150);
    dialect.prefill(0, &Prefill { total: 12, cached: 8, computed: 10, elapsed }, &mut frames);
    golden("stream-progress.txt", &frames.take());
}

#[test]
fn an_error_midway_is_an_event() {
    let mut frames = Frames::default();
    let mut dialect = dialect(Options::default());
    dialect.keep_alive(&mut frames);
    dialect.failed(&timeout(), &mut frames);
    golden("stream-error.txt", &frames.take());
}

fn pretty(document: &Value) -> Vec<u8> {
    format!("{}\n", serde_json::to_string_pretty(document).unwrap()).into_bytes()
}

#[test]
fn a_whole_answer_is_one_document_and_several_are_a_list() {
    let options = Options { returns_tokens: true, n_probs: 2, ..Options::default() };
    let one = [answer("Hi", ending(FinishReason::Stop, None))];
    golden("whole.txt", &pretty(&dialect(options).whole(&one)));
    let two = [answer("a\nb", ending(FinishReason::Stop, Some("x"))), answer("c", ending(FinishReason::Length, None))];
    let options = Options {
        fields: vec!["content".into(), "prompt".into(), "has_new_line".into(), "stop_type".into()],
        ..Options::default()
    };
    let documents = dialect(options).whole(&two);
    let wanted = json!([
        {"content": "a\nb", "prompt": "Hello", "has_new_line": true, "stop_type": "word"},
        {"content": "c", "prompt": "Bye", "has_new_line": false, "stop_type": "limit"},
    ]);
    assert_eq!(documents, wanted);
}

#[test]
fn response_fields_move_nested_fields_to_the_root_and_leave_out_what_is_missing() {
    let document = json!({"content": "x", "generation_settings": {"n_predict": 3}, "n_predict": 5});
    let paths = ["content", "generation_settings/n_predict", "missing", "content/x", ""].map(str::to_owned);
    assert_eq!(selected(document.clone(), &paths), json!({"content": "x", "n_predict": 3}));
    assert_eq!(selected(document.clone(), &[]), document);
}

fn read(body: &Value) -> Result<(StreamConfig, Options), ApiError> {
    let (body, mut config) = (Json::new(body, ""), StreamConfig::default());
    read_config(&body, &mut config)?;
    Ok((config, Options::read(&body)?))
}

#[test]
fn fields_set_the_config_and_wrong_ones_are_named() {
    let (config, options) =
        read(&json!({"n_predict": 5, "n_probs": 3, "stop": ["x"], "seed": -1, "n_cmpl": 2})).unwrap();
    assert_eq!((config.max_tokens, config.logprobs, config.seed), (5, Some(3), None));
    assert_eq!((options.count, options.n_probs), (2, 3));
    assert_eq!(read(&json!({"n_predict": -1, "n_probs": 0})).unwrap().0.logprobs, None);
    assert_eq!(read(&json!({"n_predict": -2})).unwrap().0.max_tokens, u32::MAX);
    for (name, value) in [
        ("n_predict", json!(-3)),
        ("n_predict", json!("5")),
        ("n_probs", json!(21)),
        ("n_cmpl", json!(0)),
        ("grammar", json!("root ::= x")),
        ("json_schema", json!({})),
        ("samplers", json!(["top_k"])),
        ("t_max_predict_ms", json!(5)),
        ("post_sampling_probs", json!(true)),
        ("sse_ping_interval", json!(0)),
        ("response_fields", json!("content")),
        ("image_data", json!([{}])),
        ("no_such_field", json!(1)),
        ("stream", json!(1)),
    ] {
        let error = read(&json!({name: value})).expect_err(name);
        assert_eq!((error.status.as_u16(), error.field.as_deref()), (400, Some(name)));
    }
}

#[test]
fn errors_have_llama_servers_types() {
    let document = |error: &ApiError| serde_json::to_value(ErrorDocument::of(error)).unwrap();
    let error = ApiError::field("prompt", "is required");
    let wanted = json!({"error": {"code": 400, "message": "prompt is required", "type": "invalid_request_error"}});
    assert_eq!(document(&error), wanted);
    assert_eq!(error_response(&error, "").status().as_u16(), 400);
    let too_long =
        MullamaError::ContextOverflow { prompt_tokens: 5000, context_len: 4096, is_lower_bound: false }.into();
    assert_eq!(document(&too_long)["error"]["type"], "exceed_context_size_error");
    assert_eq!(document(&ApiError::not_found("x"))["error"]["type"], "not_found_error");
}

#[test]
fn the_documentation_has_every_field() {
    golden::compare_page(
        "docs/server-fields-llama.md",
        "The fields of llama-server's requests",
        &[
            ("`/completion`", COMPLETION_TABLES),
            ("A `prompt` that is an object", &[PROMPT]),
            ("`/tokenize`", TOKENIZE),
            ("`/detokenize`", DETOKENIZE),
            ("`/apply-template`", APPLY_TEMPLATE),
        ],
    );
}
