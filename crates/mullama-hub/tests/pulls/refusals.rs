//! Statuses other than success: what is tried again, and which error each one is.

use std::time::{Duration, Instant, SystemTime};

use mullama::{DownloadFailure, MullamaError};
use mullama_hub_server::{Fault, HUGGING_FACE_TOKEN, LARGE_LEN};

use crate::setup::{ALWAYS, Setup, all_at_once, cdn, pull};

const MANIFEST: &str = "/v2/library/tiny/manifests/latest";
const BLOB: &str = "/v2/library/tiny/blobs/*";

fn status(code: u16) -> Fault {
    Fault::Status { code, retry_after: None, body: "the reason".into() }
}

#[test]
fn a_status_that_says_later_is_tried_again() {
    let cases = [("408", 408), ("429", 429), ("500", 500), ("502", 502), ("503", 503), ("504", 504)];
    all_at_once(&cases, |code| {
        for path in [MANIFEST, BLOB, "/cdn/*"] {
            let setup = Setup::new();
            setup.fault(path, status(*code), 2);
            setup.pulls("tiny", &setup.demo());
        }
    });
}

#[test]
fn a_time_to_come_back_is_obeyed() {
    let cases = [MANIFEST, "/cdn/*"].map(|path| (path, path));
    all_at_once(&cases, |path| {
        for is_date in [false, true] {
            let setup = Setup::new();
            // A date has whole seconds, so that its wait is up to one second shorter.
            let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3));
            let retry_after = Some(if is_date { date } else { "2".to_owned() });
            setup.fault(path, Fault::Status { code: 429, retry_after, body: String::new() }, 1);
            let started = Instant::now();
            setup.pulls("tiny", &setup.demo());
            assert!(started.elapsed() > Duration::from_millis(1500), "it came back after {:?}", started.elapsed());
        }
    });
}

