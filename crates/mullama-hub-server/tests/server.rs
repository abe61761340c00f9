//! The server over real sockets: what it serves, and that each fault is what it says.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use mullama_hub_server::{Content, Fault, HUGGING_FACE_TOKEN, LARGE_LEN, Rule, Server};
use serde_json::Value;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/mullama/models/demo.gguf");
const MANIFEST: &str = "/v2/library/tiny/manifests/latest";

fn server() -> Server {
    Server::start(Path::new(DEMO)).expect("the demo model can be read, and a port is free")
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
    /// Whether the connection ended with a reset.
    reset: bool,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

fn connect(base: &str) -> TcpStream {
    let stream =
        TcpStream::connect(base.strip_prefix("http://").expect("the server answers")).expect("the server answers");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("the server answers");
    stream
}

/// Sends one request, whose lines after the first are `headers`, and reads until the connection ends.
fn ask(url: &str, method: &str, headers: &[&str]) -> Answer {
    let (base, path) = url.split_at(url[7..].find('/').expect("the server answers") + 7);
    let mut stream = connect(base);
    let lines = headers.iter().flat_map(|header| [*header, "\r\n"]).collect::<String>();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n")
        .expect("the server answers");
    let mut all = Vec::new();
    let reset = stream.read_to_end(&mut all).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
    let end = all.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(all.len(), |at| at + 4);
    let body = all.split_off(end);
    let head = String::from_utf8_lossy(&all).into_owned();
    let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head, body, reset }
}

fn get(url: &str, headers: &[&str]) -> Answer {
    ask(url, "GET", headers)
}

fn get_main(server: &Server, path: &str) -> Answer {
    get(&format!("{}{path}", server.url()), &[])
}

/// The signed address of the large model's bytes.
fn large(server: &Server) -> String {
    let digest = server.sized(LARGE_LEN).sha256().to_owned();
    let answer = get_main(server, &format!("/v2/library/large/blobs/sha256:{digest}"));
    assert_eq!(answer.status, 307);
    answer.header("location").expect("the server answers").to_owned()
}

#[test]
fn a_model_can_be_downloaded_as_ollama_does_it() {
    let server = server();
    let manifest = get_main(&server, MANIFEST).json();
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.ollama.image.model");
    let digest = layer["digest"].as_str().unwrap();
    let answer = get_main(&server, &format!("/v2/library/tiny/blobs/{digest}"));
    let location = answer.header("location").unwrap();
    assert!(location.starts_with(&server.cdn_url()), "another origin: {location}");
    let answer = get(location, &[]);
    assert_eq!(answer.body, std::fs::read(DEMO).unwrap());
    assert_eq!(digest, format!("sha256:{}", Content::bytes(answer.body).sha256()));
    server.expire();
    assert_eq!(get(location, &[]).status, 403);
    let paths: Vec<_> = server.requests().into_iter().map(|request| (request.origin, request.status)).collect();
    assert_eq!(paths, [("main", 200), ("main", 307), ("cdn", 200), ("cdn", 403)]);
}

#[test]
fn a_token_is_demanded_and_given() {
    let server = server();
    let refused = get_main(&server, "/v2/library/private/manifests/latest");
    assert_eq!(refused.status, 401);
    let challenge = refused.header("www-authenticate").unwrap();
    let field = |name: &str| challenge.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap();
    let answer = get(&format!("{}?service={}&scope={}", field("realm"), field("service"), field("scope")), &[]);
    let token = format!("Authorization: Bearer {}", answer.json()["token"].as_str().unwrap());
    let url = format!("{}/v2/library/private/manifests/latest", server.url());
    assert_eq!(get(&url, &[&token]).status, 200);
    server.expire();
    assert_eq!(get(&url, &[&token]).status, 401);
}

#[test]
fn hugging_face_says_what_a_repository_holds() {
    let server = server();
    let info = get_main(&server, "/api/models/mullama/demo-GGUF/revision/main?blobs=true").json();
    let file = &info["siblings"][1];
    assert_eq!(file["rfilename"], "demo-Q2_K.gguf");
    let url = format!("{}/mullama/demo-GGUF/resolve/main/demo-Q2_K.gguf", server.url());
    let answer = ask(&url, "HEAD", &[]);
    assert_eq!((answer.status, answer.body.len()), (302, 0));
    assert_eq!(answer.header("x-repo-commit").unwrap(), info["sha"]);
    assert_eq!(answer.header("x-linked-etag").unwrap(), format!("\"{}\"", file["lfs"]["sha256"].as_str().unwrap()));
    assert_eq!(answer.header("x-linked-size").unwrap(), file["size"].to_string());
    let tree = get_main(&server, "/api/models/mullama/split-GGUF/tree/main/Q4_K_M").json();
    assert_eq!(tree.as_array().unwrap().len(), 3);
    assert_eq!(get_main(&server, "/v2/mullama/demo-GGUF/manifests/Q8_0").status, 200);
}

