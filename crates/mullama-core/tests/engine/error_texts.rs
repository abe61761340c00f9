//! Error messages are complete: every fact of an error is part of its message, and its code never changes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use mullama::{
    Deadline, DownloadFailure, ModelLoadFailure, MullamaError, PromptFailure, StreamFailure, TemplateFailure,
};

fn io_error() -> Arc<io::Error> {
    Arc::new(io::Error::from(io::ErrorKind::PermissionDenied))
}

/// The facts that the message of a failure must contain. A new variant does not compile until it is listed here.
fn of_model(failure: &ModelLoadFailure) -> Vec<String> {
    match failure {
        ModelLoadFailure::Io(error) | ModelLoadFailure::Thread(error) => vec![error.to_string()],
        ModelLoadFailure::Gguf(error) => vec![error.to_string()],
        ModelLoadFailure::Damaged { source, advice } => vec![source.to_string(), advice.clone()],
        ModelLoadFailure::LlamaCpp(error) => vec![error.to_string()],
        ModelLoadFailure::Cancelled => vec!["cancelled".into()],
        ModelLoadFailure::ChangedWhileLoading => vec!["changed".into()],
        ModelLoadFailure::NoDecoder { architecture } => vec![architecture.clone()],
    }
}

fn of_prompt(failure: &PromptFailure) -> Vec<String> {
    match failure {
        PromptFailure::Empty => vec!["empty".into()],
        PromptFailure::UnknownToken { token, position, n_vocab } => {
            vec![token.to_string(), position.to_string(), n_vocab.to_string()]
        }
        PromptFailure::HugeToken { token, position } => vec![token.clone(), position.to_string()],
        PromptFailure::LoneSurrogate { position } => vec![position.to_string()],
        PromptFailure::SurrogateInMessage => vec!["message".into()],
        PromptFailure::TooManyTokens { tokens, limit } => vec![tokens.to_string(), limit.to_string()],
        PromptFailure::Tokenizer(error) => vec![error.to_string()],
    }
}

fn of_template(failure: &TemplateFailure) -> Vec<String> {
    match failure {
        TemplateFailure::Missing => vec!["no chat template".into()],
        TemplateFailure::Refused { message, line } => vec![message.clone(), format!("line {line}")],
        TemplateFailure::Failed { reason, line } | TemplateFailure::Stopped { reason, line } => {
            vec![reason.clone(), format!("line {line}")]
        }
        TemplateFailure::NoMessages => vec!["messages".into()],
        TemplateFailure::InvalidMessage { index, reason, .. } => vec![format!("messages[{index}]"), reason.clone()],
    }
}

fn of_stream(failure: &StreamFailure) -> Vec<String> {
    match failure {
        StreamFailure::Decode(error) | StreamFailure::Sample(error) | StreamFailure::Thread(error) => {
            vec![error.to_string()]
        }
        StreamFailure::NoCells { rows } => vec![rows.to_string()],
        StreamFailure::TokenizerPanicked => vec!["tokenizer".into()],
        StreamFailure::ModelFileChanged { path, len } => vec![path.display().to_string(), len.to_string()],
        StreamFailure::EngineEnded => vec!["engine".into()],
    }
}

fn of_download(failure: &DownloadFailure) -> Vec<String> {
    let rest = match failure {
        DownloadFailure::Certificate { message, .. }
        | DownloadFailure::Protocol { message, .. }
        | DownloadFailure::InvalidFile { message, .. } => vec![message.clone()],
        DownloadFailure::Network { message, tries, .. } => vec![message.clone(), format!("{tries} tries")],
        DownloadFailure::Stalled { seconds, tries, .. } => vec![format!("{seconds} s"), format!("{tries} tries")],
        DownloadFailure::Status { status, message, tries, .. } => {
            vec![status.to_string(), message.clone(), format!("{tries} tries")]
        }
        DownloadFailure::Unauthorized { status, message, advice, .. } => {
            vec![status.to_string(), message.clone(), advice.clone()]
        }
        DownloadFailure::Digest { expected, actual, .. } => vec![expected.clone(), actual.clone()],
        DownloadFailure::NoSpace { path, needed, free } => {
            vec![path.display().to_string(), needed.to_string(), free.to_string()]
        }
        DownloadFailure::Store { action, path, message } => {
            vec![(*action).to_owned(), path.display().to_string(), message.clone()]
        }
        DownloadFailure::Disk { path, message } => vec![path.display().to_string(), message.clone()],
        DownloadFailure::Offline { tried, by } => [tried.clone(), vec![by.clone()]].concat(),
        DownloadFailure::Cancelled => vec!["cancelled".into()],
    };
    rest.into_iter().chain(failure.url().map(str::to_owned)).collect()
}

