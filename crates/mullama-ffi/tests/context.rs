//! What a context refuses, how its memory behaves, and how it recovers; the process survives every case.

mod support;

use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use mullama_ffi::{Batch, Context, ContextOptions, Error, Failure, FlashAttn, KvType, Model, ModelOptions};
use support::{argmax, context, demo, demo_path, feed, options, write};

/// Long enough for the slowest machine, short enough to end a hang.
const LIMIT: Duration = Duration::from_mins(1);

fn batch_of(rows: &[(i32, i32, i32, bool)]) -> Batch {
    let mut batch = Batch::new(rows.len());
    for &(token, position, seq, output) in rows {
        batch.push(token, position, seq, output).expect("room");
    }
    batch
}

/// Decodes a bad batch, and then a good one.
fn refused(rows: &[(i32, i32, i32, bool)]) -> Error {
    let mut context = context();
    let error = context.decode(&batch_of(rows)).expect_err("a bad batch");
    assert!(!context.is_poisoned());
    feed(&mut context, 0, &[1, 2, 3]).expect("a good batch after it");
    error
}

#[test]
fn a_context_reports_the_options_that_it_was_created_with() {
    let context = context();
    assert_eq!((context.n_ctx(), context.n_batch(), context.n_ubatch()), (512, 64, 32));
    assert_eq!((context.n_seq_max(), context.n_outputs_max()), (4, 4));
    assert_eq!(context.n_vocab(), demo().vocab().n_tokens());
    assert!(context.can_shift());
}

#[test]
fn an_empty_batch_is_refused() {
    assert!(matches!(refused(&[]), Error::EmptyBatch));
}

#[test]
fn a_token_outside_the_vocabulary_is_refused() {
    let n_vocab = demo().vocab().n_tokens();
    for token in [-1, i32::MIN, i32::try_from(n_vocab).expect("small"), i32::MAX] {
        let error = refused(&[(token, 0, 0, true)]);
        assert!(
            matches!(error, Error::TokenOutOfRange { token: t, n_vocab: n } if t == token && n == n_vocab),
            "{error:?}"
        );
    }
}

#[test]
fn a_sequence_outside_the_context_is_refused() {
    for seq in [-1, 4, 255, 256, i32::MAX] {
        let error = refused(&[(1, 0, seq, true)]);
        assert!(matches!(error, Error::SequenceOutOfRange { seq: s, n_seq_max: 4 } if s == seq), "{error:?}");
    }
}

#[test]
fn a_position_out_of_range_is_refused() {
    for position in [-1, i32::MIN, i32::MAX] {
        let error = refused(&[(1, position, 0, true)]);
        assert!(matches!(error, Error::PositionOutOfRange { .. }), "{error:?}");
    }
}

#[test]
fn positions_that_leave_a_gap_are_refused() {
    let error = refused(&[(1, 0, 0, false), (2, 2, 0, true)]);
    assert!(matches!(error, Error::PositionGap { seq: 0, position: 2, expected: 1 }), "{error:?}");
    let mut context = context();
    feed(&mut context, 1, &[1, 2, 3]).expect("fed");
    for position in [0, 2, 4] {
        let error = context.decode(&batch_of(&[(1, position, 1, true)])).expect_err("no sequel");
        assert!(matches!(error, Error::PositionGap { seq: 1, expected: 3, .. }), "{error:?}");
    }
    feed(&mut context, 1, &[4]).expect("the sequel");
}

#[test]
fn more_tokens_than_n_batch_are_refused() {
    let rows: Vec<_> = (0..65).map(|position| (1, position, 0, false)).collect();
    assert!(matches!(refused(&rows), Error::BatchTooLarge { tokens: 65, n_batch: 64 }));
}

#[test]
fn more_rows_of_logits_than_n_outputs_max_are_refused() {
    let rows: Vec<_> = (0..5).map(|position| (1, position, 0, true)).collect();
    assert!(matches!(refused(&rows), Error::TooManyOutputs { outputs: 5, max: 4 }));
}

