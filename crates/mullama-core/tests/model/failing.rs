//! A poisoned llama.cpp context: streams of the step fail with a typed error, the context is rebuilt, and the next
//! request works.

use mullama::testing::{Failure, FragileContext};
use mullama::{ContextParams, FinishReason, MullamaError, StreamFailure, TokenStream};

use crate::support::{eventually, fresh_demo, greedy, params, read};

const COUNT: &str = "Count: 1, 2, 3";

fn text(context: &FragileContext, max_tokens: u32) -> String {
    let (text, error) = read(&mut context.stream(COUNT, greedy(max_tokens)).expect("opened"));
    assert!(error.is_none(), "{error:?}");
    text
}

/// All failures after which a context is in an unknown state.
const POISON: [Failure; 4] = [Failure::Exception, Failure::Assertion, Failure::Status(-2), Failure::Status(-3)];

#[test]
fn streams_of_a_failed_step_end_with_a_generation_error_and_the_next_request_works() {
    let context = FragileContext::new(&fresh_demo(), &params()).unwrap();
    let before = text(&context, 30);
    for failure in POISON {
        let mut running: Vec<TokenStream> =
            (0..3).map(|_| context.stream("Write a poem:", greedy(900).ignore_eos(true)).unwrap()).collect();
        // All have capacity for a token when the next step begins, so the failure hits every stream in the step.
        for stream in &mut running {
            stream.next_blocking().unwrap().unwrap();
        }
        context.fail_next_decode(failure);
        let ends: Vec<_> = running.iter_mut().map(|stream| (read(stream).1, stream.finish_reason())).collect();
        let failed = ends.iter().filter(|(error, _)| error.is_some()).count();
        assert!(failed > 0, "{failure:?} hit no stream");
        for (error, reason) in ends.into_iter().filter(|(error, _)| error.is_some()) {
            let error = error.unwrap();
            assert!(matches!(error, MullamaError::StreamingError(StreamFailure::Decode(_))), "{error}");
            assert_eq!((error.code(), reason), ("GENERATION_ERROR", Some(FinishReason::Error)));
        }
        assert_eq!(context.unfinished(), 0);
        assert_eq!(text(&context, 30), before, "after {failure:?}");
    }
}

#[test]
fn a_paused_stream_survives_a_poisoned_context_with_its_text_complete() {
    let context = FragileContext::new(&fresh_demo(), &ContextParams { n_parallel: 1, ..params() }).unwrap();
    let whole = text(&context, 40);
    let mut paused = context.stream(COUNT, greedy(40).buffer_size(3)).unwrap();
    eventually("it is paused", || paused.buffered() == 3);
    context.fail_next_decode(Failure::Exception);
    let mut hit = context.stream("Write a poem:", greedy(10)).unwrap();
    assert_eq!(read(&mut hit).1.map(|error| error.code()), Some("GENERATION_ERROR"));
    assert_eq!(read(&mut paused).0, whole);
}

#[test]
fn a_refused_batch_or_an_aborted_step_poisons_nothing() {
    let context = FragileContext::new(&fresh_demo(), &params()).unwrap();
    let before = text(&context, 20);
    context.fail_next_decode(Failure::Status(-1));
    assert_eq!(
        read(&mut context.stream(COUNT, greedy(20)).unwrap()).1.map(|error| error.code()),
        Some("GENERATION_ERROR")
    );
    assert_eq!(text(&context, 20), before);
    context.fail_next_decode(Failure::Status(2));
    assert_eq!(text(&context, 20), before, "an aborted step is computed again");
}

#[test]
fn an_error_of_llama_cpp_contains_its_message() {
    let context = FragileContext::new(&fresh_demo(), &params()).unwrap();
    context.fail_next_decode(Failure::Exception);
    let (_, error) = read(&mut context.stream(COUNT, greedy(20)).unwrap());
    let said = error.unwrap().to_string();
    assert!(said.starts_with("generation failed: decode: llama.cpp threw in llama_decode: "), "{said}");
    assert!(said.len() > "generation failed: decode: llama.cpp threw in llama_decode: ".len());
}

#[test]
fn if_llama_cpp_finds_no_cells_cached_prefixes_are_dropped_before_the_stream_fails() {
    let context = FragileContext::new(&fresh_demo(), &params()).unwrap();
    context.fail_next_decode(Failure::Status(1));
    let (_, error) = read(&mut context.stream(COUNT, greedy(20)).unwrap());
    assert!(matches!(error, Some(MullamaError::StreamingError(StreamFailure::NoCells { .. }))), "{error:?}");
    let before = text(&context, 20);
    context.fail_next_decode(Failure::Status(1));
    assert_eq!(text(&context, 20), before, "the cached prefix of the last stream is dropped for it");
}
