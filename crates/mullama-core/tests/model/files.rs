//! What happens to a mapped model file while it is in use.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mullama::{Context, Model, ModelOptions, MullamaError, StreamConfig, StreamFailure};

use crate::support::{demo_path, greedy, params};

const PROMPT: &str = "Count: 1, 2, 3";

/// A copy of the demo model in its own directory, with a context over it that has already generated text.
fn loaded(use_mmap: bool) -> (tempfile::TempDir, PathBuf, Context) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("copy.gguf");
    fs::copy(demo_path(), &path).expect("a copy of the demo");
    let options = ModelOptions { use_mmap, ..ModelOptions::default() };
    let model = Arc::new(Model::load_with(&path, &options, None).expect("the copy loads"));
    let context = Context::new(model, params()).expect("a context");
    context.generate(PROMPT, greedy(2)).expect("an answer");
    (folder, path, context)
}

fn truncate(path: &Path) {
    OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(100_000)).expect("the file is cut");
}

#[track_caller]
fn assert_refused(context: &Context, path: &Path) {
    let refused = context.stream("Once upon a time", StreamConfig::new());
    match refused {
        Err(ref error @ MullamaError::StreamingError(StreamFailure::ModelFileChanged { path: ref named, len })) => {
            assert_eq!((named.as_path(), len), (path, fs::metadata(demo_path()).expect("the demo").len()));
            assert_eq!(error.code(), "GENERATION_ERROR");
            assert!(error.to_string().contains("use_mmap"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_after_the_mapped_file_was_cut_is_refused() {
    let (_folder, path, context) = loaded(true);
    truncate(&path);
    assert_refused(&context, &path);
    assert!(Context::new(Arc::clone(context.model()), params()).is_err());
}

#[test]
fn a_request_after_the_mapped_file_was_overwritten_in_place_is_refused() {
    let (_folder, path, context) = loaded(true);
    let file = OpenOptions::new().write(true).open(&path).expect("the file opens");
    // The modification time is set explicitly, because a write within the same clock tick would not change it.
    file.set_modified(SystemTime::now() + Duration::from_secs(1)).expect("the file has a new time");
    assert_refused(&context, &path);
}

#[test]
fn a_file_that_is_deleted_or_replaced_by_renaming_does_no_harm() {
    let (folder, path, context) = loaded(true);
    let before = context.generate(PROMPT, greedy(8)).expect("an answer").text;
    let other = folder.path().join("other.gguf");
    fs::write(&other, b"another model").expect("a file");
    fs::rename(&other, &path).expect("it is replaced");
    assert_eq!(context.generate(PROMPT, greedy(8)).expect("an answer").text, before);
    fs::remove_file(&path).expect("it is deleted");
    assert_eq!(context.generate(PROMPT, greedy(8)).expect("an answer").text, before);
}

#[test]
fn a_model_that_is_not_mapped_outlives_its_file() {
    let (_folder, path, context) = loaded(false);
    let before = context.generate(PROMPT, greedy(8)).expect("an answer").text;
    truncate(&path);
    assert_eq!(context.generate(PROMPT, greedy(8)).expect("an answer").text, before);
}

#[test]
fn a_file_that_changes_while_it_is_loaded_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("copy.gguf");
    fs::copy(demo_path(), &path).expect("a copy of the demo");
    let options = ModelOptions { use_mmap: false, ..ModelOptions::default() };
    let mut touched = false;
    let mut touch = |_: f32| {
        if !std::mem::replace(&mut touched, true) {
            let file = OpenOptions::new().append(true).open(&path).expect("the file opens");
            let len = file.metadata().expect("it has a size").len();
            file.set_len(len + 1).expect("it grows");
        }
        true
    };
    let refused = Model::load_with(&path, &options, Some(&mut touch));
    let words = refused.expect_err("it changed").to_string();
    assert!(words.contains("changed while it was being loaded"), "{words}");
}
