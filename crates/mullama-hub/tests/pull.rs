//! Pulls by name of every kind, from a real server on loopback.

use std::fs;
use std::path::Path;
use std::time::Duration;

use mullama::{DownloadFailure, MullamaError};
use mullama_hub::{Hub, HubConfig, Location, Phase};
use mullama_hub_server::{Fault, HUGGING_FACE_TOKEN, LARGE_LEN, Server};
use tempfile::TempDir;
use url::Url;

struct Setting {
    server: Server,
    folder: TempDir,
}

impl Setting {
    fn new() -> Self {
        Self { server: Server::start(&demo()).expect("a server"), folder: tempfile::tempdir().expect("a folder") }
    }

    fn config(&self) -> HubConfig {
        let url = Url::parse(&self.server.url()).expect("an address");
        HubConfig {
            store: self.folder.path().join("store"),
            registry: url.clone(),
            hugging_face: url,
            hugging_face_cache: self.folder.path().join("hub"),
            hugging_face_token: None,
            ollama_stores: Vec::new(),
            lm_studio_folders: Vec::new(),
            offline: None,
            demo: Some(demo()),
            stall_limit: Duration::from_secs(2),
            unusable: Vec::new(),
        }
    }

    fn hub(&self) -> Hub {
        Hub::new(self.config()).expect("a hub")
    }
}

fn demo() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python/mullama/models/demo.gguf")
}

#[tokio::test]
async fn a_model_of_the_registry_is_pulled_with_its_defaults_and_found_again() {
    let setting = Setting::new();
    let hub = setting.hub();
    let mut phases = Vec::new();
    let pulled = hub.pull("llama3.2:1b", |progress| phases.push(progress.phase)).await.unwrap();
    assert_eq!((pulled.name.as_str(), pulled.location), ("llama3.2:1b", Location::Mullama));
    assert_eq!(fs::read(&pulled.path).unwrap(), fs::read(demo()).unwrap());
    assert_eq!((pulled.defaults.n_ctx, pulled.defaults.system.as_deref()), (Some(512), Some("You answer in verse.")));
    assert_eq!(hub.find("llama3.2:1b").unwrap(), pulled);
    assert!(phases.is_sorted() && phases.last() == Some(&Phase::Done), "{phases:?}");
}

#[tokio::test]
async fn a_registry_that_wants_a_token_gets_it_and_the_other_host_does_not() {
    let setting = Setting::new();
    setting.hub().pull("private", |_| ()).await.unwrap();
    let requests = setting.server.requests();
    assert!(requests.iter().any(|request| request.origin == "main" && request.authorization.is_some()));
    assert!(requests.iter().all(|request| request.origin == "main" || request.authorization.is_none()), "{requests:?}");
}

#[tokio::test]
async fn a_model_of_hugging_face_goes_into_the_shared_cache() {
    let setting = Setting::new();
    let hub = setting.hub();
    for name in ["hf.co/mullama/demo-GGUF", "hf.co/mullama/split-GGUF:Q4_K_M"] {
        let pulled = hub.pull(name, |_| ()).await.unwrap();
        assert_eq!((pulled.name.as_str(), pulled.location), (name, Location::HuggingFace));
        assert!(mullama::gguf::check(&pulled.path).is_ok());
        assert_eq!(hub.find(name).unwrap(), pulled);
    }
}

#[tokio::test]
async fn a_private_repository_needs_the_token_which_only_its_host_sees() {
    let setting = Setting::new();
    let error = setting.hub().pull("hf.co/mullama/private-GGUF", |_| ()).await.unwrap_err();
    assert!(error.message().contains("HF_TOKEN"), "{error}");
    let config = HubConfig { hugging_face_token: Some(HUGGING_FACE_TOKEN.to_owned()), ..setting.config() };
    setting.server.clear_requests();
    Hub::new(config).unwrap().pull("hf.co/mullama/private-GGUF", |_| ()).await.unwrap();
    let requests = setting.server.requests();
    assert!(
        requests.iter().all(|request| (request.origin == "main") == request.authorization.is_some()),
        "{requests:?}"
    );
}

