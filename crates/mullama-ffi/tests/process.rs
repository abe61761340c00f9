//! Properties of the whole process: where the log goes, and what the build supports.

mod support;

use std::env;
use std::fmt::Write as _;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use mullama_ffi::{DeviceKind, Model, ModelOptions, devices, system_info};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Set in the child process of [`child`].
const CHILD: &str = "MULLAMA_FFI_TEST_CHILD";

/// Runs the named test of this program again in a child process, which has [`CHILD`] set.
fn child(test: &str) -> Output {
    Command::new(env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture", "--quiet"])
        .env(CHILD, "1")
        .output()
        .expect("the child runs")
}

fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

#[test]
fn nothing_goes_to_stderr_by_default() {
    if is_child() {
        let mut context = support::context();
        support::write(&mut context, 0, "Hello", 4).expect("it writes");
        Model::load("/no/such/file".as_ref(), &ModelOptions::default(), None).expect_err("none");
        return;
    }
    let output = child("nothing_goes_to_stderr_by_default");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// Keeps every event of llama.cpp as level and text.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<(Level, String)>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, _: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, "{value:?}").expect("a string takes it");
    }
}

impl Subscriber for Kept {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "mullama::llama"
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().expect("no panic").push((*event.metadata().level(), text.0));
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn the_log_goes_to_tracing_line_by_line() {
    let kept = Kept::default();
    tracing::subscriber::with_default(kept.clone(), || {
        Model::load(&support::demo_path(), &ModelOptions::default(), None).expect("loaded");
        Model::load("/no/such/file".as_ref(), &ModelOptions::default(), None).expect_err("none");
    });
    let kept = kept.0.lock().expect("no panic");
    assert!(kept.iter().any(|(level, line)| *level == Level::INFO && line.contains("llama")));
    assert!(kept.iter().any(|(level, line)| *level == Level::ERROR && line.contains("/no/such/file")));
    assert!(kept.iter().all(|(_, line)| !line.is_empty() && !line.contains('\n')), "{kept:?}");
}

/// A subscriber that panics must not unwind into C++.
struct Panics;

impl Subscriber for Panics {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {
        panic!("in the subscriber");
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn a_subscriber_that_panics_does_not_end_the_process() {
    tracing::subscriber::with_default(Panics, || {
        Model::load(&support::demo_path(), &ModelOptions::default(), None).expect("loaded");
    });
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_build_uses_the_instructions_it_was_compiled_for() {
    let info = system_info();
    let has = |flag: &str| info.contains(&format!("{flag} = 1"));
    for (flag, compiled) in [
        ("AVX2", cfg!(target_feature = "avx2")),
        ("FMA", cfg!(target_feature = "fma")),
        ("F16C", cfg!(target_feature = "f16c")),
        ("BMI2", cfg!(target_feature = "bmi2")),
        ("AVX512", cfg!(target_feature = "avx512f")),
    ] {
        assert_eq!(has(flag), compiled, "{flag} in {info}");
    }
    assert!(std::arch::is_x86_feature_detected!("avx2") || !has("AVX2"), "{info}");
}

#[test]
fn an_assertion_on_another_thread_is_printed_before_the_process_ends() {
    if is_child() {
        mullama_ffi::backend::init().expect("llama.cpp starts");
        // SAFETY: ends the process through ggml's own function, as an assertion on a compute thread does.
        unsafe { llama_cpp_sys_2::ggml_abort(c"here".as_ptr(), 7, c"last words".as_ptr()) };
    }
    let output = child("an_assertion_on_another_thread_is_printed_before_the_process_ends");
    assert!(!output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("last words"), "{output:?}");
}

#[test]
fn every_build_lists_the_processor_with_its_memory() {
    let devices = devices().expect("the devices are listed");
    let cpu = devices.iter().find(|device| device.kind == DeviceKind::Cpu).expect("the processor is listed");
    assert_eq!(cpu.name, "CPU");
    assert!(!cpu.description.is_empty());
    assert!(cpu.memory_total >= cpu.memory_free && cpu.memory_total > 1 << 28, "{cpu:?}");
}

#[test]
fn a_build_without_a_gpu_backend_offloads_nothing() {
    if devices().expect("the devices are listed").iter().any(|device| device.kind.holds_layers()) {
        return; // a build for a GPU, on a machine that has one
    }
    for n_gpu_layers in [-1, 0, 3, i32::MAX] {
        let options = ModelOptions { n_gpu_layers, ..ModelOptions::default() };
        let model = Model::load(support::demo_path().as_ref(), &options, None).expect("the demo loads");
        assert_eq!(model.gpu_layers(), 0);
    }
}