#[test]
fn only_rows_that_asked_for_logits_have_them() {
    let mut context = context();
    assert!(matches!(context.logits(0), Err(Error::NoLogits { row: 0 })));
    context.decode(&batch_of(&[(1, 0, 0, true), (2, 1, 0, false), (3, 2, 0, true)])).expect("ok");
    assert_eq!(context.logits(0).expect("row 0").len(), context.n_vocab());
    assert!(matches!(context.logits(1), Err(Error::NoLogits { row: 1 })));
    assert!(context.logits(2).is_ok());
    for row in [3, 1000, usize::MAX] {
        assert!(matches!(context.logits(row), Err(Error::NoLogits { .. })));
    }
    context.decode(&batch_of(&[])).expect_err("empty");
    context.decode(&batch_of(&[(1, 3, 0, false)])).expect("ok");
    assert!(matches!(context.logits(0), Err(Error::NoLogits { row: 0 })));
}

#[test]
fn a_full_pool_is_an_error_and_keeps_its_contents() {
    let mut context = Context::new(&demo(), &ContextOptions { n_ctx: 256, ..options() }).expect("made");
    for _ in 0..4 {
        feed(&mut context, 0, &[1; 64]).expect("room");
    }
    let error = feed(&mut context, 1, &[1]).expect_err("256 cells are taken");
    assert!(matches!(error, Error::NoKvSlot), "{error:?}");
    assert_eq!(context.seq_pos_max(0).expect("seq 0"), Some(255));
    assert_eq!(context.seq_pos_max(1).expect("seq 1"), None);
    assert!(context.seq_rm(0, 0, None).expect("a whole sequence"));
    feed(&mut context, 1, &[1]).expect("room again");
}

#[test]
fn bad_context_options_are_refused_by_name() {
    let bad = [
        ("n_seq_max", ContextOptions { n_seq_max: 0, ..options() }),
        ("n_seq_max", ContextOptions { n_seq_max: 257, ..options() }),
        ("n_batch", ContextOptions { n_batch: 0, ..options() }),
        ("n_ubatch", ContextOptions { n_ubatch: 0, ..options() }),
        ("n_ctx", ContextOptions { n_ctx: u32::MAX, ..options() }),
        ("n_threads", ContextOptions { n_threads: 0, ..options() }),
        ("n_threads_batch", ContextOptions { n_threads_batch: 513, ..options() }),
        ("poll", ContextOptions { poll: 101, ..options() }),
    ];
    for (name, options) in bad {
        let error = Context::new(&demo(), &options).expect_err("a bad option");
        assert!(matches!(error, Error::ContextField { field, .. } if field == name), "{error:?}");
    }
}

#[test]
fn an_error_about_a_refused_context_contains_the_message_of_llama_cpp() {
    let options = ContextOptions { type_v: KvType::Q8_0, flash_attn: FlashAttn::Off, ..options() };
    let error = Context::new(&demo(), &options).expect_err("a quantised V cache needs it");
    let Error::ContextRefused { said } = error else { panic!("{error:?}") };
    assert!(said.iter().any(|line| line.contains("flash_attn")), "{said:?}");
}

#[test]
fn a_model_with_only_a_vocabulary_gets_no_context() {
    let vocab_only = ModelOptions { vocab_only: true, ..ModelOptions::default() };
    let model = Model::load(&demo_path(), &vocab_only, None).expect("loaded");
    assert_eq!(model.vocab().n_tokens(), demo().vocab().n_tokens());
    let error = Context::new(&model, &options()).expect_err("no weights");
    assert!(matches!(error, Error::ModelUnsuited { .. }), "{error:?}");
}

#[test]
fn quantised_caches_work() {
    let options = ContextOptions { type_k: KvType::Q8_0, type_v: KvType::Q8_0, ..options() };
    let mut context = Context::new(&demo(), &options).expect("made");
    assert!(!write(&mut context, 0, "Write a poem:", 10).expect("it writes").is_empty());
}