#[test]
fn a_time_that_is_too_long_is_an_error_at_once() {
    let setup = Setup::new();
    let fault = Fault::Status { code: 503, retry_after: Some("86400".into()), body: String::new() };
    setup.fault(MANIFEST, fault, 1);
    let started = Instant::now();
    let failure = setup.failure("tiny");
    assert_eq!(failure.status(), Some(503));
    let said = "the server answered 503: it asks to wait 86400 seconds; try again later";
    assert!(failure.to_string().ends_with(said), "{failure}");
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_status_that_stays_is_an_error_with_its_number() {
    let cases: Vec<_> = [
        (400, "status"),
        (403, "authorization"),
        (401, "authorization"),
        (418, "status"),
        (429, "status"),
        (500, "status"),
    ]
    .into_iter()
    .flat_map(|(code, reason)| [MANIFEST, BLOB].map(|path| (path, (path, code, reason))))
    .collect();
    all_at_once(&cases, |(path, code, reason)| {
        let setup = Setup::new();
        setup.fault(path, status(*code), ALWAYS);
        let failure = setup.failure("tiny");
        assert_eq!((failure.reason(), failure.status()), (*reason, Some(*code)), "{failure}");
        assert!(failure.to_string().contains("the reason"), "{failure}");
        let text = failure.to_string();
        assert_eq!(text.ends_with("try again later"), matches!(code, 429 | 500), "{text}");
        assert_eq!(text.contains("sends credentials to Hugging Face only"), *reason == "authorization", "{text}");
        let url = format!("{}{}", setup.server.url(), path.trim_end_matches('*'));
        assert!(failure.url().unwrap().starts_with(&url), "{failure}");
        setup.server.clear_faults();
        setup.pulls("tiny", &setup.demo());
    });
}

#[test]
fn a_missing_blob_and_an_impossible_range_are_errors_with_their_status() {
    all_at_once(&[("404", 404), ("416", 416)], |code| {
        let setup = Setup::new();
        setup.fault(BLOB, status(*code), ALWAYS);
        assert_eq!(setup.failure("tiny").status(), Some(*code));
        setup.server.clear_faults();
        setup.pulls("tiny", &setup.demo());
    });
}

#[test]
fn what_does_not_exist_is_not_found_and_says_what_to_do() {
    let setup = Setup::new();
    for (name, advice) in [
        ("nothing", ""),
        ("tiny:nothing", ""),
        ("someone/nothing", "hf.co/someone/nothing"),
        ("hf.co/mullama/nothing", ""),
        ("hf.co/mullama/empty", ""),
    ] {
        let error = setup.pull(name).unwrap_err();
        assert_eq!(error.code(), "MODEL_NOT_FOUND", "{name}: {error}");
        assert!(error.to_string().contains(advice), "{name}: {error}");
    }
    let paths: Vec<_> = setup.server.requests().into_iter().map(|request| request.path).collect();
    assert!(paths.len() <= 7, "each is asked for once or twice: {paths:?}");
}

#[test]
fn a_token_challenge_is_answered_and_an_expired_token_renewed() {
    let setup = Setup::new();
    setup.pulls("private", &setup.demo());
    let tokens = setup.server.requests().iter().filter(|request| request.path == "/token").count();
    assert_eq!(tokens, 1, "one token serves the whole pull");
    let setup = Setup::new();
    setup.fault("/token", status(401), ALWAYS);
    assert_eq!(setup.failure("private").reason(), "authorization");
    let setup = Setup::new();
    setup.fault("/token", Fault::Body { body: "{}".into() }, ALWAYS);
    assert_eq!(setup.failure("private").reason(), "protocol");
}

#[test]
fn hugging_face_accepts_only_the_right_token() {
    let setup = Setup::new();
    let hub = |token: Option<&str>| {
        mullama_hub::Hub::new(mullama_hub::HubConfig { hugging_face_token: token.map(str::to_owned), ..setup.config() })
            .unwrap()
    };
    let failure = |token, name| match pull(&hub(token), name) {
        Err(MullamaError::Download { failure, .. }) => failure,
        other => panic!("{name}: {other:?}"),
    };
    for (token, name, status) in [
        (None, "hf.co/mullama/gated-GGUF", 401),
        (Some(HUGGING_FACE_TOKEN), "hf.co/mullama/gated-GGUF", 403),
        (Some("hf_wrong"), "hf.co/mullama/private-GGUF", 401),
    ] {
        let failure = failure(token, name);
        let advice = if token.is_some() { "is not valid" } else { "set HF_TOKEN" };
        assert!(failure.to_string().contains(advice), "{failure}");
        assert!(
            matches!(&failure, DownloadFailure::Unauthorized { status: found, .. } if *found == status),
            "{failure}"
        );
    }
    let error = pull(&hub(None), "hf.co/mullama/private-GGUF").unwrap_err();
    assert!(error.to_string().contains("HF_TOKEN"), "what does not exist may be private: {error}");
    let model = pull(&hub(Some(HUGGING_FACE_TOKEN)), "hf.co/mullama/private-GGUF").unwrap();
    crate::setup::assert_is(&model.path, &setup.demo());
}

#[test]
fn a_signed_address_that_expires_is_asked_for_again() {
    for name in ["large", "hf.co/mullama/large-GGUF"] {
        let setup = Setup::new();
        // The first part is cut off after all addresses that were given until then have expired.
        for fault in [Fault::Trickle { bytes: 64 << 10, ms: 2 }, Fault::Cut { bytes: 15 << 20 }] {
            setup.fault(&cdn(&setup.large()), fault, 1);
        }
        let mut has_expired = false;
        let model = setup.hub().pull_blocking(name, |progress| {
            if progress.done > 1 << 20 && !has_expired {
                setup.server.expire();
                has_expired = true;
            }
            true
        });
        crate::setup::assert_is(&model.unwrap().path, &setup.large());
        let requests = setup.file_requests();
        let refused: Vec<_> =
            requests.iter().filter(|request| request.status == 403).map(|request| request.sent).collect();
        assert!(has_expired && !refused.is_empty(), "{requests:#?}");
        assert_eq!(setup.sent(), LARGE_LEN + refused.iter().sum::<u64>(), "no byte is fetched twice");
    }
}
