//! Every kind of error, provoked for real, with its code.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use mullama::testing::{Failure, FragileContext};
use mullama::{
    Context, ContextParams, Deadline, Model, ModelLoadFailure, ModelOptions, MullamaError, PromptFailure, StreamConfig,
};

use crate::support::{context, demo_path, fresh_demo, greedy, params, read};

/// The error that ends a stream.
fn ended_by(context: &Context, prompt: impl Into<mullama::Prompt>, config: StreamConfig) -> MullamaError {
    read(&mut context.stream(prompt, config).expect("opened")).1.expect("an error")
}

fn loading() -> Vec<MullamaError> {
    let dir = tempfile::tempdir().expect("a directory");
    let text = dir.path().join("text.gguf");
    fs::write(&text, "not a model at all, but long enough to be read as one").expect("written");
    let mut never = |_: f32| false;
    let cancelled = Model::load_with(demo_path(), &ModelOptions::default(), Some(&mut never));
    vec![
        Model::load(dir.path().join("missing.gguf")).expect_err("missing"),
        Model::load(text).expect_err("a text"),
        Model::load(dir.path()).expect_err("a directory"),
        cancelled.expect_err("cancelled"),
    ]
}

fn requesting(context: &Context) -> Vec<MullamaError> {
    let refused = |config| context.stream("a", config).expect_err("refused");
    vec![
        refused(StreamConfig::new().top_p(1.5)),
        refused(StreamConfig::new().stop_tokens(vec![1_000_000])),
        ended_by(context, vec![], greedy(5)),
        ended_by(context, vec![1, 2, 1_000_000], greedy(5)),
        ended_by(context, "a".repeat(100_000_000), greedy(5)),
        ended_by(context, "word ".repeat(5_000), greedy(5)),
        ended_by(context, "Write a poem:", greedy(900).ignore_eos(true).timeout_ms(1)),
    ]
}

fn running() -> Vec<MullamaError> {
    let tight = context(ContextParams { n_parallel: 1, max_queue: 0, max_paused: 1, ..params() });
    let mut busy = tight.stream("Write a poem:", greedy(500).ignore_eos(true).buffer_size(1)).expect("opened");
    let overloaded = tight.stream("a", greedy(1)).expect_err("overloaded");
    let fragile = FragileContext::new(&fresh_demo(), &params()).expect("a context");
    fragile.fail_next_decode(Failure::Exception);
    let failed = read(&mut fragile.stream("a", greedy(5)).expect("opened")).1.expect("failed");
    tight.model().close();
    let closed = read(&mut busy).1.expect("closed");
    let call = Context::new(Arc::clone(tight.model()), params()).expect_err("closed");
    tight.close();
    vec![overloaded, failed, closed, call, tight.stream("a", greedy(1)).expect_err("closed")]
}

#[test]
fn every_error_code_is_raised_by_its_cause() {
    let codes = |errors: &[MullamaError]| errors.iter().map(MullamaError::code).collect::<Vec<_>>();
    let (load, request, run) = (loading(), requesting(&context(params())), running());
    assert_eq!(codes(&load), ["MODEL_NOT_FOUND", "MODEL_LOAD", "MODEL_LOAD", "MODEL_LOAD"]);
    let expected = ["INVALID_CONFIG", "INVALID_CONFIG", "INVALID_PROMPT", "INVALID_PROMPT"];
    let overflow = ["CONTEXT_OVERFLOW", "CONTEXT_OVERFLOW", "STREAM_TIMEOUT"];
    assert_eq!(codes(&request), [expected.as_slice(), &overflow].concat());
    assert_eq!(codes(&run), ["OVERLOADED", "GENERATION_ERROR", "CLOSED", "CLOSED", "CLOSED"]);
    let all: BTreeSet<&str> = load.iter().chain(&request).chain(&run).map(MullamaError::code).collect();
    assert_eq!(all.len(), 9, "{all:?}");
}

#[test]
fn a_load_that_fails_says_which_file_and_why() {
    let errors = loading();
    assert!(matches!(&errors[0], MullamaError::ModelNotFound { path } if path.ends_with("missing.gguf")));
    assert!(
        matches!(&errors[1], MullamaError::ModelLoad { path, source: ModelLoadFailure::Gguf(_) } if path.ends_with("text.gguf"))
    );
    assert!(
        matches!(&errors[3], MullamaError::ModelLoad { source: ModelLoadFailure::Cancelled, .. }),
        "{:?}",
        errors[3]
    );
}

#[test]
fn a_prompt_longer_than_the_context_is_refused_with_both_numbers() {
    let context = context(ContextParams { n_ctx: Some(32), ..params() });
    let text = "word ".repeat(100);
    let tokens = context.model().tokenize(&text).unwrap().len();
    match ended_by(&context, text, greedy(5)) {
        MullamaError::ContextOverflow { prompt_tokens, is_lower_bound, context_len } => {
            assert_eq!((prompt_tokens, is_lower_bound, context_len), (tokens, false, 32));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_text_that_cannot_fit_is_refused_without_being_tokenized() {
    let context = context(ContextParams { n_ctx: Some(1_024), ..params() });
    let text = "word ".repeat(10_000_000);
    let begun = std::time::Instant::now();
    let error = ended_by(&context, text, greedy(5));
    let MullamaError::ContextOverflow { prompt_tokens, is_lower_bound: true, context_len: 1_024 } = error else {
        panic!("{error:?}");
    };
    assert!((1_024..10_000_001).contains(&prompt_tokens), "{prompt_tokens}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[test]
fn a_prompt_that_the_tokenizer_refuses_is_refused_by_name() {
    let context = context(params());
    for chars in [1_000_000, 100_000_000] {
        let error = context.model().tokenize(&"a".repeat(chars)).unwrap_err();
        assert!(matches!(error, MullamaError::InvalidPrompt(PromptFailure::Tokenizer(_))), "{error:?}");
    }
    assert!(!context.generate("a", greedy(3)).unwrap().text.is_empty(), "and the next request works");
}

#[test]
fn unknown_ids_name_the_size_of_the_real_vocabulary() {
    let context = context(params());
    let size = context.model().n_vocab();
    match ended_by(&context, vec![0, i32::try_from(size).unwrap()], greedy(5)) {
        MullamaError::InvalidPrompt(PromptFailure::UnknownToken { position, n_vocab, .. }) => {
            assert_eq!((position, n_vocab), (1, size));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(context.model().detokenize(&[-1]), Err(MullamaError::InvalidPrompt(_))));
}

#[test]
fn a_timeout_comes_after_the_produced_tokens_and_reports_their_number() {
    let context = context(params());
    let mut stream =
        context.stream("Write a poem:", greedy(900).ignore_eos(true).buffer_size(5).timeout_ms(300)).unwrap();
    let mut items = 0;
    let error = loop {
        match stream.next_blocking().expect("an error ends it") {
            Ok(_) if items == 0 => {
                // The reader does not read until the deadline has passed.
                crate::support::eventually("it timed out", || context.unfinished().unwrap() == 0);
                items += 1;
            }
            Ok(_) => items += 1,
            Err(error) => break error,
        }
    };
    match error {
        MullamaError::StreamTimeout { deadline, limit_ms, completion_tokens } => {
            assert_eq!((deadline, limit_ms, completion_tokens), (Deadline::Total, 300, items));
        }
        other => panic!("{other:?}"),
    }
}