fn downloads() -> Vec<(&'static str, MullamaError)> {
    let (url, message) = (|| String::from("https://models.example/v2/blobs/1"), || String::from("connection reset"));
    let path = || PathBuf::from("/models/part");
    [
        DownloadFailure::Network { url: url(), message: message(), tries: 6 },
        DownloadFailure::Certificate { url: url(), message: message() },
        DownloadFailure::Stalled { url: url(), seconds: 31, tries: 4 },
        DownloadFailure::Status { url: url(), status: 418, message: message(), tries: 3 },
        DownloadFailure::Unauthorized { url: url(), status: 401, message: message(), advice: "set HF_TOKEN".into() },
        DownloadFailure::Protocol { url: url(), message: message() },
        DownloadFailure::Digest { url: url(), expected: "ab12".into(), actual: "cd34".into() },
        DownloadFailure::NoSpace { path: path(), needed: 1_001, free: 77 },
        DownloadFailure::Disk { path: path(), message: message() },
        DownloadFailure::Store { action: "remove", path: path(), message: message() },
        DownloadFailure::InvalidFile { url: url(), message: message() },
        DownloadFailure::Offline { tried: vec!["it is not in /models".into()], by: "MULLAMA_OFFLINE=1".into() },
        DownloadFailure::Cancelled,
    ]
    .map(|failure| ("DOWNLOAD_ERROR", MullamaError::Download { name: "tiny:1b".into(), failure }))
    .into()
}

fn facts(error: &MullamaError) -> Vec<String> {
    match error {
        MullamaError::ModelNotFound { path } => vec![path.display().to_string()],
        MullamaError::UnknownModel { name, tried, advice } => {
            [vec![name.clone(), advice.clone()], tried.clone()].concat()
        }
        MullamaError::Download { name, failure } => [vec![name.clone()], of_download(failure)].concat(),
        MullamaError::ModelLoad { path, source } => [vec![path.display().to_string()], of_model(source)].concat(),
        MullamaError::InvalidConfig { field, value, range } => vec![(*field).to_owned(), value.clone(), range.clone()],
        MullamaError::InvalidPrompt(failure) => of_prompt(failure),
        MullamaError::ChatTemplate(failure) => of_template(failure),
        MullamaError::ContextOverflow { prompt_tokens, is_lower_bound, context_len } => {
            let bound = if *is_lower_bound { "at least " } else { "" };
            vec![format!("{bound}{prompt_tokens} tokens"), context_len.to_string()]
        }
        MullamaError::PromptsOverloaded { prompt_bytes, waiting_bytes, limit_bytes } => {
            [prompt_bytes, waiting_bytes, limit_bytes].map(ToString::to_string).to_vec()
        }
        MullamaError::Overloaded { unfinished, limit } => vec![unfinished.to_string(), limit.to_string()],
        MullamaError::PausedOverloaded { paused, active, limit } => {
            [paused, active, limit].map(ToString::to_string).to_vec()
        }
        MullamaError::Displaced { limit } => vec![limit.to_string()],
        MullamaError::StreamTimeout { deadline, limit_ms, completion_tokens } => {
            vec![deadline.to_string(), limit_ms.to_string(), completion_tokens.to_string()]
        }
        MullamaError::StreamingError(failure) => of_stream(failure),
        MullamaError::Closed { what } => vec![(*what).to_owned()],
    }
}

