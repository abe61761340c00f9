use std::sync::Arc;

use tokio::sync::Semaphore;

use super::*;
use crate::dialect::golden::compare_page;

fn room(bytes: usize) -> Option<OwnedSemaphorePermit> {
    Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)).try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
}

fn read_all(text: &str) -> Result<Message, Box<Refusal>> {
    read(text.to_owned(), room)
}

#[test]
fn the_documentation_has_every_field() {
    compare_page(
        "docs/server-fields-websocket.md",
        "The fields of WebSocket messages",
        &[("`generate`", TABLES), ("`cancel`", &[CANCEL]), ("`grant`", &[GRANT])],
    );
}

#[test]
fn texts_that_do_not_begin_as_objects_are_prompts() {
    for text in [
        "Hello!",
        "",
        "[1, 2]",
        "\"text\"",
        "7",
        "null",
        "{",
        "{not json",
        "{ 'a': 1}",
        "{{",
        "{1}",
        "}{\"",
        "\u{feff}{\"a\": 1}",
    ] {
        let Ok(Message::Generate(request)) = read_all(text) else { panic!("{text} is a prompt") };
        assert!(request.is_text(), "{text}");
    }
}

#[test]
fn a_text_that_begins_as_an_object_and_is_none_is_an_error_that_names_the_place() {
    for (text, place) in [
        (r#"{"prompt": "a""#, "line 1 column 14"),
        (r#"{"prompt": 'a'}"#, "line 1 column 12"),
        ("{\n \"prompt\": a}", "line 2 column 12"),
        (r#"  { "prompt": "a"} x"#, "line 1 column 20"),
        (r#"{"id": 1, "temperature": NaN}"#, "line 1 column 26"),
        (r#"{"temperature": 1e999}"#, "line 1 column"),
        (r#"{"a": "\ud800"}"#, "line 1 column"),
        ("{}}", "line 1 column 3"),
        (&format!("{{\"a\": {}", "[".repeat(500)), "line 1 column"),
    ] {
        let refusal = read_all(text).expect_err(text);
        let Refusal { id, error, request_continues } = *refusal;
        assert_eq!((id, error.code, request_continues), (None, "INVALID_REQUEST", false), "{text}");
        assert!(error.message.contains(place), "{text}: {}", error.message);
    }
}

#[test]
fn an_object_is_never_a_prompt() {
    for text in ["{}", " {\n}\n", "{\"prompt\": 5}"] {
        let Ok(Message::Generate(request)) = read_all(text) else { panic!("{text} is a request") };
        assert!(!request.is_text(), "{text}");
    }
}

#[test]
fn the_room_that_a_message_takes_is_that_of_its_values() {
    let list = format!("{{\"id\": \"a\", \"prompt\": [{}0]}}", "0,".repeat(10_000));
    let mut taken = 0;
    let refusal = read(list, |bytes| {
        taken = bytes;
        None
    });
    assert!(taken > 10_000 * size_of::<Value>(), "{taken}");
    let Refusal { id, error, .. } = *refusal.expect_err("there is no room");
    assert_eq!((id, error.code, error.retry_after), (Some("a".into()), "OVERLOADED", Some(1)));
    let mut taken = 0;
    drop(read("{plain text".to_owned(), |bytes| {
        taken = bytes;
        room(bytes)
    }));
    assert_eq!(taken, 11);
}

#[test]
fn room_is_taken_as_long_as_a_request_waits() {
    let all = Arc::new(Semaphore::new(10_000));
    let take = |bytes: usize| Arc::clone(&all).try_acquire_many_owned(u32::try_from(bytes).ok()?).ok();
    let Ok(Message::Generate(waiting)) = read("{\"prompt\": \"Hello\"}".to_owned(), take) else { panic!("a request") };
    assert!(all.available_permits() < 10_000);
    drop(waiting);
    assert_eq!(all.available_permits(), 10_000);
    assert!(matches!(read("{\"type\": \"cancel\"}".to_owned(), take), Ok(Message::Cancel(None))));
    assert_eq!(all.available_permits(), 10_000);
}

#[test]
fn errors_of_messages_speak_of_the_message() {
    for text in [r#"{"a": 1} x"#, "{}}", r#"{"a": 1"#] {
        let message = read_all(text).expect_err(text).error.message;
        assert!(!message.contains("body"), "{message}");
    }
    let message = read_all("{}}").expect_err("more than an object").error.message;
    assert!(message.starts_with("the message is not valid JSON"), "{message}");
}
