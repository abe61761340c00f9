//! What the tests of dialects share: golden files, and events to feed a dialect with.
//!
//! With `MULLAMA_WRITE_GOLDEN=1` the files are written instead of compared.

use std::path::Path;
use std::time::Duration;

use mullama::{Deadline, FinishReason, MullamaError, StreamConfig, Timings, Token, Usage};
use serde_json::Value;

use crate::error::ApiError;
use crate::generation::{Answer, Dialect, Ending, Event, Frames, Progress};
use crate::json::{Field, Handling, markdown};

/// Compares a text with a file of the repository.
pub(super) fn compare(path: &str, text: &str) {
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(path);
    if std::env::var_os("MULLAMA_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
    }
    let wanted = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(wanted == text, "{path} differs; MULLAMA_WRITE_GOLDEN=1 writes it. It should now be:\n{text}");
}

/// Compares a page of documentation with the tables that it is written from.
pub(crate) fn compare_page(path: &str, title: &str, sections: &[(&str, &[&[Field]])]) {
    let refusal = if path.contains("websocket") { "an error frame that names it" } else { "status 400 and its name" };
    let mut page = format!(
        "# {title}\n\nEvery field is honoured, or refused with {refusal}; none is silently ignored. A field \
         that is null counts as left out. A number that is no integer is read as the nearest 64-bit float. This page is written from the tables in the server's code.\n"
    );
    for (title, tables) in sections {
        page.extend(["\n## ", title, "\n\n", &markdown(tables)]);
        for field in tables.iter().flat_map(|table| table.iter()) {
            let Handling::Sets(name) = field.handling else { continue };
            assert!(StreamConfig::FIELDS.contains(&name), "{name}");
        }
    }
    compare(path, &page);
}

/// A document as it is compared.
pub(super) fn document(document: &Value) -> String {
    format!("{}\n", serde_json::to_string_pretty(document).unwrap())
}

/// Counts and durations after so many tokens.
pub(super) fn progress(completion_tokens: usize) -> Progress {
    let ms = Duration::from_millis;
    Progress {
        usage: Usage { prompt_tokens: 12, cached_tokens: 8, completion_tokens },
        timings: Timings { prefill: ms(20), first_token: ms(25), decode: ms(100), ..Timings::default() },
    }
}

/// A token with log-probabilities, one of which is infinite.
pub(super) fn token(text: &str, index: usize) -> Token {
    let (bytes, top_logprobs) = (text.as_bytes().to_vec(), vec![(97, -0.25), (98, f32::NEG_INFINITY)]);
    Token { text: text.into(), id: Some(97), bytes, index, logprob: Some(-0.25), top_logprobs }
}

/// A token of the only stream.
pub(super) fn said(text: &str) -> Event {
    let bytes = text.as_bytes().to_vec();
    let token = Token { text: text.into(), id: Some(97), bytes, index: 0, logprob: None, top_logprobs: Vec::new() };
    Event::Token { choice: 0, token, progress: progress(1) }
}

/// The end of the only stream.
pub(super) fn ending(reason: FinishReason, stop_sequence: Option<&str>) -> Ending {
    Ending { reason, stop_sequence: stop_sequence.map(str::to_owned), progress: progress(3), seed: 7 }
}

/// The event of an end.
pub(super) fn ended(reason: FinishReason, stop_sequence: Option<&str>) -> Event {
    Event::End { choice: 0, ending: ending(reason, stop_sequence) }
}

/// The error of a stream that took too long.
pub(super) fn timeout() -> ApiError {
    MullamaError::StreamTimeout { deadline: Deadline::Total, limit_ms: 500, completion_tokens: 3 }.into()
}

/// What a dialect writes of these events, and then of an error if the last of them is no end.
pub(super) fn streamed(mut dialect: impl Dialect, events: &[Event]) -> String {
    let mut frames = Frames::default();
    dialect.used(&progress(0));
    dialect.start(&mut frames);
    for event in events {
        dialect.event(event, &mut frames);
    }
    if let Some(Event::End { .. }) = events.last() {
        dialect.finish(&mut frames);
    } else {
        dialect.keep_alive(&mut frames);
        dialect.failed(&timeout(), &mut frames);
    }
    String::from_utf8(frames.take()).unwrap()
}

/// The document of an answer that is not streamed.
pub(super) fn whole(mut dialect: impl Dialect, text: &str, ending: Ending) -> String {
    document(&dialect.whole(&[Answer { text: text.into(), tokens: Vec::new(), ending }]))
}
