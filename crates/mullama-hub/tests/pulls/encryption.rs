//! TLS: only a certificate that is trusted, valid and made for the host is accepted, and nothing leaves an encrypted
//! connection for one that is not.

use std::fs;
use std::path::{Path, PathBuf};

use mullama_hub_server::{Certificate, Fault, Server};
use serde_json::Value;

use crate::program::{self, Puller, Report};
use crate::setup::{ALWAYS, DEMO, Setup, all_at_once, assert_is};

fn encrypted(certificate: Certificate) -> Setup {
    let server = Server::start_encrypted(Path::new(DEMO), certificate).expect("a port is free");
    Setup { server, folder: tempfile::tempdir().expect("a temporary folder") }
}

/// The file with the CA certificate of a server.
fn authority(setup: &Setup) -> PathBuf {
    let path = setup.folder.path().join("ca.pem");
    fs::write(&path, setup.server.ca_pem().expect("the server is encrypted")).expect("the folder can be written to");
    path
}

/// Pulls in a process that has these variables, and no others about certificates.
fn pull(setup: &Setup, name: &str, variables: &[(&str, &Path)]) -> Report {
    let mut command = program::command(setup, name, &[]);
    command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR").envs(variables.iter().copied());
    program::finish(Puller(command.spawn().expect("this program starts")))
}

/// The message of a pull that must fail before the server gets a request.
fn refusal(setup: &Setup, variables: &[(&str, &Path)]) -> String {
    let Report { end, stderr, .. } = pull(setup, "hf.co/mullama/private-GGUF", variables);
    assert_eq!((&end["code"], &end["reason"]), (&Value::from("DOWNLOAD_ERROR"), &Value::from("network")), "{stderr}");
    assert_eq!(setup.server.requests(), [], "a server that is not trusted gets no request, and so no token");
    end["message"].as_str().expect("an error has a message").to_owned()
}

#[test]
fn a_ca_certificate_of_the_environment_is_trusted_for_every_kind_of_name() {
    let setup = encrypted(Certificate::Valid);
    let authority = authority(&setup);
    let url = format!("{}/files/large.gguf", setup.server.url());
    for name in ["private", "hf.co/mullama/private-GGUF", "large", &url] {
        let report = pull(&setup, name, &[("SSL_CERT_FILE", &authority)]);
        let path = report.end["path"].as_str().unwrap_or_else(|| panic!("{name}: {} {}", report.end, report.stderr));
        let content = if name.contains("large") { setup.large() } else { setup.demo() };
        assert_is(Path::new(path), &content);
    }
    let folder = tempfile::tempdir().unwrap();
    // The names of such a folder are hashes of the certificates' subjects.
    fs::copy(&authority, folder.path().join("0123abcd.0")).unwrap();
    if cfg!(target_os = "linux") {
        assert!(pull(&setup, "tiny", &[("SSL_CERT_DIR", folder.path())]).end["path"].is_string());
    }
}

#[test]
fn a_certificate_that_must_not_be_trusted_is_refused_with_the_reason_and_the_way_out() {
    let cases = [
        ("signed by itself", (Certificate::SelfSigned, "its issuer is unknown to this system; if a proxy")),
        ("expired", (Certificate::Expired, "it has expired; check the clock")),
        ("of another host", (Certificate::OtherHost, "it belongs to other.example; check the address")),
    ];
    all_at_once(&cases, |(certificate, reason)| {
        let setup = encrypted(*certificate);
        let message = refusal(&setup, &[("SSL_CERT_FILE", &authority(&setup))]);
        assert!(message.contains("the certificate of 127.0.0.1 is not trusted: "), "{message}");
        assert!(message.contains(reason), "{message}");
    });
}

#[test]
fn a_certificate_of_a_ca_that_the_system_does_not_know_is_refused() {
    let (setup, other) = (encrypted(Certificate::Valid), encrypted(Certificate::Valid));
    let message = refusal(&setup, &[("SSL_CERT_FILE", &authority(&other))]);
    assert!(message.contains("is not trusted") && message.contains("set SSL_CERT_FILE"), "{message}");
    // A system without any CA certificates says that instead.
    let message = refusal(&setup, &[]);
    assert!(message.contains("certificate") && message.contains("SSL_CERT_FILE"), "{message}");
}

#[test]
fn a_file_of_certificates_that_cannot_be_used_is_named() {
    let setup = encrypted(Certificate::Valid);
    let garbage = setup.folder.path().join("garbage.pem");
    fs::write(&garbage, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").unwrap();
    let empty = setup.folder.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    for path in [&setup.folder.path().join("missing.pem"), &garbage, &empty, setup.folder.path()] {
        let message = refusal(&setup, &[("SSL_CERT_FILE", path)]);
        let named = format!("SSL_CERT_FILE is {}, but must be a file of CA certificates in PEM format", path.display());
        assert!(message.contains(&named), "{message}");
    }
}

#[test]
fn a_redirect_out_of_tls_is_refused_before_anything_is_sent() {
    let plain = Setup::new();
    let setup = encrypted(Certificate::Valid);
    let authority = authority(&setup);
    let cases = [
        ("private", "/v2/library/private/manifests/latest"),
        ("tiny", "/v2/library/tiny/blobs/*"),
        ("hf.co/mullama/private-GGUF", "/api/models/*"),
        ("hf.co/mullama/private-GGUF", "/mullama/private-GGUF/resolve/*"),
    ];
    for (name, path) in cases {
        setup.server.clear_faults();
        setup.fault(path, Fault::Redirect { to: format!("{}/elsewhere", plain.server.url()) }, ALWAYS);
        let report = pull(&setup, name, &[("SSL_CERT_FILE", &authority)]);
        assert_eq!(report.end["reason"], "protocol", "{path}: {}", report.end);
        assert!(report.end["message"].as_str().unwrap().contains("which is not encrypted"), "{}", report.end);
    }
    assert_eq!(plain.server.requests(), []);
}

#[test]
fn a_redirect_to_another_encrypted_host_carries_no_credentials() {
    let setup = encrypted(Certificate::Valid);
    let report = pull(&setup, "hf.co/mullama/private-GGUF", &[("SSL_CERT_FILE", &authority(&setup))]);
    assert!(report.end["path"].is_string(), "{}", report.end);
    let requests = setup.server.requests();
    assert!(requests.iter().any(|request| request.origin == "cdn"), "{requests:#?}");
    assert!(
        requests.iter().all(|request| (request.origin == "main") == request.authorization.is_some()),
        "{requests:#?}"
    );
}

#[test]
fn nothing_turns_the_verification_off() {
    let setup = encrypted(Certificate::SelfSigned);
    let authority = authority(&setup);
    let mut variables: Vec<(&str, &Path)> = vec![("SSL_CERT_FILE", &authority)];
    // What turns it off in other programs.
    for name in ["GIT_SSL_NO_VERIFY", "HF_HUB_DISABLE_SSL_VERIFICATION", "CURL_INSECURE", "MULLAMA_INSECURE"] {
        variables.push((name, Path::new("1")));
    }
    for name in ["NODE_TLS_REJECT_UNAUTHORIZED", "PYTHONHTTPSVERIFY", "SSL_VERIFY", "REQUESTS_CA_BUNDLE"] {
        variables.push((name, Path::new("0")));
    }
    assert!(refusal(&setup, &variables).contains("is not trusted"));
    for file in [include_str!("../../src/http/client.rs"), include_str!("../../src/http/tls.rs")] {
        assert!(!file.contains("danger_accept") && !file.contains("tls_danger"), "reqwest verifies certificates");
    }
}
