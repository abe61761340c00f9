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
