//! Removing models while others are pulled, and beside others that need the same files.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use mullama::{DownloadFailure, MullamaError};
use mullama_hub_server::Fault;

use crate::program;
use crate::setup::{ALWAYS, Setup, assert_is, eventually, files, pull};

#[test]
fn a_pull_beside_removals_of_a_model_with_the_same_files_always_leaves_a_model() {
    let setup = Setup::new();
    let (end, demo) = (Instant::now() + Duration::from_secs(4), setup.demo());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let hub = setup.hub();
                while Instant::now() < end {
                    pull(&hub, "tiny").unwrap();
                    // The other thread may be faster.
                    let _ = hub.remove("tiny");
                }
            });
        }
        scope.spawn(|| {
            let hub = setup.hub();
            while Instant::now() < end {
                assert_is(&pull(&hub, "someone/tiny").unwrap().path, &demo);
                assert_is(&hub.find("someone/tiny").unwrap().path, &demo);
                hub.remove("someone/tiny").unwrap();
            }
        });
    });
}

#[test]
fn no_blob_is_removed_while_it_is_not_known_which_are_needed() {
    let setup = Setup::new();
    let hub = setup.hub();
    let path = setup.pulls("tiny", &setup.demo()).path;
    setup.pulls("someone/tiny", &setup.demo());
    let manifest = setup.store().join("manifests/registry.ollama.ai/someone/tiny/latest");
    let bytes = fs::read(&manifest).unwrap();
    fs::write(&manifest, "{").unwrap();
    assert_eq!(hub.remove("no-such-model").unwrap_err().code(), "MODEL_NOT_FOUND");
    let removed = hub.remove("tiny").unwrap();
    assert!(removed.kept.is_some_and(|kept| kept.path.ends_with("someone/tiny/latest")) && removed.files.len() == 1);
    assert!(hub.find("tiny").is_err() && path.exists());
    fs::write(&manifest, bytes).unwrap();
    assert_is(&hub.find("someone/tiny").unwrap().path, &setup.demo());
    assert_eq!(hub.remove("someone/tiny").unwrap().kept, None);
    assert!(!path.exists());
}

#[test]
fn no_blob_is_removed_while_the_record_of_an_address_cannot_be_read() {
    let setup = Setup::new();
    let hub = setup.hub();
    let path = setup.pulls("tiny", &setup.demo()).path;
    setup.pulls(&format!("{}/files/demo.gguf", setup.server.url()), &setup.demo());
    let record = fs::read_dir(setup.store().join("urls")).unwrap().next().unwrap().unwrap().path();
    fs::write(record, "{").unwrap();
    assert!(hub.remove("tiny").unwrap().kept.is_some());
    assert!(path.exists());
}

#[test]
fn nothing_of_a_repository_stays_in_the_shared_cache() {
    let setup = Setup::new();
    let hub = setup.hub();
    let path = setup.pulls("hf.co/mullama/demo-GGUF", &setup.demo()).path;
    let repo = setup.folder.path().join("cache/models--mullama--demo-GGUF");
    assert!(path.starts_with(&repo) && repo.join("refs/main").exists());
    hub.remove("hf.co/mullama/demo-GGUF").unwrap();
    assert!(!repo.exists(), "{:?}", crate::setup::files(&repo));
    setup.pulls("hf.co/mullama/demo-GGUF", &setup.demo());
}

#[test]
fn a_second_name_for_the_same_bytes_in_the_shared_cache_is_removed_too() {
    let setup = Setup::new();
    let hub = setup.hub();
    let names = ["hf.co/mullama/demo-GGUF:Q4_K_M", "hf.co/mullama/demo-GGUF:Q8_0"];
    for name in names {
        setup.pulls(name, &setup.demo());
    }
    hub.remove(names[0]).unwrap();
    assert!(hub.find(names[1]).unwrap().path.exists());
    hub.remove(names[1]).unwrap();
    assert!(hub.find(names[1]).is_err());
}

#[test]
fn a_damaged_model_is_downloaded_again() {
    let setup = Setup::new();
    let path = setup.pulls("tiny", &setup.demo()).path;
    fs::remove_file(&path).unwrap();
    fs::write(&path, vec![0; usize::try_from(setup.demo().len()).unwrap()]).unwrap();
    setup.pulls("tiny", &setup.demo());
}

#[test]
fn a_folder_and_a_file_that_is_no_model_are_not_offered() {
    let setup = Setup::new();
    let folder = setup.folder.path();
    let file = folder.join("notes.gguf");
    fs::write(&file, "no model").unwrap();
    for path in [folder, file.as_path()] {
        let error = setup.pull(path.to_str().unwrap()).unwrap_err();
        assert_eq!(error.code(), "MODEL_LOAD", "{error}");
    }
    assert!(setup.hub().find(folder.to_str().unwrap()).unwrap_err().to_string().contains("not a regular file"));
}

