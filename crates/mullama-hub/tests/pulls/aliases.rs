//! Names that users give to models.

use std::fs;

use mullama::MullamaError;
use mullama_hub::{Hub, HubConfig, Listed, Location};

use crate::setup::{DEMO, Setup, pull};

fn hub(setup: &Setup) -> Hub {
    Hub::new(HubConfig { demo: Some(DEMO.into()), ..setup.config() }).expect("the configuration is valid")
}

fn entry(hub: &Hub, alias: &str) -> Listed {
    let models = hub.list().expect("a list").models;
    let found = models.iter().filter(|model| model.aliases.iter().any(|name| name == alias)).collect::<Vec<_>>();
    assert_eq!(found.len(), 1, "{alias}: {models:?}");
    found[0].clone()
}

#[test]
fn every_alias_is_in_the_list_whatever_it_stands_for() {
    let setup = Setup::new();
    let hub = hub(&setup);
    let file = setup.folder.path().join("mine.gguf");
    fs::copy(DEMO, &file).unwrap();
    setup.pulls("plain", &setup.demo());
    setup.pulls("tiny", &setup.demo());
    setup.pulls("hf.co/mullama/demo-GGUF", &setup.demo());
    for (name, alias) in [
        ("demo", "toy"),
        (file.to_str().unwrap(), "mine"),
        ("plain", "gone"),
        ("tiny", "small"),
        ("hf.co/mullama/demo-GGUF", "hugged"),
    ] {
        hub.alias(name, alias).unwrap();
    }
    let plain = hub.find("plain").unwrap();
    let facts = |alias: &str| {
        let Listed { name, location, missing, size, .. } = entry(&hub, alias);
        assert_eq!(size == 0, missing);
        (name, location, missing)
    };
    assert_eq!(facts("toy:latest"), ("demo".to_owned(), Location::File, false));
    assert_eq!(facts("mine:latest"), (file.display().to_string(), Location::File, false));
    assert_eq!(facts("small:latest"), ("tiny:latest".to_owned(), Location::Mullama, false));
    let hugged = entry(&hub, "hugged:latest");
    assert_eq!((hugged.name.as_str(), hugged.missing), ("hf.co/mullama/demo-GGUF:Q4_K_M", false));
    fs::remove_file(&file).unwrap();
    fs::remove_file(setup.store().join("manifests/registry.ollama.ai/library/plain/latest")).unwrap();
    assert_eq!(facts("mine:latest"), (file.display().to_string(), Location::File, true));
    assert_eq!(facts("gone:latest"), (plain.name, Location::File, true));
    hub.remove("gone").unwrap();
    assert!(hub.list().unwrap().models.iter().all(|model| model.name != "plain:latest"));
}

#[test]
fn an_alias_is_replaced_by_nothing_but_itself() {
    let setup = Setup::new();
    let hub = hub(&setup);
    setup.pulls("tiny", &setup.demo());
    setup.pulls("plain", &setup.demo());
    hub.alias("tiny", "small").unwrap();
    hub.alias("tiny", "small").unwrap();
    hub.alias("small", "small").unwrap();
    let error = hub.alias("plain", "small").unwrap_err();
    assert!(matches!(&error, MullamaError::InvalidConfig { field: "alias", .. }), "{error}");
    assert!(error.to_string().contains("tiny:latest") && error.to_string().contains("mullama rm"), "{error}");
    assert_eq!(hub.find("small").unwrap().name, "tiny:latest");
}

#[test]
fn a_name_that_has_a_model_cannot_become_an_alias_even_if_the_model_is_damaged() {
    let setup = Setup::new();
    let hub = hub(&setup);
    let tiny = setup.pulls("tiny", &setup.demo());
    for _ in 0..2 {
        let error = hub.alias("demo", "tiny").unwrap_err();
        assert!(matches!(&error, MullamaError::InvalidConfig { field: "alias", .. }), "{error}");
        let _ = fs::remove_file(&tiny.path);
    }
}

#[test]
fn no_alias_can_be_taken_for_the_demo_model() {
    let setup = Setup::new();
    let hub = hub(&setup);
    setup.pulls("tiny", &setup.demo());
    for alias in ["demo", "DEMO", "Demo", "demo:latest", "demo:LATEST", "library/demo", "ollama://demo"] {
        let error = hub.alias("tiny", alias).unwrap_err();
        assert!(error.to_string().contains("comes with mullama"), "{alias}: {error}");
    }
    hub.alias("tiny", "demo:1b").unwrap();
    hub.alias("tiny", "me/demo").unwrap();
}

#[test]
fn only_a_model_can_have_an_alias() {
    let setup = Setup::new();
    let file = setup.folder.path().join("notes.gguf");
    fs::write(&file, "no model").unwrap();
    let error = hub(&setup).alias(file.to_str().unwrap(), "notes").unwrap_err();
    assert_eq!(error.code(), "MODEL_LOAD", "{error}");
}

#[test]
fn a_model_that_is_asked_for_by_its_alias_has_its_own_name() {
    let setup = Setup::new();
    let hub = hub(&setup);
    assert_eq!(setup.pulls("tiny", &setup.demo()).alias, None);
    hub.alias("tiny", "small").unwrap();
    let mut files = Vec::new();
    let pulled = hub.pull_blocking("small", |progress| {
        files.push(progress.file.clone());
        true
    });
    let (pulled, found) = (pulled.unwrap(), hub.find("small").unwrap());
    assert_eq!(pulled, found);
    assert_eq!((found.name.as_str(), found.alias.as_deref()), ("tiny:latest", Some("small:latest")));
    assert_eq!(files.last().map(String::as_str), Some("tiny:latest"));
}

#[test]
fn an_alias_whose_file_is_gone_says_so_once() {
    let setup = Setup::new();
    let hub = hub(&setup);
    let file = setup.folder.path().join("mine.gguf");
    fs::copy(DEMO, &file).unwrap();
    hub.alias(file.to_str().unwrap(), "mine").unwrap();
    fs::remove_file(&file).unwrap();
    for result in [hub.find("mine"), hub.find_or_pull_blocking("mine", |_| true), pull(&hub, "mine")] {
        let message = result.unwrap_err().to_string();
        assert_eq!(message.matches("there is no file").count(), 1, "{message}");
        assert_eq!(message.matches("is an alias of").count(), 1, "{message}");
    }
}
