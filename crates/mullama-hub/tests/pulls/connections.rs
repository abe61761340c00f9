//! Faults of connections: one is survived, and many are a network error.

use mullama::DownloadFailure;
use mullama_hub_server::Fault;

use crate::setup::{ALWAYS, Setup, all_at_once};

const MANIFEST: &str = "/v2/library/tiny/manifests/latest";

fn faults() -> Vec<(&'static str, Fault)> {
    vec![
        ("closed", Fault::Close),
        ("reset", Fault::Reset),
        ("not HTTP", Fault::Garbage),
        ("cut off", Fault::Cut { bytes: 100 }),
        ("cut off at the beginning", Fault::Cut { bytes: 0 }),
        ("cut off with a reset", Fault::CutWithReset { bytes: 100 }),
        ("cut off in a chunk", Fault::ChunkedCut { bytes: 100 }),
        ("stalled", Fault::Stall { bytes: 100 }),
        ("no answer", Fault::NoAnswer),
        ("too long a length", Fault::WrongLength { by: 5 }),
        ("endless headers", Fault::EndlessHeaders),
        ("a huge header", Fault::HugeHeader { bytes: 2 << 20 }),
    ]
}

#[test]
fn a_connection_that_fails_once_does_not_matter() {
    all_at_once(&faults(), |fault| {
        for path in [MANIFEST, "/v2/library/tiny/blobs/*", "/cdn/*"] {
            let setup = Setup::new();
            setup.fault(path, fault.clone(), 1);
            setup.pulls("tiny", &setup.demo());
        }
    });
}

#[test]
fn slow_answers_without_a_length_are_taken_as_they_come() {
    let cases = [
        ("slow start", Fault::SlowStart { ms: 300 }),
        ("trickle", Fault::Trickle { bytes: 100_000, ms: 20 }),
        ("chunks", Fault::Chunked),
        ("no length", Fault::UntilClose),
        ("more than promised", Fault::MoreThanPromised { bytes: 100 }),
    ];
    all_at_once(&cases, |fault| {
        let setup = Setup::new();
        setup.fault("/*", fault.clone(), ALWAYS);
        setup.pulls("tiny", &setup.demo());
    });
}

#[test]
fn a_connection_that_always_fails_is_a_network_error_and_the_next_pull_succeeds() {
    let paths = [MANIFEST, "/cdn/*"];
    let cases: Vec<_> =
        faults().into_iter().flat_map(|(name, fault)| paths.map(|path| (name, (path, fault.clone())))).collect();
    all_at_once(&cases, |(path, fault)| {
        // Once a file is being downloaded, each try that brings something is followed by another one: see `resume`.
        let fault = match fault {
            Fault::Cut { .. } if *path != MANIFEST => &Fault::Cut { bytes: 0 },
            Fault::CutWithReset { .. } if *path != MANIFEST => &Fault::CutWithReset { bytes: 0 },
            Fault::ChunkedCut { .. } if *path != MANIFEST => &Fault::ChunkedCut { bytes: 0 },
            Fault::Stall { .. } if *path != MANIFEST => &Fault::Stall { bytes: 0 },
            fault => fault,
        };
        let setup = Setup::new();
        setup.fault(path, fault.clone(), ALWAYS);
        let failure = setup.failure("tiny");
        // Of a range, the length is known without reading to its end.
        let is_range = matches!(fault, Fault::WrongLength { .. }) && *path != MANIFEST;
        assert_eq!(failure.reason(), if is_range { "protocol" } else { "network" }, "{failure}");
        let url = failure.url().expect("a network error has an address");
        assert!(url.starts_with("http://127.0.0.1:") && !url.contains('?'), "{url}");
        if matches!(fault, Fault::Stall { .. } | Fault::NoAnswer) {
            assert!(matches!(failure, DownloadFailure::Stalled { seconds: 1, .. }), "{failure}");
        }
        setup.server.clear_faults();
        setup.pulls("tiny", &setup.demo());
    });
}

#[test]
fn a_server_that_does_not_exist_is_a_network_error() {
    let setup = Setup::new();
    let config = setup.config();
    let Setup { server, folder } = setup;
    drop(server);
    let hub = mullama_hub::Hub::new(config).unwrap();
    let error = crate::setup::pull(&hub, "tiny").unwrap_err();
    assert_eq!(error.code(), "DOWNLOAD_ERROR");
    assert!(
        crate::setup::files(folder.path()).iter().all(|path| path.metadata().unwrap().len() == 0),
        "nothing is there"
    );
}

#[test]
fn a_network_error_names_the_host_the_innermost_cause_the_tries_and_the_way_out() {
    let setup = Setup::new();
    let mut config = setup.config();
    let Setup { server, folder: _folder } = setup;
    let address = server.url();
    drop(server);
    let advice = " after 3 tries; check the network or the proxy, then try again to continue the download";
    let message = |config| crate::setup::pull(&mullama_hub::Hub::new(config).unwrap(), "tiny").unwrap_err().to_string();
    let refused = message(config.clone());
    let url = format!("{address}/v2/library/tiny/manifests/latest");
    assert_eq!(
        refused,
        format!("cannot download tiny:latest: {url}: cannot reach 127.0.0.1 (Connection refused){advice}")
    );
    config.registry = "http://unknown.invalid".parse().unwrap();
    let unknown = message(config);
    assert!(unknown.contains(": cannot reach unknown.invalid (") && unknown.ends_with(advice), "{unknown}");
    assert!(!unknown.contains("dns error") && !unknown.contains("lookup"), "{unknown}");
}

#[test]
fn a_connection_that_breaks_or_stalls_says_how_often_it_was_tried() {
    let cases = [
        ("reset", (Fault::Reset, "lost the connection to 127.0.0.1 (")),
        ("cut off", (Fault::Cut { bytes: 0 }, "lost the connection to 127.0.0.1 (")),
        ("stalled", (Fault::NoAnswer, "the server sent nothing for 1 s")),
    ];
    all_at_once(&cases, |(fault, said)| {
        let setup = Setup::new();
        setup.fault("/cdn/*", fault.clone(), ALWAYS);
        let text = setup.failure("tiny").to_string();
        assert!(text.contains(said) && text.contains(" after 6 tries; check the network"), "{text}");
    });
}
