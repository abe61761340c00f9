//! The lines of each kind of answer, compared with golden files.

use std::time::{Duration, SystemTime};

use mullama::FinishReason;

use super::fields::{CHAT_TABLES, DELETE_TABLES, GENERATE_TABLES, MESSAGE, OPTION_TABLES, PULL_TABLES, SHOW_TABLES};
use super::frames::{AnswerDialect, Endpoint};
use super::inventory::parameter_size;
use crate::dialect::golden::{compare, compare_page, document, ended, ending, said, streamed, whole};

fn golden(name: &str, text: &str) {
    compare(&format!("tests/golden/ollama/{name}"), text);
}

fn dialect(endpoint: Endpoint) -> AnswerDialect {
    let clock = || SystemTime::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_000_000_007);
    AnswerDialect { endpoint, model: "demo".into(), load: Duration::from_micros(1500), logprobs: None, clock }
}

#[test]
fn a_prompt_is_answered_in_lines_and_the_last_has_the_counts_and_the_nanoseconds() {
    let events = [said("Hel"), said(""), said("lo\n"), ended(FinishReason::Stop, Some("END"))];
    golden("generate-stream.txt", &streamed(dialect(Endpoint::Generate), &events));
}

#[test]
fn a_chat_is_answered_in_messages_and_says_that_its_limit_was_reached() {
    let events = [said("Hel"), said("lo"), ended(FinishReason::Length, None)];
    golden("chat-stream.txt", &streamed(dialect(Endpoint::Chat), &events));
}

#[test]
fn a_silence_is_broken_by_an_empty_piece_and_an_error_midway_is_a_line() {
    golden("generate-failed.txt", &streamed(dialect(Endpoint::Generate), &[said("Hel")]));
    golden("chat-failed.txt", &streamed(dialect(Endpoint::Chat), &[said("Hel")]));
}

#[test]
fn a_whole_answer_is_one_document() {
    golden("generate-whole.json", &whole(dialect(Endpoint::Generate), "Hello", ending(FinishReason::Stop, None)));
    golden("chat-whole.json", &whole(dialect(Endpoint::Chat), "Hello", ending(FinishReason::Length, None)));
}

#[test]
fn a_request_without_a_prompt_is_told_that_the_model_is_there() {
    golden("load.json", &document(&dialect(Endpoint::Generate).without_prompt("load")));
    golden("unload.json", &document(&dialect(Endpoint::Chat).without_prompt("unload")));
}

#[test]
fn numbers_of_weights_are_written_as_people_do() {
    let written = [7, 2_160_000, 494_032_768, 1_235_814_432, 70_553_706_496].map(parameter_size);
    assert_eq!(written, ["7", "2.16M", "494.03M", "1.2B", "70.6B"]);
}

#[test]
fn the_documentation_has_every_field() {
    compare_page(
        "docs/server-fields-ollama.md",
        "The fields of Ollama's requests",
        &[
            ("`/api/generate`", GENERATE_TABLES),
            ("`/api/chat`", CHAT_TABLES),
            ("A message of `/api/chat`", &[MESSAGE]),
            ("`options`", OPTION_TABLES),
            ("`/api/show`", SHOW_TABLES),
            ("`/api/pull`", PULL_TABLES),
            ("`/api/delete`", DELETE_TABLES),
        ],
    );
}
