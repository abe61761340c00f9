//! Content that is not what was promised, or that changes while it is downloaded.

use mullama::DownloadFailure;
use mullama_hub_server::{Content, Fault, Rule};

use crate::setup::{ALWAYS, PART_LEN, Setup, all_at_once, cdn};

#[test]
fn wrong_bytes_are_deleted_and_reported() {
    let cases = [
        ("corrupt at the beginning", ("tiny", Fault::Corrupt { at: 0 })),
        ("corrupt at the end", ("tiny", Fault::Corrupt { at: 2_338_431 })),
        ("other bytes", ("tiny", Fault::Changed { new_etag: false })),
        ("other bytes under another entity tag", ("tiny", Fault::Changed { new_etag: true })),
        ("corrupt in the last part", ("large", Fault::Corrupt { at: 2 * PART_LEN + 5 })),
        ("a large file of other bytes", ("large", Fault::Changed { new_etag: false })),
    ];
    all_at_once(&cases, |(name, fault)| {
        let setup = Setup::new();
        let content = if *name == "tiny" { setup.demo() } else { setup.large() };
        setup.fault(&cdn(&content), fault.clone(), ALWAYS);
        let failure = setup.failure(name);
        let DownloadFailure::Digest { expected, actual, .. } = &failure else { panic!("{failure}") };
        assert_eq!(expected, content.sha256());
        assert!(actual != expected && actual.len() == 64);
        let longest = crate::setup::files(setup.folder.path()).iter().map(|path| path.metadata().unwrap().len()).max();
        assert!(longest.unwrap_or(0) < 1000, "the wrong bytes are deleted");
        setup.server.clear_faults();
        setup.pulls(name, &content);
    });
}

#[test]
fn content_that_changes_between_ranges_is_downloaded_again() {
    for new_etag in [true, false] {
        let setup = Setup::new();
        setup.server.rule(Rule::new(cdn(&setup.large()), Fault::Changed { new_etag }, 1).skip(1));
        if new_etag {
            setup.pulls("large", &setup.large());
        } else {
            // Nothing but the digest can tell.
            assert_eq!(setup.failure("large").reason(), "digest");
            setup.pulls("large", &setup.large());
        }
    }
}

#[test]
fn a_file_without_a_digest_is_of_one_piece_even_if_it_changes() {
    let cases = [
        ("with If-Range", vec![]),
        ("If-Range is ignored", vec![Fault::IgnoreIfRange]),
        ("without ranges", vec![Fault::NoRanges]),
    ];
    all_at_once(&cases, |faults| {
        let setup = Setup::new();
        let path = "/files/large.gguf";
        for fault in faults {
            setup.fault(path, fault.clone(), ALWAYS);
        }
        // From the second request on, the file at this address is another one.
        let other = setup.server.sized(PART_LEN + 99);
        setup.server.rule(Rule::new(path, Fault::Changed { new_etag: true }, 1).skip(1));
        let name = format!("{}{path}", setup.server.url());
        let model = setup.pull(&name).unwrap();
        crate::setup::assert_is(&model.path, &setup.large());
        setup.server.add_file(path, other.clone());
        setup.pull(&name).unwrap();
    });
}

#[test]
fn a_length_that_is_wrong_once_is_survived_and_one_that_stays_is_an_error() {
    let cases = [
        ("longer", Fault::Longer { bytes: 5 }),
        ("shorter", Fault::Shorter { bytes: 5 }),
        ("another range", Fault::WrongContentRange { by: 5 }),
        ("another total", Fault::WrongTotal { by: 5 }),
        ("no range named", Fault::NoContentRange),
        ("too short a length", Fault::WrongLength { by: -5 }),
        ("compressed", Fault::Gzip),
        ("said to be compressed", Fault::FalseGzip),
    ];
    all_at_once(&cases, |fault| {
        for name in ["tiny", "large"] {
            let setup = Setup::new();
            let content = if name == "tiny" { setup.demo() } else { setup.large() };
            setup.fault(&cdn(&content), fault.clone(), 1);
            setup.pulls(name, &content);
        }
        let setup = Setup::new();
        setup.fault(&cdn(&setup.demo()), fault.clone(), ALWAYS);
        let failure = setup.failure("tiny");
        assert_eq!(failure.reason(), "protocol", "{failure}");
        setup.server.clear_faults();
        setup.pulls("tiny", &setup.demo());
    });
}

#[test]
fn a_server_without_ranges_sends_everything_at_once() {
    let cases = [
        ("with a length", vec![Fault::NoRanges]),
        ("in chunks", vec![Fault::NoRanges, Fault::Chunked]),
        ("until it closes the connection", vec![Fault::NoRanges, Fault::UntilClose]),
    ];
    all_at_once(&cases, |faults| {
        for name in ["large", "/files/large.gguf"] {
            let setup = Setup::new();
            for fault in faults {
                setup.fault("/cdn/*", fault.clone(), ALWAYS);
                setup.fault("/files/*", fault.clone(), ALWAYS);
            }
            let name = if name.starts_with('/') { format!("{}{name}", setup.server.url()) } else { name.to_owned() };
            setup.pulls(&name, &setup.large());
        }
    });
}

#[test]
fn a_stream_that_breaks_off_begins_again() {
    let setup = Setup::new();
    for fault in [Fault::NoRanges, Fault::Cut { bytes: 20 << 20 }] {
        setup.fault(&cdn(&setup.large()), fault, 2);
    }
    setup.fault(&cdn(&setup.large()), Fault::NoRanges, ALWAYS);
    setup.pulls("large", &setup.large());
}

#[test]
fn a_stream_without_end_is_cut_off() {
    let setup = Setup::new();
    setup.fault(&cdn(&setup.demo()), Fault::EndlessJson, ALWAYS);
    let failure = setup.failure("tiny");
    assert_eq!(failure.reason(), "protocol", "{failure}");
    assert!(setup.sent() < 20 << 20, "{} bytes were taken", setup.sent());
    setup.server.clear_faults();
    setup.pulls("tiny", &setup.demo());
}

#[test]
fn a_file_that_is_not_a_model_is_refused_and_deleted() {
    let setup = Setup::new();
    let url = format!("{}/files/not-a-model.gguf", setup.server.url());
    for name in ["not-a-model", "hf.co/mullama/not-a-model-GGUF", &url] {
        let failure = setup.failure(name);
        assert_eq!(failure.reason(), "file", "{name}: {failure}");
        let all = crate::setup::files(setup.folder.path());
        let kept = all.iter().filter(|path| std::fs::read(path).unwrap().starts_with(b"<html>")).count();
        assert_eq!(kept, 0, "{name} left its file: {all:?}");
        assert!(setup.hub().find(name).is_err(), "{name} is offered");
    }
    setup.server.add_file("/files/not-a-model.gguf", setup.demo());
    setup.pulls(&url, &setup.demo());
}

#[test]
fn an_empty_file_is_not_a_model() {
    let setup = Setup::new();
    setup.server.add_file("/empty.gguf", Content::bytes(*b""));
    let failure = setup.failure(&format!("{}/empty.gguf", setup.server.url()));
    assert!(matches!(failure.reason(), "file" | "protocol"), "{failure}");
}
