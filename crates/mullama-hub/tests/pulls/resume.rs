//! A pull that failed is continued: what arrived is not fetched again.

use mullama_hub_server::{Fault, LARGE_LEN, Rule};

use crate::setup::{ALWAYS, PART_LEN, Setup, all_at_once, cdn, files};

/// Answers one request for a path, and then tells everybody to come back tomorrow, once the first answer has arrived.
fn down_after_one(setup: &Setup, path: &str) {
    let down = Fault::Status { code: 503, retry_after: Some("86400".into()), body: String::new() };
    for fault in [Fault::SlowStart { ms: 600 }, down] {
        setup.server.rule(Rule::new(path, fault, ALWAYS).skip(1));
    }
}

/// Checks that the next pull of `name` fetches just what is missing of the large model beyond `there` bytes.
fn continues(setup: &Setup, name: &str, there: u64, path: &str) {
    setup.server.clear_faults();
    setup.server.clear_requests();
    let mut done = Vec::new();
    let model = setup.hub().pull_blocking(name, |progress| {
        done.push(progress.done);
        true
    });
    crate::setup::assert_is(&model.expect("nothing fails any more").path, &setup.large());
    let requests: Vec<_> =
        setup.server.requests().into_iter().filter(|request| request.path.starts_with(path)).collect();
    assert_eq!(requests.iter().map(|request| request.sent).sum::<u64>(), LARGE_LEN - there, "{requests:#?}");
    let first = requests.iter().filter_map(mullama_hub_server::Request::first_and_last).map(|(first, _)| first).min();
    assert_eq!(first, Some(there));
    // The other layers are shorter than 1000 bytes.
    let begins = done.iter().any(|done| (there..there + 1000).contains(done));
    assert!(begins, "the progress begins with what is there: {done:?}");
}

#[test]
fn complete_parts_are_not_fetched_again() {
    let setup = Setup::new();
    down_after_one(&setup, &cdn(&setup.large()));
    assert_eq!(setup.failure("large").status(), Some(503));
    continues(&setup, "large", PART_LEN, &cdn(&setup.large()));
}

#[test]
fn a_part_that_broke_off_is_continued_where_it_did() {
    let setup = Setup::new();
    setup.fault(&cdn(&setup.large()), Fault::Cut { bytes: 5_000_000 }, 1);
    down_after_one(&setup, &cdn(&setup.large()));
    assert_eq!(setup.failure("large").status(), Some(503));
    continues(&setup, "large", 5_000_000, &cdn(&setup.large()));
}

#[test]
fn many_breaks_within_one_pull_are_survived_without_fetching_a_byte_twice() {
    let setup = Setup::new();
    setup.fault(&cdn(&setup.large()), Fault::Cut { bytes: 3_000_000 }, ALWAYS);
    setup.pulls("large", &setup.large());
    assert_eq!(setup.sent(), LARGE_LEN);
}

#[test]
fn a_file_at_an_address_is_continued_if_it_is_still_the_same() {
    let setup = Setup::new();
    let name = format!("{}/files/large.gguf", setup.server.url());
    down_after_one(&setup, "/files/*");
    assert_eq!(setup.failure(&name).status(), Some(503));
    continues(&setup, &name, PART_LEN, "/files/");
}

#[test]
fn a_file_at_an_address_that_has_changed_is_downloaded_again() {
    let setup = Setup::new();
    let name = format!("{}/files/large.gguf", setup.server.url());
    down_after_one(&setup, "/files/*");
    assert_eq!(setup.failure(&name).status(), Some(503));
    setup.server.clear_faults();
    let other = setup.server.sized(LARGE_LEN + 1);
    setup.server.add_file("/files/large.gguf", other.clone());
    setup.pulls(&name, &other);
}

#[test]
fn a_cached_file_of_hugging_face_is_continued() {
    let setup = Setup::new();
    down_after_one(&setup, &cdn(&setup.large()));
    assert_eq!(setup.failure("hf.co/mullama/large-GGUF").status(), Some(503));
    continues(&setup, "hf.co/mullama/large-GGUF", PART_LEN, &cdn(&setup.large()));
}

/// A store in which the first part of the large model is complete.
fn begun() -> Setup {
    let setup = Setup::new();
    down_after_one(&setup, &cdn(&setup.large()));
    assert_eq!(setup.failure("large").status(), Some(503));
    setup.server.clear_faults();
    setup
}

/// Changes the part file, or the record if `of_record`, of the setup.
fn spoil(setup: &Setup, of_record: bool, change: impl Fn(Vec<u8>) -> Vec<u8>) {
    let all = files(setup.folder.path());
    let ending = if of_record { ".part.json" } else { ".part" };
    let path = all.iter().find(|path| path.to_string_lossy().ends_with(ending)).expect("a download has begun");
    let bytes = std::fs::read(path).expect("it can be read");
    std::fs::write(path, change(bytes)).expect("it can be written");
}

#[test]
fn bytes_that_were_damaged_on_the_disk_are_noticed_and_fetched_again() {
    all_at_once(&[0, 1_000_000, 16_777_215].map(|at| ("an offset", at)), |at| {
        let setup = begun();
        spoil(&setup, false, |mut bytes| {
            bytes[*at] ^= 1;
            bytes
        });
        setup.pulls("large", &setup.large());
    });
}

#[test]
fn a_record_that_is_not_to_be_trusted_costs_a_download_and_no_more() {
    let changes: [fn(Vec<u8>) -> Vec<u8>; 7] = [
        |_| Vec::new(),
        |_| b"{}".to_vec(),
        |_| b"[".repeat(1_000_000),
        |bytes| bytes[..bytes.len() / 2].to_vec(),
        |bytes| String::from_utf8(bytes).unwrap().replace("16777216", "18446744073709551615").into_bytes(),
        |bytes| String::from_utf8(bytes).unwrap().replace("16777216", "33554432").into_bytes(),
        |_| vec![0xff; 100],
    ];
    all_at_once(&changes.map(|change| ("a change", change)), |change| {
        let setup = begun();
        spoil(&setup, true, change);
        setup.pulls("large", &setup.large());
    });
}

#[test]
fn a_part_file_that_is_shorter_or_longer_than_its_record_says_is_no_trouble() {
    all_at_once(&[0, 5, 16_000_000, 20_000_000, 60_000_000].map(|len| ("a length", len)), |len| {
        let setup = begun();
        spoil(&setup, false, |mut bytes| {
            bytes.resize(*len, 0);
            bytes
        });
        setup.pulls("large", &setup.large());
    });
}

#[test]
fn a_name_that_now_stands_for_another_model_is_pulled_anew() {
    let setup = begun();
    let model = mullama_hub_server::RegistryModel::new(setup.demo());
    setup.server.add_model("library/large:latest", model);
    setup.pull("large").map(|model| crate::setup::assert_is(&model.path, &setup.demo())).unwrap();
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let setup = Setup::new();
    setup.pulls("tiny", &setup.demo());
    let requests = setup.file_requests().len();
    setup.pulls("tiny", &setup.demo());
    // Another name for the same bytes.
    setup.pulls("someone/tiny", &setup.demo());
    assert_eq!(setup.file_requests().len(), requests);
    crate::setup::assert_is(&setup.hub().find("someone/tiny").unwrap().path, &setup.demo());
}