#[test]
fn repositories_are_closed_to_those_without_the_right_token() {
    let server = server();
    let token = format!("Authorization: Bearer {HUGGING_FACE_TOKEN}");
    let status = |repo: &str, headers: &[&str]| {
        let answer = get(&format!("{}/api/models/mullama/{repo}/revision/main", server.url()), headers);
        (answer.status, answer.header("x-error-code").unwrap_or_default().to_owned())
    };
    assert_eq!(status("private-GGUF", &[]), (401, "RepoNotFound".into()));
    assert_eq!(status("private-GGUF", &[&token]), (200, String::new()));
    assert_eq!(status("gated-GGUF", &[&token]), (403, "GatedRepo".into()));
    assert_eq!(status("nothing", &[]), (401, "RepoNotFound".into()));
    assert_eq!(status("nothing", &[&token]), (404, "RepoNotFound".into()));
    assert_eq!(status("demo-GGUF", &["Authorization: Bearer wrong"]).0, 401);
}

#[test]
fn ranges_are_served_and_depend_on_if_range() {
    let server = server();
    let url = large(&server);
    let content = server.sized(LARGE_LEN).to_vec();
    let answer = get(&url, &["Range: bytes=1048570-1048589"]);
    assert_eq!(
        (answer.status, answer.header("content-range")),
        (206, Some(&*format!("bytes 1048570-1048589/{LARGE_LEN}")))
    );
    assert_eq!(answer.body, content[1_048_570..1_048_590]);
    let etag = answer.header("etag").unwrap();
    assert_eq!(get(&url, &["Range: bytes=0-9", &format!("If-Range: {etag}")]).status, 206);
    let changed = get(&url, &["Range: bytes=0-9", "If-Range: \"other\""]);
    assert_eq!((changed.status, changed.body.len() as u64), (200, LARGE_LEN));
    let beyond = get(&url, &[&format!("Range: bytes={LARGE_LEN}-")]);
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some(&*format!("bytes */{LARGE_LEN}"))));
}

/// What the client gets for the first 1000 bytes of the large model with this fault.
fn with(server: &Server, fault: Fault) -> Answer {
    server.clear_faults();
    server.fault("/cdn/*", fault, 1);
    get(&large(server), &["Range: bytes=0-999"])
}

#[test]
fn faults_of_the_content_are_what_they_say() {
    let server = server();
    let right = server.sized(LARGE_LEN).to_vec()[..1000].to_vec();
    let etag = with(&server, Fault::SlowStart { ms: 1 }).header("etag").unwrap().to_owned();
    let same = with(&server, Fault::Changed { new_etag: false });
    assert!(same.body != right && same.body.len() == 1000 && same.header("etag") == Some(&etag));
    let other = with(&server, Fault::Changed { new_etag: true });
    assert!(other.body == same.body && other.header("etag") != Some(&etag));
    let corrupt = with(&server, Fault::Corrupt { at: 7 }).body;
    assert_eq!((corrupt[7], &corrupt[8..]), (!right[7], &right[8..]));
    let content_range = |fault| with(&server, fault).header("content-range").map(str::to_owned);
    assert_eq!(content_range(Fault::Longer { bytes: 1 }), Some(format!("bytes 0-999/{}", LARGE_LEN + 1)));
    assert_eq!(content_range(Fault::Shorter { bytes: 1 }), Some(format!("bytes 0-999/{}", LARGE_LEN - 1)));
    assert_eq!(content_range(Fault::WrongContentRange { by: 5 }), Some(format!("bytes 5-1004/{LARGE_LEN}")));
    assert_eq!(content_range(Fault::NoContentRange), None);
    assert_eq!(with(&server, Fault::NoRanges).status, 200);
    assert_eq!(&with(&server, Fault::Gzip).body[..2], [0x1f, 0x8b]);
}