#[test]
fn memory_calls_out_of_range_are_refused() {
    let mut context = context();
    for seq in [-1, 4, i32::MAX] {
        assert!(matches!(context.seq_rm(seq, 0, None), Err(Error::SequenceOutOfRange { .. })));
        assert!(matches!(context.seq_cp(0, seq, 0, None), Err(Error::SequenceOutOfRange { .. })));
        assert!(matches!(context.seq_cp(seq, 0, 0, None), Err(Error::SequenceOutOfRange { .. })));
        assert!(matches!(context.seq_add(seq, 0, None, 1), Err(Error::SequenceOutOfRange { .. })));
        assert!(matches!(context.seq_keep(seq), Err(Error::SequenceOutOfRange { .. })));
        assert!(matches!(context.seq_pos_max(seq), Err(Error::SequenceOutOfRange { .. })));
        assert!(matches!(context.state_seq_get(seq), Err(Error::SequenceOutOfRange { .. })));
        assert!(matches!(context.state_seq_set(seq, &[]), Err(Error::SequenceOutOfRange { .. })));
    }
    assert!(matches!(context.seq_rm(0, -1, None), Err(Error::PositionOutOfRange { position: -1 })));
    assert!(matches!(context.seq_rm(0, 5, Some(4)), Err(Error::PositionOutOfRange { position: 4 })));
    feed(&mut context, 0, &[1]).expect("it works");
}

#[test]
fn a_copied_prefix_continues_like_the_original() {
    let mut context = context();
    let tokens = demo().vocab().tokenize("Once upon a time there was", true, true).expect("tokens");
    let row = feed(&mut context, 0, &tokens).expect("fed");
    let next = argmax(context.logits(row).expect("logits"));
    context.seq_cp(0, 3, 0, None).expect("copied");
    assert_eq!(context.seq_pos_max(3).expect("seq 3"), context.seq_pos_max(0).expect("seq 0"));
    let row = feed(&mut context, 0, &[next]).expect("fed");
    let original = argmax(context.logits(row).expect("logits"));
    assert!(context.seq_rm(0, 0, None).expect("gone"));
    let row = feed(&mut context, 3, &[next]).expect("fed");
    assert_eq!(argmax(context.logits(row).expect("logits")), original);
}

#[test]
fn truncating_a_sequence_removes_its_last_tokens() {
    let mut context = context();
    let row = feed(&mut context, 0, &[10, 20, 30]).expect("fed");
    let before = context.logits(row).expect("logits").to_vec();
    feed(&mut context, 0, &[40, 50]).expect("fed");
    assert!(context.seq_rm(0, 2, None).expect("cut"));
    assert_eq!(context.seq_pos_max(0).expect("seq 0"), Some(1));
    let row = feed(&mut context, 0, &[30]).expect("fed");
    assert_eq!(argmax(context.logits(row).expect("logits")), argmax(&before));
    context.seq_keep(1).expect("kept");
    assert_eq!(context.seq_pos_min(0).expect("seq 0"), None);
    feed(&mut context, 1, &[1]).expect("fed");
    context.clear().expect("cleared");
    assert_eq!(context.seq_pos_max(1).expect("seq 1"), None);
}

#[test]
fn a_shifted_sequence_has_the_requested_positions() {
    let mut context = context();
    feed(&mut context, 0, &[1, 2, 3, 4]).expect("fed");
    assert!(context.seq_rm(0, 0, Some(2)).expect("cut"));
    context.seq_add(0, 2, None, -2).expect("shifted");
    assert_eq!((context.seq_pos_min(0).expect("min"), context.seq_pos_max(0).expect("max")), (Some(0), Some(1)));
    feed(&mut context, 0, &[5]).expect("fed");
}

