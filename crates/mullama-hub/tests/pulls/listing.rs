//! Lists of stores that are damaged or closed.

use std::fs;
use std::path::Path;

use mullama_hub::{Hub, HubConfig};

use crate::setup::{Setup, files};

/// The paths that a list reports as unreadable.
fn unreadable(hub: &Hub) -> Vec<std::path::PathBuf> {
    let found = hub.list().expect("a list").unreadable;
    assert!(found.iter().all(|each| !each.reason.is_empty()));
    found.into_iter().map(|each| each.path).collect()
}

#[test]
fn what_is_not_there_is_no_problem_and_what_is_no_folder_is_one() {
    let setup = Setup::new();
    assert_eq!(unreadable(&setup.hub()), Vec::<std::path::PathBuf>::new());
    let null = Path::new("/dev/null");
    for at in [null.to_owned(), null.join("models")] {
        let config = HubConfig { store: at.clone(), ..setup.config() };
        assert_eq!(unreadable(&Hub::new(config).unwrap()), std::slice::from_ref(&at));
        let others =
            HubConfig { ollama_stores: vec![at.clone()], lm_studio_folders: vec![at.clone()], ..setup.config() };
        assert_eq!(unreadable(&Hub::new(others).unwrap()), std::slice::from_ref(&at), "each once");
        let cache = HubConfig { hugging_face_cache: at.clone(), ..setup.config() };
        assert_eq!(unreadable(&Hub::new(cache).unwrap()), [at]);
    }
}

#[test]
fn a_folder_that_cannot_be_read_is_reported_and_the_other_models_are_listed() {
    for folder in ["manifests/registry.ollama.ai/closed", "manifests/closed", "aliases", "urls"] {
        let setup = Setup::new();
        setup.pulls("tiny", &setup.demo());
        let closed = setup.store().join(folder);
        // A link to itself cannot be read by anybody, not even by root.
        std::os::unix::fs::symlink(&closed, &closed).unwrap();
        let listing = setup.hub().list().unwrap();
        assert_eq!(listing.models.len(), 1, "{folder}");
        assert_eq!(listing.unreadable.len(), 1, "{folder}: {:?}", listing.unreadable);
        assert!(listing.unreadable[0].path.starts_with(&closed), "{:?}", listing.unreadable);
    }
}

#[test]
fn a_folder_of_the_shared_cache_or_of_lm_studio_that_cannot_be_read_is_reported() {
    let setup = Setup::new();
    let (cache, studio) = (setup.folder.path().join("cache"), setup.folder.path().join("studio"));
    let closed = [cache.join("models--user--repo/snapshots"), studio.join("closed"), studio.join("publisher/repo")];
    for path in &closed {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(path, path).unwrap();
    }
    let hub = Hub::new(HubConfig { lm_studio_folders: vec![studio], ..setup.config() }).unwrap();
    assert_eq!(unreadable(&hub), closed);
    let error = hub.find("hf.co/user/repo").unwrap_err().to_string();
    assert!(error.contains("cannot be read"), "{error}");
}

#[test]
fn a_damaged_manifest_a_missing_blob_and_a_damaged_blob_are_reported() {
    let setup = Setup::new();
    let hub = setup.hub();
    let path = setup.pulls("tiny", &setup.demo()).path;
    let manifest = setup.store().join("manifests/registry.ollama.ai/library/tiny/latest");
    let whole = fs::read(&manifest).unwrap();
    fs::write(&manifest, "{").unwrap();
    assert_eq!(unreadable(&hub), std::slice::from_ref(&manifest));
    fs::write(&manifest, whole).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(unreadable(&hub), [manifest]);
    fs::write(&path, vec![0; usize::try_from(setup.demo().len()).unwrap()]).unwrap();
    assert_eq!(unreadable(&hub), [path]);
    let error = hub.show("tiny", None).unwrap_err().to_string();
    assert!(error.contains("mullama rm tiny:latest") && error.contains("mullama pull tiny:latest"), "{error}");
    setup.pulls("tiny", &setup.demo());
    assert_eq!(unreadable(&hub), Vec::<std::path::PathBuf>::new());
    assert!(files(&setup.store()).len() > 1);
}

#[test]
fn the_size_of_a_split_model_is_that_of_all_its_files() {
    let setup = Setup::new();
    let hub = setup.hub();
    let pulled = setup.pull("hf.co/mullama/split-GGUF").unwrap();
    let listed = hub.list().unwrap().models;
    let shards = mullama_hub_server::split(&setup.demo().to_vec(), 3);
    assert_eq!(pulled.size, shards.iter().map(mullama_hub_server::Content::len).sum::<u64>());
    assert_eq!((listed[0].size, hub.find("hf.co/mullama/split-GGUF").unwrap().size), (pulled.size, pulled.size));
}