#[tokio::test]
async fn a_file_at_an_address_is_pulled_once() {
    let setting = Setting::new();
    let url = format!("{}/files/large.gguf", setting.server.url());
    let hub = setting.hub();
    let (one, other) = tokio::join!(hub.pull(&url, |_| ()), hub.pull(&url, |_| ()));
    assert_eq!(one.unwrap(), other.unwrap());
    let sent: u64 = setting.server.requests().iter().map(|request| request.sent).sum();
    assert_eq!(sent, LARGE_LEN);
    assert_eq!(hub.find(&url).unwrap().location, Location::Mullama);
}

#[tokio::test]
async fn a_file_that_is_not_a_model_is_refused_and_deleted() {
    let setting = Setting::new();
    let url = format!("{}/files/not-a-model.gguf", setting.server.url());
    for name in ["not-a-model", "hf.co/mullama/not-a-model-GGUF", &url] {
        let error = setting.hub().pull(name, |_| ()).await.unwrap_err();
        let is_invalid = matches!(&error, MullamaError::Download { failure: DownloadFailure::InvalidFile { .. }, .. });
        assert!(is_invalid, "{name}: {error}");
        assert!(setting.hub().find(name).is_err(), "{name}");
    }
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_unknown_and_says_what_was_tried() {
    let setting = Setting::new();
    for name in ["no-such-model", "some/repo", "hf.co/no/repo", &format!("{}/files/no.gguf", setting.server.url())] {
        let error = setting.hub().find_or_pull(name, |_| ()).await.unwrap_err();
        let MullamaError::UnknownModel { tried, advice, .. } = &error else { panic!("{name}: {error:?}") };
        assert!(tried.len() >= 2 && tried.iter().any(|entry| entry.contains("answered 40")), "{error}");
        assert_eq!(name == "some/repo", advice.contains("hf.co/some/repo"), "{error}");
    }
}

#[tokio::test]
async fn nothing_is_asked_for_when_downloads_are_turned_off() {
    let setting = Setting::new();
    let config = HubConfig { offline: Some("MULLAMA_OFFLINE=1".to_owned()), ..setting.config() };
    let error = Hub::new(config).unwrap().find_or_pull("tiny", |_| ()).await.unwrap_err();
    assert!(matches!(error, MullamaError::Download { failure: DownloadFailure::Offline { .. }, .. }), "{error}");
    assert_eq!(setting.server.requests(), []);
}

#[test]
fn a_blocking_pull_is_cancelled_while_the_server_sends_nothing() {
    let setting = Setting::new();
    setting.server.fault("/cdn/*", Fault::NoAnswer, u64::MAX);
    let mut calls = 0;
    let error = setting.hub().pull_blocking("large", |_| {
        calls += 1;
        calls < 8
    });
    let error = error.unwrap_err();
    assert!(matches!(error, MullamaError::Download { failure: DownloadFailure::Cancelled, .. }), "{error}");
    assert_eq!(calls, 8);
    setting.server.clear_faults();
    assert!(setting.hub().pull_blocking("large", |_| true).is_ok());
}

#[tokio::test]
async fn a_blocking_pull_works_inside_a_runtime_too() {
    let setting = Setting::new();
    assert!(setting.hub().find_or_pull_blocking("tiny", |_| true).is_ok());
}

#[tokio::test]
async fn a_signed_address_that_expires_is_asked_for_again() {
    let setting = Setting::new();
    let hub = setting.hub();
    setting.server.fault("/cdn/*", Fault::Cut { bytes: 1 << 20 }, 3);
    let mut expired = false;
    let pulled = hub.pull("large", |progress| {
        if progress.done > 1000 && !expired {
            expired = true;
            setting.server.expire();
        }
    });
    pulled.await.unwrap();
    assert!(expired && setting.server.requests().iter().any(|request| request.status == 403));
}
