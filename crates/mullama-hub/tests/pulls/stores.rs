//! Where pulled models are, and what finds them there.

use mullama::Model;
use mullama_hub::Location;

use crate::setup::{Setup, assert_is, cdn};

#[test]
fn each_kind_of_name_leads_to_its_file() {
    let setup = Setup::new();
    let url = format!("{}/files/demo.gguf", setup.server.url());
    let host = format!("{}/library/tiny:latest", setup.server.url().trim_start_matches("http://"));
    for (name, location) in [
        ("tiny", Location::Mullama),
        ("llama3.2:1b", Location::Mullama),
        ("someone/tiny", Location::Mullama),
        (host.as_str(), Location::Mullama),
        ("hf.co/mullama/demo-GGUF", Location::HuggingFace),
        ("hf.co/mullama/demo-GGUF:Q8_0", Location::HuggingFace),
        (url.as_str(), Location::Mullama),
    ] {
        let model = setup.pulls(name, &setup.demo());
        assert_eq!(model.location, location, "{name}");
        let found = setup.hub().find(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found, model, "{name}");
        assert_eq!(setup.hub().find(&model.name).unwrap().path, model.path, "{}", model.name);
    }
}

#[test]
fn a_split_model_is_pulled_whole_and_can_be_loaded() {
    let setup = Setup::new();
    let model = setup.pull("hf.co/mullama/split-GGUF").unwrap();
    assert!(model.path.ends_with("Q4_K_M/demo-Q4_K_M-00001-of-00003.gguf"), "{}", model.path.display());
    Model::load(&model.path).unwrap();
    assert_eq!(setup.hub().find("hf.co/mullama/split-GGUF").unwrap().path, model.path);
    assert_eq!(setup.server.requests().iter().filter(|request| request.origin == "cdn").count(), 3);
}

#[test]
fn a_split_model_of_which_a_part_is_wrong_is_not_offered() {
    let setup = Setup::new();
    let shards = mullama_hub_server::split(&setup.demo().to_vec(), 3);
    setup.fault(&cdn(&shards[1]), mullama_hub_server::Fault::Corrupt { at: 1000 }, 1);
    assert_eq!(setup.failure("hf.co/mullama/split-GGUF").reason(), "digest");
    assert!(setup.hub().find("hf.co/mullama/split-GGUF").is_err(), "two of three files are no model");
    let model = setup.pull("hf.co/mullama/split-GGUF").unwrap();
    assert_is(&model.path, &shards[0]);
    let first = setup.server.requests().iter().filter(|request| request.path == cdn(&shards[0])).count();
    assert_eq!(first, 1, "the first file was not fetched again");
}

#[test]
fn a_removed_model_is_gone_and_its_blob_stays_while_another_name_needs_it() {
    let setup = Setup::new();
    let hub = setup.hub();
    let path = setup.pulls("tiny", &setup.demo()).path;
    setup.pulls("plain", &setup.demo());
    hub.remove("tiny").unwrap();
    assert!(hub.find("tiny").is_err() && path.exists());
    assert_is(&hub.find("plain").unwrap().path, &setup.demo());
    hub.remove("plain").unwrap();
    assert!(!path.exists());
    setup.pulls("plain", &setup.demo());
}

#[test]
fn offline_pulls_fail_at_once_and_finds_still_work() {
    let setup = Setup::new();
    setup.pulls("tiny", &setup.demo());
    setup.server.clear_requests();
    let mut config = setup.config();
    config.offline = Some("MULLAMA_OFFLINE=1".to_owned());
    let hub = mullama_hub::Hub::new(config).unwrap();
    let error = crate::setup::pull(&hub, "plain").unwrap_err();
    assert_eq!(error.code(), "DOWNLOAD_ERROR");
    let message = error.to_string();
    assert!(message.contains("MULLAMA_OFFLINE=1") && message.contains("it is not in"), "{message}");
    assert_is(&crate::setup::pull(&hub, "tiny").unwrap().path, &setup.demo());
    let error = crate::setup::pull(&hub, "https://example.com/a.gguf?sig=hunter2").unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    assert_is(&hub.find("tiny").unwrap().path, &setup.demo());
    assert!(setup.server.requests().is_empty());
}