#[test]
fn faults_of_the_connection_are_what_they_say() {
    let server = server();
    let cut = with(&server, Fault::Cut { bytes: 100 });
    assert_eq!((cut.header("content-length"), cut.body.len(), cut.reset), (Some("1000"), 100, false));
    assert!(with(&server, Fault::Reset).reset);
    let cut = with(&server, Fault::CutWithReset { bytes: 100 });
    assert!(cut.body.len() == 100 && cut.reset);
    assert_eq!(with(&server, Fault::Close).head, "");
    assert!(with(&server, Fault::Garbage).head.starts_with("SSH-2.0"));
    assert_eq!(with(&server, Fault::WrongLength { by: 5 }).header("content-length"), Some("1005"));
    assert_eq!(with(&server, Fault::MoreThanPromised { bytes: 5 }).body.len(), 1005);
    let until_close = with(&server, Fault::UntilClose);
    assert_eq!((until_close.header("content-length"), until_close.body.len()), (None, 1000));
    let chunked = with(&server, Fault::Chunked).body;
    assert!(chunked.starts_with(b"3e8\r\n") && chunked.ends_with(b"\r\n0\r\n\r\n"));
    assert!(!with(&server, Fault::ChunkedCut { bytes: 10 }).body.ends_with(b"0\r\n\r\n"));
    assert_eq!(with(&server, Fault::Trickle { bytes: 300, ms: 1 }).body.len(), 1000);
    assert!(with(&server, Fault::HugeHeader { bytes: 70_000 }).head.len() > 70_000);
}

#[test]
fn faults_that_replace_an_answer_are_what_they_say() {
    let server = server();
    let fault = Fault::Status { code: 429, retry_after: Some("3".into()), body: "slower".into() };
    let limited = with(&server, fault);
    assert_eq!((limited.status, limited.header("retry-after"), &*limited.body), (429, Some("3"), &b"slower"[..]));
    let moved = with(&server, Fault::Redirect { to: "file:///etc/passwd".into() });
    assert_eq!((moved.status, moved.header("location")), (307, Some("file:///etc/passwd")));
    server.fault(MANIFEST, Fault::DeepJson { deep: 5 }, 1);
    assert_eq!(get_main(&server, MANIFEST).body, b"[[[[[");
    server.fault(MANIFEST, Fault::Body { body: "{}".into() }, 1);
    assert_eq!(get_main(&server, MANIFEST).body, b"{}");
    server.rule(Rule::new(MANIFEST, Fault::Close, 1).skip(1).method("HEAD"));
    assert_eq!(get_main(&server, MANIFEST).status, 200);
}

#[test]
fn a_stalled_or_endless_answer_ends_with_its_client_and_with_the_server() {
    let server = server();
    let mut staying = Vec::new();
    for (number, fault) in
        [Fault::Stall { bytes: 10 }, Fault::NoAnswer, Fault::EndlessHeaders, Fault::EndlessJson].into_iter().enumerate()
    {
        server.fault(&format!("/{number}"), fault, 2);
        for _ in 0..2 {
            let mut stream = connect(&server.url());
            write!(stream, "GET /{number} HTTP/1.1\r\n\r\n").unwrap();
            staying.push(stream);
        }
        drop(staying.pop());
    }
    let mut last = connect(&server.url());
    server.fault(MANIFEST, Fault::Stall { bytes: 10 }, 1);
    write!(last, "GET {MANIFEST} HTTP/1.1\r\n\r\n").unwrap();
    last.read_exact(&mut [0; 20]).unwrap();
    drop(server);
    let mut rest = Vec::new();
    let _ = last.read_to_end(&mut rest);
    assert!(rest.len() < 300, "the head and ten bytes, not {}", rest.len());
}

#[test]
fn the_program_prints_its_addresses_obeys_the_control_path_and_ends_with_its_input() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mullama-hub-server"));
    let mut child = command.arg(DEMO).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = Vec::new();
    let mut stdout = child.stdout.take().unwrap();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        stdout.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    let addresses: Value = serde_json::from_slice(&line).unwrap();
    let (url, control) = (addresses["url"].as_str().unwrap(), addresses["control"].as_str().unwrap());
    let rule = format!(r#"{{"path": "{MANIFEST}", "fault": {{"status": {{"code": 500}}}}, "times": 1}}"#);
    // The line ends that `ask` adds count as white space after the JSON.
    let body = format!("Content-Length: {}\r\n\r\n{rule}", rule.len() + 4);
    assert_eq!(ask(&format!("{control}/faults"), "POST", &[body.as_str()]).status, 200);
    let manifest = format!("{url}{MANIFEST}");
    assert_eq!([get(&manifest, &[]).status, get(&manifest, &[]).status], [500, 200]);
    let log = get(&format!("{control}/requests"), &[]).json();
    assert_eq!((log.as_array().unwrap().len(), &log[0]["status"]), (2, &500.into()));
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}
