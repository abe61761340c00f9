use std::fs;
use std::path::Path;
use std::process::Command;

use super::*;

fn collected() -> &'static Path {
    Path::new(env!("MULLAMA_LIBRARIES"))
}

/// A copy of a variant that states another build, or none.
fn copy_with(id: Option<&str>, folder: &Path) -> PathBuf {
    let copy = folder.join("libggml-cpu-x64.so");
    let marker = folder.join("id");
    let mut objcopy = Command::new("objcopy");
    match id {
        Some(id) => {
            fs::write(&marker, id).expect("the folder is ours");
            objcopy.arg(format!("--update-section={SECTION}={}", marker.display()));
        }
        None => {
            objcopy.arg(format!("--remove-section={SECTION}"));
        }
    }
    let status =
        objcopy.arg(collected().join("libggml-cpu-x64.so")).arg(&copy).status().expect("binutils are installed");
    assert!(status.success());
    copy
}

fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("mullama-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("the temporary folder is writable");
    folder
}

#[test]
fn every_collected_library_states_the_build() {
    let mut variants = 0;
    for entry in fs::read_dir(collected()).expect("the build script made it").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("lib") {
            verify(&entry.path()).unwrap_or_else(|error| panic!("{name}: {error}"));
            variants += usize::from(name.starts_with("libggml-cpu-"));
        }
    }
    assert!(variants >= 7, "{variants}");
}

#[test]
fn a_library_of_another_build_is_refused_with_both_build_ids() {
    let folder = scratch("foreign");
    let error = verify(&copy_with(Some("mullama 99.0.0"), &folder)).expect_err("it is foreign").to_string();
    assert!(error.contains("belongs to mullama 99.0.0") && error.contains(BUILD_ID), "{error}");
    let error = verify(&copy_with(None, &folder)).expect_err("it states nothing").to_string();
    assert!(error.contains("no build of mullama"), "{error}");
    fs::remove_dir_all(folder).expect("it is ours");
}

#[test]
fn a_file_that_is_no_library_or_is_cut_off_is_unreadable() {
    let folder = scratch("damaged");
    let whole = fs::read(collected().join("libggml-cpu-x64.so")).expect("it was collected");
    for bytes in [&b"#!/bin/sh"[..], &[], &whole[..64], &whole[..whole.len() - 1]] {
        let path = folder.join("libggml-cpu-x64.so");
        fs::write(&path, bytes).expect("the folder is ours");
        assert!(matches!(verify(&path), Err(Error::LibraryUnreadable { .. })), "{} bytes", bytes.len());
    }
    fs::remove_dir_all(folder).expect("it is ours");
}

#[test]
fn a_named_pipe_and_a_folder_are_refused_and_not_waited_for() {
    let folder = scratch("pipe");
    let pipe = folder.join("libggml-cpu-x64.so");
    let status = Command::new("mkfifo").arg(&pipe).status().expect("coreutils are installed");
    assert!(status.success());
    for path in [&pipe, &folder] {
        let error = load_plugin(path).expect_err("it is no file").to_string();
        assert!(error.contains("no regular file"), "{error}");
    }
    fs::remove_dir_all(folder).expect("it is ours");
}

#[test]
fn a_plugin_of_another_build_is_refused_before_it_is_loaded() {
    let folder = scratch("plugin");
    let refused = load_plugin(&copy_with(Some("mullama 99.0.0"), &folder));
    assert!(matches!(refused, Err(Error::ForeignLibrary { .. })), "{refused:?}");
    let missing = load_plugin(&folder.join("missing.so"));
    assert!(matches!(missing, Err(Error::LibraryUnreadable { .. })), "{missing:?}");
    fs::remove_dir_all(folder).expect("it is ours");
}

#[test]
fn the_variant_in_use_is_the_first_that_runs_here() {
    backend::init().expect("a variant runs here");
    let best = processor::variants().find(|name| collected().join(format!("libggml-cpu-{name}.so")).exists());
    assert_eq!(variant(), best);
    assert_eq!(processor::variants().last(), Some("x64"));
}