#[test]
fn a_sequence_that_was_saved_and_restored_continues_unchanged() {
    let mut context = context();
    let tokens = demo().vocab().tokenize("Write a poem:", true, true).expect("tokens");
    let row = feed(&mut context, 0, &tokens).expect("fed");
    let next = argmax(context.logits(row).expect("logits"));
    let state = context.state_seq_get(0).expect("a state");
    assert!(state.len() <= context.state_seq_size(0).expect("a size"));
    let row = feed(&mut context, 0, &[next]).expect("fed");
    let original = argmax(context.logits(row).expect("logits"));
    context.clear().expect("cleared");
    context.state_seq_set(2, &state).expect("restored");
    let row = feed(&mut context, 2, &[next]).expect("fed");
    assert_eq!(argmax(context.logits(row).expect("logits")), original);
}

#[test]
fn an_invalid_state_is_refused_and_the_context_continues() {
    let mut context = context();
    feed(&mut context, 0, &[1, 2, 3]).expect("fed");
    let state = context.state_seq_get(0).expect("a state");
    for bytes in [&[][..], &[1, 2, 3], &state[..state.len() / 2]] {
        let error = context.state_seq_set(1, bytes).expect_err("no state");
        assert!(matches!(error, Error::StateRefused { .. }), "{error:?}");
        assert_eq!(context.seq_pos_max(1).expect("seq 1"), None);
    }
    feed(&mut context, 0, &[4]).expect("fed");
}

#[test]
fn the_abort_flag_ends_a_decode_and_clearing_it_lets_the_next_one_run() {
    let mut context = context();
    let abort = context.abort_flag();
    abort.store(true, Ordering::Relaxed);
    let error = feed(&mut context, 0, &[1; 64]).expect_err("aborted");
    assert!(matches!(error, Error::Aborted), "{error:?}");
    assert!(!context.is_poisoned());
    assert_eq!(context.seq_pos_max(0).expect("seq 0"), None);
    abort.store(false, Ordering::Relaxed);
    feed(&mut context, 0, &[1; 64]).expect("it runs");
}

#[test]
fn the_abort_flag_works_from_another_thread() {
    let options = ContextOptions { n_ctx: 8192, n_batch: 4096, n_ubatch: 512, ..options() };
    let mut context = Context::new(&demo(), &options).expect("made");
    let abort = context.abort_flag();
    let (done, finished) = mpsc::sync_channel(1);
    let runner = thread::spawn(move || {
        let started = Instant::now();
        let mut rounds = 0;
        let error = loop {
            if let Err(error) = feed(&mut context, 0, &[1; 4096]) {
                break error;
            }
            rounds += 1;
            context.clear().expect("cleared");
            assert!(started.elapsed() < LIMIT, "{rounds} decodes and no abort");
        };
        done.send(error).expect("the test waits");
    });
    abort.store(true, Ordering::Relaxed);
    let error = finished.recv_timeout(LIMIT).expect("the decode ends");
    assert!(matches!(error, Error::Aborted), "{error:?}");
    runner.join().expect("no panic");
}

/// Runs `work` beside busy threads that want all cores.
#[cfg(target_os = "linux")]
fn on_busy_cores<T>(work: impl FnOnce() -> T) -> T {
    mullama_ffi::beside_busy_threads(2 * thread::available_parallelism().expect("a number").get(), work)
}

