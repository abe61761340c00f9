//! A failed decode fails only the streams that had rows in it; all other streams continue.

use mullama::testing::{Size, Stage, Step};
use mullama::{FinishReason, MullamaError, StreamFailure, TokenStream};
use mullama_ffi::Error;

use crate::support::{
    Got, PROMPT, STEP, alone, config, hashed, pool, prompt, read, read_all, rows, slots, stage, steps, take,
};

/// Errors after which the context must be rebuilt.
fn poison() -> [Error; 4] {
    [
        Error::Exception { call: "llama_decode", text: "a test".into() },
        Error::Assertion { call: "llama_decode", text: "a test".into() },
        Error::OutOfMemory { call: "llama_decode" },
        Error::DecodeFailed { status: -3, said: vec!["a test".into()] },
    ]
}

/// The text of a failed decode's error.
fn decode_error(got: &Got) -> &Error {
    match &got.error {
        Some(MullamaError::StreamingError(StreamFailure::Decode(error))) => error,
        other => panic!("expected a failed decode, got {other:?}"),
    }
}

/// One running, one paused and one waiting stream on a single slot.
fn three_kinds(stage: &mut Stage) -> [TokenStream; 3] {
    let paused = stage.open(&prompt(20, 0), config(30).buffer_size(2)).expect("opened");
    stage.settle();
    let running = stage.open(&prompt(6, 1), config(30)).expect("opened");
    steps(stage, 5);
    let waiting = stage.open(&prompt(7, 2), config(30)).expect("opened");
    [running, paused, waiting]
}

#[test]
fn a_poisoned_context_fails_only_the_streams_of_the_step_and_the_next_request_works() {
    for error in poison() {
        let mut stage = stage(slots(1));
        let [mut running, mut paused, mut waiting] = three_kinds(&mut stage);
        stage.fail_next_decode(error.clone());
        assert_eq!(stage.step(), Step::Worked);
        let failed = take(&mut running);
        assert_eq!(failed.text(), alone(&prompt(6, 1), 5), "everything that was produced comes first");
        assert_eq!(decode_error(&failed).to_string(), error.to_string());
        assert_eq!((failed.code(), running.finish_reason()), (Some("GENERATION_ERROR"), Some(FinishReason::Error)));
        assert_eq!(stage.unfinished(), 2);
        assert_eq!(read(&mut stage, &mut waiting).text(), alone(&prompt(7, 2), 30));
        assert_eq!(paused.text() + &read(&mut stage, &mut paused).text(), alone(&prompt(20, 0), 30));
        let mut next = stage.open(PROMPT, config(9)).unwrap();
        assert_eq!(read(&mut stage, &mut next).text(), alone(PROMPT, 9));
        assert_eq!((stage.unfinished(), stage.settle()), (0, 0));
    }
}

#[test]
fn all_streams_of_a_failed_step_fail_including_those_in_prefill() {
    let mut stage = stage(slots(8));
    let mut streams: Vec<TokenStream> = (0..5).map(|seed| stage.open(&prompt(4, seed), config(30)).unwrap()).collect();
    steps(&mut stage, 3);
    let mut prefill = stage.open(&prompt(400, 9), config(30)).unwrap();
    steps(&mut stage, 1);
    stage.fail_next_decode(poison()[0].clone());
    steps(&mut stage, 1);
    assert!(streams.iter_mut().chain([&mut prefill]).all(|stream| take(stream).code() == Some("GENERATION_ERROR")));
    assert_eq!((stage.unfinished(), stage.settle()), (0, 0));
}

#[test]
fn a_refused_batch_leaves_the_cells_of_all_other_streams_unchanged() {
    let mut stage = stage(slots(1));
    let [mut running, mut paused, mut waiting] = three_kinds(&mut stage);
    stage.fail_next_decode(Error::InvalidBatch { said: vec!["a test".into()] });
    steps(&mut stage, 1);
    assert_eq!(take(&mut running).code(), Some("GENERATION_ERROR"));
    read(&mut stage, &mut waiting);
    stage.decodes();
    take(&mut paused);
    steps(&mut stage, 1);
    assert_eq!(rows(&stage), [1], "its prompt is still there");
}

#[test]
fn a_context_that_cannot_be_rebuilt_fails_all_streams_and_the_next_request_tries_again() {
    let mut stage = stage(slots(1));
    let [mut running, mut paused, mut waiting] = three_kinds(&mut stage);
    stage.fail_next_decode(poison()[0].clone());
    stage.fail_next_rebuild(Error::OutOfMemory { call: "llama_init_from_model" });
    steps(&mut stage, 1);
    assert_eq!(decode_error(&take(&mut running)).to_string(), poison()[0].to_string());
    for stream in [&mut paused, &mut waiting] {
        let got = take(stream);
        assert_eq!(decode_error(&got).to_string(), "out of memory in llama_init_from_model");
    }
    assert_eq!(stage.unfinished(), 0);
    stage.fail_next_rebuild(Error::OutOfMemory { call: "llama_init_from_model" });
    let mut unlucky = stage.open(PROMPT, config(9)).unwrap();
    assert_eq!(read(&mut stage, &mut unlucky).code(), Some("GENERATION_ERROR"));
    let mut lucky = stage.open(PROMPT, config(9)).unwrap();
    assert_eq!(read(&mut stage, &mut lucky).text(), alone(PROMPT, 9));
}