#[test]
fn a_file_in_the_working_directory_is_in_nobody_s_way() {
    let setup = Setup::new();
    let hub = setup.hub();
    assert!(fs::exists("Cargo.toml").unwrap(), "tests run in the folder of their package");
    setup.pulls("tiny", &setup.demo());
    hub.alias("tiny", "Cargo.toml").unwrap();
    hub.remove("Cargo.toml").unwrap();
    let error = hub.remove("Cargo.toml").unwrap_err();
    assert_eq!(error.code(), "MODEL_NOT_FOUND", "{error}");
    assert!(error.to_string().contains("mullama list"), "{error}");
    let error = hub.remove("./Cargo.toml").unwrap_err().to_string();
    assert!(error.contains("delete yourself"), "{error}");
    assert_eq!(hub.remove("./no-such-file").unwrap_err().code(), "MODEL_NOT_FOUND");
}

#[test]
fn a_model_that_is_downloaded_for_the_first_time_is_not_unknown() {
    for name in ["large", "hf.co/mullama/large-GGUF", "/files/large.gguf"] {
        let setup = Setup::new();
        for path in ["/cdn/*", "/files/*"] {
            setup.fault(path, Fault::Trickle { bytes: 64 << 10, ms: 200 }, ALWAYS);
        }
        let name = if name.starts_with('/') { format!("{}{name}", setup.server.url()) } else { name.to_owned() };
        let hub = setup.hub();
        let puller = program::start(&setup, &name);
        let is_part = |path: &std::path::PathBuf| path.to_string_lossy().contains(".part");
        eventually("a part file", || files(setup.folder.path()).iter().any(is_part));
        let before = files(setup.folder.path());
        let error = hub.remove(&name).unwrap_err();
        let is_busy = matches!(&error, MullamaError::Download { failure: DownloadFailure::Store { .. }, .. });
        assert!(is_busy && error.to_string().contains("is being downloaded by another process"), "{error}");
        for path in before.iter().filter(|path| !path.to_string_lossy().contains(".json")) {
            assert!(path.exists(), "{}", path.display());
        }
        drop(puller);
        eventually("the end of the download", || hub.remove(&name).is_ok());
        assert_eq!(files(&setup.store()), [setup.store().join(".lock")], "{name}");
        assert_eq!(files(&setup.folder.path().join("cache")), Vec::<std::path::PathBuf>::new(), "{name}");
    }
}

#[test]
fn files_that_have_arrived_whole_go_with_an_interrupted_first_download() {
    let setup = Setup::new();
    setup.fault("/cdn/*", Fault::Trickle { bytes: 64 << 10, ms: 200 }, ALWAYS);
    let hub = setup.hub();
    let puller = program::start(&setup, "large");
    let blobs = || files(&setup.store().join("blobs"));
    // The configuration arrives before the model.
    let is_whole = |path: &std::path::PathBuf| path.extension().is_none();
    let is_part = |path: &std::path::PathBuf| path.to_string_lossy().ends_with(".part");
    eventually("the configuration", || blobs().iter().any(is_whole) && blobs().iter().any(is_part));
    drop(puller);
    eventually("the end of the download", || hub.remove("large").is_ok());
    assert_eq!(files(&setup.store()), [setup.store().join(".lock")]);
}

#[test]
fn no_lock_stays_when_a_download_has_ended() {
    let setup = Setup::new();
    let hub = setup.hub();
    let url = format!("{}/files/demo.gguf", setup.server.url());
    for name in ["tiny", "hf.co/mullama/demo-GGUF", "hf.co/mullama/split-GGUF", url.as_str()] {
        setup.pull(name).unwrap();
        let is_lock = |path: &&std::path::PathBuf| path.extension().is_some_and(|ending| ending == "lock");
        let left = files(setup.folder.path());
        assert_eq!(left.iter().find(is_lock), None, "{name}");
        hub.remove(name).unwrap();
    }
    assert!(!setup.folder.path().join("cache/.locks").exists());
}

#[test]
fn processes_that_pull_and_remove_at_once_never_fail_and_leave_no_lock() {
    for name in ["tiny", "hf.co/mullama/demo-GGUF"] {
        let setup = Setup::new();
        let end = Instant::now() + Duration::from_secs(4);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while Instant::now() < end {
                        let report = program::finish(program::start(&setup, name));
                        assert!(report.end["path"].is_string(), "{}: {}", report.end, report.stderr);
                    }
                });
            }
            scope.spawn(|| {
                let hub = setup.hub();
                while Instant::now() < end {
                    // It may be there or not, or be downloaded just now.
                    let _ = hub.remove(name);
                    pull(&hub, name).unwrap();
                    let _ = hub.remove(name);
                }
            });
        });
        let _ = setup.hub().remove(name);
        let left = files(setup.folder.path());
        assert_eq!(left, [setup.store().join(".lock")], "{name}");
    }
}