#[cfg(target_os = "linux")]
#[test]
fn threads_that_wait_for_cores_are_measured() {
    let threads = u32::try_from(thread::available_parallelism().expect("a number").get()).expect("few") + 1;
    let options = ContextOptions { n_ctx: 8192, n_threads: threads, n_threads_batch: threads, ..options() };
    let mut context = Context::new(&demo(), &options).expect("made");
    let started = Instant::now();
    let next_reading = |context: &mut Context| loop {
        assert!(started.elapsed() < LIMIT, "no reading");
        context.clear().expect("cleared");
        feed(context, 0, &[1; 64]).expect("decoded");
        if let Some(reading) = context.contention() {
            break reading;
        }
    };
    let busy = on_busy_cores(|| next_reading(&mut context));
    assert!(busy.waiting > 0.4 && busy.waiting <= f64::from(threads), "{busy:?}");
    assert_eq!(busy.threads, threads);
    assert!(busy.over >= Duration::from_millis(16), "{busy:?}");
    context.set_threads(1, 1).expect("one thread");
    let alone = next_reading(&mut context);
    assert_eq!(alone.threads, 1);
    assert!(alone.waiting <= 1.0, "{alone:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_new_reading_starts_after_the_threads_have_slept() {
    let mut context = context();
    feed(&mut context, 0, &[1]).expect("decoded");
    context.pause_threads().expect("asleep");
    thread::sleep(Duration::from_millis(50));
    feed(&mut context, 0, &[2]).expect("decoded");
    let over = context.contention().map_or(Duration::ZERO, |reading| reading.over);
    assert!(over < Duration::from_millis(50), "the sleep must not be part of a reading: {over:?}");
}

#[test]
fn an_exception_poisons_the_context_and_a_new_one_works() {
    recovers_from(
        Failure::Exception,
        |error| matches!(error, Error::Exception { call: "llama_decode", text } if text.contains("on demand")),
    );
}

#[test]
fn a_failed_assertion_poisons_the_context_and_a_new_one_works() {
    recovers_from(
        Failure::Assertion,
        |error| matches!(error, Error::Assertion { call: "llama_decode", text } if text.contains("on demand")),
    );
}

#[test]
fn a_failed_computation_poisons_the_context_and_a_new_one_works() {
    recovers_from(Failure::Status(-3), |error| matches!(error, Error::DecodeFailed { status: -3, .. }));
}

fn recovers_from(failure: Failure, expected: impl Fn(&Error) -> bool) {
    let mut context = context();
    let text = write(&mut context, 0, "Write a poem:", 8).expect("it writes");
    context.clear().expect("cleared");
    context.fail_next_decode(failure);
    let error = feed(&mut context, 0, &[1]).expect_err("it fails");
    assert!(expected(&error), "{error:?}");
    assert!(error.poisons() && context.is_poisoned());
    assert!(matches!(feed(&mut context, 0, &[1]), Err(Error::Poisoned)));
    assert!(matches!(context.logits(0), Err(Error::Poisoned)));
    assert!(matches!(context.seq_rm(0, 0, None), Err(Error::Poisoned)));
    assert!(matches!(context.pause_threads(), Err(Error::Poisoned)));
    let model = std::sync::Arc::clone(context.model());
    drop(context);
    let mut anew = Context::new(&model, &options()).expect("a new one");
    assert_eq!(write(&mut anew, 0, "Write a poem:", 8).expect("it writes"), text);
}

#[test]
fn a_harmless_status_does_not_poison_the_context() {
    let mut context = context();
    context.fail_next_decode(Failure::Status(1));
    assert!(matches!(feed(&mut context, 0, &[1]), Err(Error::NoKvSlot)));
    feed(&mut context, 0, &[1]).expect("it goes on");
}

#[test]
fn threads_can_be_changed_and_paused_between_decodes() {
    let mut context =
        Context::new(&demo(), &ContextOptions { n_threads: 2, n_threads_batch: 1, ..options() }).expect("made");
    let text = write(&mut context, 0, "Write a poem:", 8).expect("it writes");
    for (n_threads, n_threads_batch) in [(1, 2), (2, 2), (1, 1)] {
        context.set_threads(n_threads, n_threads_batch).expect("set");
        context.pause_threads().expect("paused");
        context.pause_threads().expect("paused twice");
        context.clear().expect("cleared");
        assert_eq!(write(&mut context, 0, "Write a poem:", 8).expect("it writes"), text);
    }
    let error = context.set_threads(0, 1).expect_err("no threads");
    assert!(matches!(error, Error::ContextField { field: "n_threads", value: 0, .. }), "{error:?}");
}

#[test]
fn a_context_moves_to_another_thread() {
    let here = write(&mut context(), 0, "Write a poem:", 8).expect("it writes");
    let mut moved = context();
    let there = thread::spawn(move || write(&mut moved, 0, "Write a poem:", 8).expect("it writes"));
    assert_eq!(there.join().expect("no panic"), here);
}