#[test]
fn if_llama_cpp_finds_no_cells_one_stream_waits_and_none_fails() {
    let mut stage = stage(slots(8));
    let mut streams: Vec<TokenStream> = (0..6).map(|seed| stage.open(&prompt(10, seed), config(40)).unwrap()).collect();
    let mut got: Vec<Got> = streams.iter().map(|_| Got::default()).collect();
    for step in 0..1_000 {
        if step % 7 == 3 {
            stage.fail_next_decode(Error::NoKvSlot);
        }
        stage.step();
        got.iter_mut().zip(&mut streams).for_each(|(got, stream)| got.take(stream, usize::MAX));
    }
    for (seed, got) in got.iter().enumerate() {
        assert_eq!((got.code(), got.text()), (None, alone(&prompt(10, seed), 40)));
    }
}

#[test]
fn if_llama_cpp_finds_no_cells_for_a_single_stream_a_paused_one_is_preempted() {
    let mut stage = stage(slots(1));
    let [mut running, mut paused, _waiting] = three_kinds(&mut stage);
    stage.fail_next_decode(Error::NoKvSlot);
    assert_eq!(read(&mut stage, &mut running).text(), alone(&prompt(6, 1), 30));
    assert_eq!(paused.text() + &read(&mut stage, &mut paused).text(), alone(&prompt(20, 0), 30));
}

#[test]
fn a_single_stream_without_cells_fails_and_reports_the_number_of_rows() {
    let mut stage = stage(slots(8));
    let mut stream = stage.open(&prompt(12, 0), config(40)).unwrap();
    stage.fail_next_decode(Error::NoKvSlot);
    let got = read(&mut stage, &mut stream);
    assert!(matches!(got.error, Some(MullamaError::StreamingError(StreamFailure::NoCells { rows: 12 }))), "{got:?}");
    let mut next = stage.open(PROMPT, config(9)).unwrap();
    assert_eq!(read(&mut stage, &mut next).text(), alone(PROMPT, 9));
}

#[test]
fn an_aborted_step_is_recomputed_for_the_streams_that_remain() {
    let mut stage = stage(slots(8));
    let mut streams: Vec<TokenStream> = (0..3).map(|seed| stage.open(&prompt(10, seed), config(20)).unwrap()).collect();
    steps(&mut stage, 4);
    stage.fail_next_decode(Error::Aborted);
    for (seed, got) in read_all(&mut stage, &mut streams).iter().enumerate() {
        assert_eq!((got.code(), got.text()), (None, alone(&prompt(10, seed), 20)));
    }
}

#[test]
fn a_failing_sampler_fails_only_its_own_stream() {
    let base_logits = hashed();
    let logits: mullama::testing::Logits = std::sync::Arc::new(move |tokens, logits| {
        base_logits(tokens, logits);
        if tokens[0] == 66 && tokens.len() == 8 {
            logits[3] = f32::NAN;
        }
    });
    let mut stage = Stage::new(Size::default(), logits, |_| STEP);
    let [good, bad] = [65, 66].map(|first| stage.open(&[first, 1, 2], config(20)).unwrap());
    let got = read_all(&mut stage, &mut [good, bad]);
    assert_eq!((got[0].code(), got[0].text()), (None, alone(&[65, 1, 2], 20)));
    assert!(matches!(got[1].error, Some(MullamaError::StreamingError(StreamFailure::Sample(_)))), "{:?}", got[1].error);
    assert_eq!(got[1].tokens.len(), 5, "everything that was produced comes first");
}

#[test]
fn after_many_failures_every_stream_has_ended_with_a_reason_and_the_engine_continues() {
    let mut stage = stage(pool(3, 120, 4));
    let mut ends = Vec::new();
    for round in 0..40 {
        let mut streams: Vec<TokenStream> =
            (0..4).map(|seed| stage.open(&prompt(9, seed), config(25)).unwrap()).collect();
        let mut got: Vec<Got> = streams.iter().map(|_| Got::default()).collect();
        for step in 0..400 {
            if step == round {
                stage.fail_next_decode(poison()[round % 4].clone());
            }
            stage.step();
            got.iter_mut().zip(&mut streams).for_each(|(got, stream)| got.take(stream, usize::MAX));
        }
        assert!(got.iter().all(|got| got.over));
        for (seed, got) in got.iter().enumerate() {
            let whole = alone(&prompt(9, seed), 25);
            assert!(if got.error.is_some() { whole.starts_with(&got.text()) } else { whole == got.text() });
        }
        ends.push(got.iter().filter(|got| got.error.is_some()).count());
        assert_eq!((stage.unfinished(), stage.settle()), (0, 0));
    }
    assert!(ends.contains(&3) && !ends.contains(&4), "{ends:?}");
}
