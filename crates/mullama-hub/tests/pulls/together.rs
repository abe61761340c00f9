//! Several pulls of one model at the same time fetch it once.

use mullama_hub_server::{Fault, LARGE_LEN};

use crate::program;
use crate::setup::{ALWAYS, Setup, assert_is};

fn fetched_once(setup: &Setup) {
    assert_eq!(setup.sent(), LARGE_LEN, "{:#?}", setup.file_requests());
}

fn slow() -> Setup {
    let setup = Setup::new();
    setup.fault("/cdn/*", Fault::Trickle { bytes: 128 << 10, ms: 5 }, ALWAYS);
    setup
}

#[test]
fn two_processes_fetch_once() {
    let setup = slow();
    let pullers = [program::start(&setup, "large"), program::start(&setup, "large")];
    let reports = pullers.map(program::finish);
    for report in &reports {
        let path = report.end["path"].as_str().unwrap_or_else(|| panic!("{}: {}", report.end, report.stderr));
        assert_is(path.as_ref(), &setup.large());
    }
    let waited = reports.iter().filter(|report| report.phases.iter().any(|phase| phase == "Waiting")).count();
    assert_eq!(waited, 1, "one waits for the other");
    fetched_once(&setup);
}

#[test]
fn eight_tasks_of_one_process_fetch_once() {
    for name in ["large", "hf.co/mullama/large-GGUF", "/files/large.gguf"] {
        let setup = slow();
        setup.fault("/files/*", Fault::Trickle { bytes: 128 << 10, ms: 5 }, ALWAYS);
        let name = if name.starts_with('/') { format!("{}{name}", setup.server.url()) } else { name.to_owned() };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let hub = setup.hub();
        let tasks: Vec<_> = (0..8)
            .map(|number| {
                // Clones of a hub, and others with the same store.
                let (hub, name) = (if number % 2 == 0 { hub.clone() } else { setup.hub() }, name.clone());
                runtime.spawn(async move { hub.pull(&name, |_| {}).await })
            })
            .collect();
        for task in tasks {
            let model = runtime.block_on(task).unwrap().unwrap();
            assert_is(&model.path, &setup.large());
        }
        let bytes: u64 =
            setup.server.requests().iter().filter(|request| request.range.is_some()).map(|request| request.sent).sum();
        assert!(bytes < LARGE_LEN + 100_000, "{name}: {bytes} bytes were fetched");
    }
}
