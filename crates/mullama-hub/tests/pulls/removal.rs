//! Removing models while others are pulled, and beside others that need the same files.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::setup::{Setup, assert_is, pull};

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
    let removed = hub.remove("tiny").unwrap();
    assert!(removed.kept.is_some_and(|why| why.contains("someone/tiny")) && removed.files.len() == 1);
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
