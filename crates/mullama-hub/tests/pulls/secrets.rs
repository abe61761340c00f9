//! Tokens and signatures go only where they belong: not to other hosts, not into logs, errors or files.

use std::io::Write;

use mullama_hub::Hub;
use mullama_hub_server::{Fault, HUGGING_FACE_TOKEN, Rule, Server};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::program;
use crate::setup::{ALWAYS, Setup, all_at_once, assert_is, cdn, files, pull};

/// Lets a process of [`program`] write every record of `tracing` and of `log` to standard error.
pub(crate) const LOG_EVERYTHING: &str = "MULLAMA_TEST_LOG_EVERYTHING";
/// What must never be seen.
const SECRETS: [&str; 3] = [HUGGING_FACE_TOKEN, "secret-signature", "loopback-registry-token"];

/// Writes everything to standard error.
struct Everything;

impl Visit for Everything {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = writeln!(std::io::stderr(), "logged {field}={value:?}");
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut Self);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Self);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Self);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl log::Log for Everything {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let _ = writeln!(std::io::stderr(), "logged {}: {}", record.target(), record.args());
    }

    fn flush(&self) {}
}

pub(crate) fn log_everything() {
    tracing::subscriber::set_global_default(Everything).expect("nobody else listens");
    log::set_logger(&Everything).expect("nobody else listens");
    log::set_max_level(log::LevelFilter::Trace);
}

fn has_secret(text: &str) -> Option<&str> {
    SECRETS.into_iter().find(|secret| text.contains(secret))
}

#[test]
fn no_log_no_error_and_no_file_has_a_secret() {
    // Each name with a fault that makes the hub talk about it; a server that repeats what it was told is one.
    let status = |code, body: &str| Fault::Status { code, retry_after: Some("86400".into()), body: body.to_owned() };
    let repeated = format!("you sent {HUGGING_FACE_TOKEN}");
    let cases = [
        ("private", Fault::Reset),
        ("hf.co/mullama/private-GGUF", status(403, "")),
        ("hf.co/mullama/large-GGUF", status(503, &repeated)),
        ("large", status(503, "")),
    ];
    all_at_once(&cases.map(|(name, fault)| (name, (name, fault))), |(name, fault)| {
        let setup = Setup::new();
        // A beginning is kept, with a record.
        setup.fault(&cdn(&setup.large()), Fault::Cut { bytes: 9_000_000 }, 1);
        setup.server.rule(Rule::new(cdn(&setup.large()), fault.clone(), ALWAYS).skip(1));
        setup.fault(&cdn(&setup.demo()), fault.clone(), ALWAYS);
        let mut command = program::command(&setup, name, &[]);
        let report = program::finish(program::Puller(command.env(LOG_EVERYTHING, "1").spawn().unwrap()));
        assert!(report.stderr.matches("logged ").count() > 5, "it logs: {}", report.stderr);
        assert_eq!(report.end["code"], "DOWNLOAD_ERROR", "{}", report.end);
        assert_eq!(has_secret(&format!("{}{}", report.stderr, report.end)), None, "{}\n{}", report.end, report.stderr);
        for path in files(setup.folder.path()) {
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            assert_eq!(has_secret(&format!("{text}{}", path.display())), None, "{}", path.display());
        }
    });
}

#[test]
fn secrets_are_not_shown_by_debug() {
    let setup = Setup::new();
    let mut config = setup.config();
    config.hugging_face_token = Some(HUGGING_FACE_TOKEN.to_owned());
    config.registry = "http://user:hidden-password@127.0.0.1:1/".parse().unwrap();
    let text = format!("{config:?} {:?}", Hub::new(config.clone()));
    assert!(!text.contains(HUGGING_FACE_TOKEN), "{text}");
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_origin() {
    let setup = Setup::new();
    let mut config = setup.config();
    config.hugging_face_token = Some(HUGGING_FACE_TOKEN.to_owned());
    let hub = Hub::new(config).unwrap();
    for name in ["private", "hf.co/mullama/private-GGUF", "hf.co/mullama/demo-GGUF"] {
        assert_is(&pull(&hub, name).unwrap().path, &setup.demo());
    }
    let requests = setup.server.requests();
    assert!(requests.iter().any(|request| request.authorization.is_some()), "the token is used");
    for request in &requests {
        let of_hugging_face = request.path.starts_with("/api/") || request.path.contains("/resolve/");
        let is_right = match request.authorization.as_deref() {
            None => true,
            Some(_) if request.origin == "cdn" || request.path == "/token" => false,
            Some(value) if value.contains(HUGGING_FACE_TOKEN) => of_hugging_face,
            Some(_) => request.path.starts_with("/v2/library/private/"),
        };
        assert!(is_right, "{} {} with {:?}", request.origin, request.path, request.authorization);
    }
}

#[test]
fn the_token_of_hugging_face_does_not_go_to_other_servers() {
    let setup = Setup::new();
    let other = Server::start(crate::setup::DEMO.as_ref()).unwrap();
    let mut config = setup.config();
    config.hugging_face_token = Some(HUGGING_FACE_TOKEN.to_owned());
    config.registry = other.url().parse().unwrap();
    let hub = Hub::new(config).unwrap();
    let elsewhere = format!("{}/mullama/private-GGUF", other.url().trim_start_matches("http://"));
    for name in ["tiny", "private", &elsewhere, &format!("{}/files/demo.gguf", other.url())] {
        let _ = pull(&hub, name);
    }
    // Not even when Hugging Face itself sends us there.
    let to = format!("{}/api/models/mullama/demo-GGUF/revision/main?blobs=true", other.url());
    setup.fault("/api/models/mullama/demo-GGUF/revision/main", Fault::Redirect { to }, ALWAYS);
    let _ = pull(&hub, "hf.co/mullama/demo-GGUF");
    let seen = other.requests();
    assert!(seen.len() > 5, "{seen:#?}");
    for request in seen {
        let authorization = request.authorization.unwrap_or_default();
        assert!(!authorization.contains(HUGGING_FACE_TOKEN), "{}", request.path);
    }
}

#[test]
fn a_password_in_an_address_is_neither_shown_nor_stored() {
    let setup = Setup::new();
    let address = setup.server.url().replace("http://", "http://user:hidden-password@");
    let name = format!("{address}/files/nothing.gguf?token=hidden-query");
    let error = setup.pull(&name).unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(!text.contains("hidden"), "{text}");
    for path in files(setup.folder.path()) {
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        assert!(!text.contains("hidden"), "{}: {text}", path.display());
    }
}

#[test]
fn a_cancelled_pull_does_not_repeat_the_query_of_its_address() {
    let setup = Setup::new();
    let name = format!("{}/files/demo.gguf?token=hidden-query", setup.server.url());
    let mut shown = String::new();
    let pulled = setup.hub().pull_blocking(&name, |progress| {
        shown += &progress.file;
        false
    });
    let text = format!("{shown} {:?}", pulled.unwrap_err());
    assert!(text.contains("Cancelled") && !text.contains("hidden"), "{text}");
}
