//! Processes that are killed while they pull.

use std::thread;
use std::time::Duration;

use mullama_hub_server::{Fault, LARGE_LEN};

use crate::cancel::random;
use crate::program;
use crate::setup::{ALWAYS, Setup, all_at_once, cdn, eventually};

#[test]
fn after_a_process_is_killed_at_any_moment_the_next_pull_brings_the_right_file() {
    // Ten stores at the same time, with ten kills each; half of the pulls take long enough to leave records.
    let cases: [(&str, u64); 10] = std::array::from_fn(|number| ("a store", number as u64));
    all_at_once(&cases, |number| {
        let setup = Setup::new();
        let longest = if number % 2 == 0 { 2500 } else { 400 };
        if number % 2 == 0 {
            setup.fault(&cdn(&setup.large()), Fault::Trickle { bytes: 64 << 10, ms: 12 }, ALWAYS);
        }
        let mut state = *number;
        for _ in 0..10 {
            let mut puller = program::start(&setup, "large");
            thread::sleep(Duration::from_millis(random(&mut state, longest)));
            puller.0.kill().unwrap();
            puller.0.wait().unwrap();
        }
        setup.server.clear_faults();
        setup.pulls("large", &setup.large());
    });
}

#[test]
fn what_a_killed_process_recorded_is_not_fetched_again() {
    let setup = Setup::new();
    setup.server.rule(mullama_hub_server::Rule::new(cdn(&setup.large()), Fault::NoAnswer, ALWAYS).skip(1));
    let mut puller = program::start(&setup, "large");
    let is_recorded = || {
        let all = crate::setup::files(setup.folder.path());
        all.iter().any(|path| {
            path.to_string_lossy().ends_with(".part.json") && path.metadata().is_ok_and(|data| data.len() > 0)
        })
    };
    eventually("a record is written", is_recorded);
    puller.0.kill().unwrap();
    puller.0.wait().unwrap();
    setup.server.clear_faults();
    setup.server.clear_requests();
    setup.pulls("large", &setup.large());
    assert!(setup.sent() < LARGE_LEN, "the recorded bytes are used");
}

#[test]
fn when_the_process_that_downloads_is_killed_the_one_that_waits_goes_on() {
    let setup = Setup::new();
    setup.fault(&cdn(&setup.large()), Fault::Stall { bytes: 1_000_000 }, 3);
    let mut first = program::start(&setup, "large");
    eventually("the first process downloads", || !setup.file_requests().is_empty());
    let second = program::start(&setup, "large");
    eventually("both have asked for the manifest", || {
        setup.server.requests().iter().filter(|request| request.path.ends_with("/manifests/latest")).count() == 2
    });
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    let report = program::finish(second);
    let path = report.end["path"].as_str().unwrap_or_else(|| panic!("{}: {}", report.end, report.stderr));
    crate::setup::assert_is(path.as_ref(), &setup.large());
}