/// One error of every kind, with facts that no message contains by chance.
fn all() -> Vec<(&'static str, MullamaError)> {
    let path = || PathBuf::from("/no/such/model.gguf");
    let llama = || Arc::new(mullama_ffi::Error::DecodeFailed { status: -3, said: vec!["graph compute failed".into()] });
    let damaged = || ModelLoadFailure::Damaged {
        source: Arc::new(mullama::gguf::check(&path()).expect_err("an error")),
        advice: "pull it again".into(),
    };
    let load = |source| MullamaError::ModelLoad { path: path(), source };
    let config = || MullamaError::InvalidConfig { field: "top_p", value: "1.5".into(), range: "0.0 to 1.0".into() };
    let timeout = |deadline| MullamaError::StreamTimeout { deadline, limit_ms: 30_001, completion_tokens: 417 };
    let overflow =
        |is_lower_bound| MullamaError::ContextOverflow { prompt_tokens: 5_001, is_lower_bound, context_len: 4_096 };
    let template = MullamaError::ChatTemplate;
    vec![
        ("MODEL_NOT_FOUND", MullamaError::ModelNotFound { path: path() }),
        ("MODEL_LOAD", load(ModelLoadFailure::Io(io_error()))),
        ("MODEL_LOAD", load(ModelLoadFailure::LlamaCpp(llama()))),
        ("MODEL_LOAD", load(ModelLoadFailure::Gguf(Arc::new(mullama::gguf::check(&path()).expect_err("an error"))))),
        ("MODEL_LOAD", load(damaged())),
        ("MODEL_LOAD", load(ModelLoadFailure::Cancelled)),
        ("MODEL_LOAD", load(ModelLoadFailure::ChangedWhileLoading)),
        ("MODEL_LOAD", load(ModelLoadFailure::NoDecoder { architecture: "bert".into() })),
        ("MODEL_LOAD", load(ModelLoadFailure::Thread(io_error()))),
        ("INVALID_CONFIG", config()),
        ("INVALID_PROMPT", MullamaError::InvalidPrompt(PromptFailure::Empty)),
        (
            "INVALID_PROMPT",
            MullamaError::InvalidPrompt(PromptFailure::UnknownToken { token: -7, position: 3, n_vocab: 512 }),
        ),
        (
            "INVALID_PROMPT",
            MullamaError::InvalidPrompt(PromptFailure::HugeToken { token: "99999999999".into(), position: 4 }),
        ),
        ("INVALID_PROMPT", MullamaError::InvalidPrompt(PromptFailure::LoneSurrogate { position: 12 })),
        ("INVALID_PROMPT", MullamaError::InvalidPrompt(PromptFailure::SurrogateInMessage)),
        ("INVALID_PROMPT", MullamaError::InvalidPrompt(PromptFailure::TooManyTokens { tokens: 11, limit: 10 })),
        ("INVALID_PROMPT", MullamaError::InvalidPrompt(PromptFailure::Tokenizer(llama()))),
        ("TEMPLATE_ERROR", MullamaError::ChatTemplate(TemplateFailure::Missing)),
        ("TEMPLATE_ERROR", template(TemplateFailure::Refused { message: "roles must alternate".into(), line: 17 })),
        ("CONTEXT_OVERFLOW", overflow(false)),
        ("CONTEXT_OVERFLOW", overflow(true)),
        ("TEMPLATE_ERROR", template(TemplateFailure::Failed { reason: "unknown filter".into(), line: 18 })),
        ("TEMPLATE_ERROR", template(TemplateFailure::Stopped { reason: "too much work".into(), line: 19 })),
        ("TEMPLATE_ERROR", template(TemplateFailure::NoMessages)),
        (
            "TEMPLATE_ERROR",
            template(TemplateFailure::InvalidMessage { index: 7, field: None, reason: "no content".into() }),
        ),
        ("OVERLOADED", MullamaError::Overloaded { unfinished: 71, limit: 72 }),
        ("OVERLOADED", MullamaError::PausedOverloaded { paused: 1_023, active: 17, limit: 1_040 }),
        ("OVERLOADED", MullamaError::Displaced { limit: 1_024 }),
        (
            "OVERLOADED",
            MullamaError::PromptsOverloaded { prompt_bytes: 4_097, waiting_bytes: 65_537, limit_bytes: 67_108_864 },
        ),
        ("STREAM_TIMEOUT", timeout(Deadline::Total)),
        ("STREAM_TIMEOUT", timeout(Deadline::FirstToken)),
        ("STREAM_TIMEOUT", timeout(Deadline::Queue)),
        ("GENERATION_ERROR", MullamaError::StreamingError(StreamFailure::Decode(llama()))),
        ("GENERATION_ERROR", MullamaError::StreamingError(StreamFailure::Sample(llama()))),
        ("GENERATION_ERROR", MullamaError::StreamingError(StreamFailure::NoCells { rows: 33 })),
        (
            "GENERATION_ERROR",
            MullamaError::StreamingError(StreamFailure::ModelFileChanged { path: path(), len: 1_234_567 }),
        ),
        ("GENERATION_ERROR", MullamaError::StreamingError(StreamFailure::Thread(llama()))),
        ("GENERATION_ERROR", MullamaError::StreamingError(StreamFailure::TokenizerPanicked)),
        ("GENERATION_ERROR", MullamaError::StreamingError(StreamFailure::EngineEnded)),
        ("CLOSED", MullamaError::Closed { what: "engine" }),
        (
            "MODEL_NOT_FOUND",
            MullamaError::UnknownModel {
                name: "tiny:1b".into(),
                tried: vec!["models.example has no such name".into()],
                advice: "check the spelling".into(),
            },
        ),
    ]
}

#[test]
fn every_error_message_contains_all_facts_and_codes_never_change() {
    for (code, error) in all().into_iter().chain(downloads()) {
        let said = error.to_string();
        assert_eq!(error.code(), code, "{said}");
        let missing: Vec<String> = facts(&error).into_iter().filter(|fact| !said.contains(fact.as_str())).collect();
        assert!(missing.is_empty() && said.len() > 10, "{said:?} does not say {missing:?}");
    }
}

#[test]
fn messages_are_written_for_people_not_for_programmers() {
    for (_, error) in all().into_iter().chain(downloads()) {
        let said = error.to_string();
        assert!(
            !said.contains('{') && !said.contains("Some(") && !said.ends_with('.') && !said.contains('\n'),
            "{said:?}"
        );
    }
}

#[test]
fn the_payload_of_a_streaming_error_can_be_displayed() {
    let error = MullamaError::StreamingError(StreamFailure::NoCells { rows: 33 });
    let MullamaError::StreamingError(failure) = error else { panic!("a streaming error") };
    assert_eq!(failure.to_string(), "the KV pool has no cells left for 33 more tokens");
}
