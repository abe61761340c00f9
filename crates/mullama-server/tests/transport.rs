//! Where a server listens, what bounds its connections, and how it stops.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use mullama::ContextParams;
use mullama_server::{Listen, LoadOptions, ModelSource, ModelSpec, Server, ServerConfig, State, TlsFiles};
use tokio::net::{TcpStream, UnixStream};

use support::tls::SelfSigned;
use support::{Client, chat, demo, get, start, start_default};

const SHORT: Duration = Duration::from_millis(300);
const ENDLESS: &str = r#", "stream": true, "ignore_eos": true, "max_tokens": -1, "buffer_size": 4"#;

fn state(config: ServerConfig) -> State {
    let model = ModelSpec { name: "demo".to_owned(), source: ModelSource::File(demo()) };
    State::new(vec![model], LoadOptions::default(), config, None).expect("valid settings")
}

#[tokio::test]
async fn tls_is_served_from_the_files_of_a_certificate() {
    let signed = SelfSigned::new();
    let config = ServerConfig { tls: Some(signed.files()), ..ServerConfig::default() };
    let server = start(config, ContextParams::default()).await;
    let mut client = signed.connect(server.address).await;
    client.send(chat(r#", "max_tokens": 5"#)).await;
    assert_eq!(client.answer().await.json()["usage"]["completion_tokens"], 5);

    let mut leaving = signed.connect(server.address).await;
    leaving.send(chat(ENDLESS)).await;
    leaving.read_until("\"content\":\"").await;
    drop(leaving);
    server.until_idle().await;

    let mut plain = server.connect().await;
    plain.send(get("/health", "")).await;
    assert!(!plain.read_to_end().await.contains("HTTP"), "plain HTTP is no TLS");

    let (certificates, key) = (signed.certificates(), signed.key());
    for (certificates, key) in [(&key, &key), (&certificates, &certificates), (&signed.folder().join("no"), &key)] {
        let tls = Some(TlsFiles { certificates: certificates.clone(), key: key.clone() });
        let listen = Listen::Tcp("127.0.0.1".to_owned(), 0);
        let bound = Server::bind(&listen, state(ServerConfig { tls, ..ServerConfig::default() })).await;
        assert!(bound.is_err_and(|error| error.to_string().contains(&*signed.folder().to_string_lossy())));
    }
}

#[tokio::test]
async fn a_unix_socket_is_private_and_replaces_only_one_that_nobody_listens_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let listen = Listen::Unix(path.clone());
    let bind = async || Server::bind(&listen, state(ServerConfig::default())).await;

    fs::write(&path, "precious").expect("a file");
    assert!(bind().await.is_err_and(|error| error.to_string().contains("is not a socket")));
    assert_eq!(fs::read_to_string(&path).expect("it is still there"), "precious");
    fs::remove_file(&path).expect("a file");

    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket that is left behind"));
    let server = bind().await.expect("it replaces the socket");
    assert_eq!(server.url(), format!("unix:{}", path.display()));
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(bind().await.is_err_and(|error| error.to_string().contains("is in use")));

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async { drop(stopped.await) }));
    let mut client = Client::new(UnixStream::connect(&path).await.expect("the server accepts"));
    client.send("GET /v1/models HTTP/1.1\r\nHost: any.name\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    client.send(chat(r#", "max_tokens": 5"#)).await;
    assert_eq!(client.answer().await.json()["usage"]["completion_tokens"], 5);
    drop(stop);
    tokio::time::timeout(support::LIMIT, running).await.expect("it ends").expect("no panic");
    assert!(!path.exists(), "the socket is removed");
}

/// Serves the socket that the test below passes as systemd does, and has no other purpose.
#[tokio::test]
#[ignore = "it is the child process of another test"]
async fn child_of_systemd() {
    let server = Server::bind(&Listen::Systemd, state(ServerConfig::default())).await.expect("a socket");
    server.run(std::future::pending()).await;
}

#[tokio::test]
async fn a_socket_that_systemd_passes_is_served() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    // systemd passes descriptor 3, and says whom it is for.
    let script = r#"exec 3<&0; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$0" --exact child_of_systemd --ignored"#;
    let mut child = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().expect("this test"))
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .spawn()
        .expect("a process");
    let mut client = Client::new(TcpStream::connect(address).await.expect("the socket listens"));
    client.send(get("/health", "")).await;
    let answer = client.answer().await;
    child.kill().expect("the child lives");
    child.wait().expect("the child ends");
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = start_default().await;
    let mut client = server.connect().await;
    let requests = [get("/health", ""), get("/no-such-path", ""), get("/v1/models", ""), get("/v1/models/none", "")];
    client.send(requests.concat()).await;
    for status in [200, 404, 200, 404] {
        assert_eq!(client.answer().await.status, status);
    }
    client.send(requests.concat()).await;
    // A client that closes its side right away gets its answers all the same.
    tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await.expect("an open connection");
    assert_eq!(client.read_to_end().await.matches("HTTP/1.1 ").count(), 4);
}

#[tokio::test]
async fn slow_headers_and_slow_bodies_end() {
    let config = ServerConfig { header_timeout: SHORT, ..ServerConfig::default() };
    let server = start(config, ContextParams::default()).await;
    for words in ["", "GET /hea", "GET /health HTTP/1.1\r\nHost: loc"] {
        let mut client = server.connect().await;
        client.send(words).await;
        let read = client.read_to_end().await;
        assert!(read.is_empty() || read.contains(" 408 "), "{read}");
    }
    let config = ServerConfig { body_timeout: SHORT, ..ServerConfig::default() };
    let server = start(config, ContextParams::default()).await;
    let mut client = server.connect().await;
    client.send("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{").await;
    assert_eq!(client.answer().await.status, 408);
}

#[tokio::test]
async fn a_connection_that_stays_idle_after_an_answer_ends() {
    let config = ServerConfig { header_timeout: Duration::from_secs(2), ..ServerConfig::default() };
    let server = start(config, ContextParams::default()).await;
    let mut client = server.connect().await;
    client.send(get("/health", "")).await;
    assert_eq!(client.answer().await.status, 200);
    client.read_to_end().await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address");
    let listen = Listen::Tcp("127.0.0.1".to_owned(), address.port());
    let error = Server::bind(&listen, state(ServerConfig::default())).await.expect_err("it is taken");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    let listen = Listen::Unix("/no/such/folder/socket".into());
    let error = Server::bind(&listen, state(ServerConfig::default())).await.expect_err("there is no such folder");
    assert!(error.to_string().contains("/no/such/folder/socket"), "{error}");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let config = ServerConfig { max_connections: 2, ..ServerConfig::default() };
    let server = start(config, ContextParams::default()).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect().await;
        client.send(get("/health", "")).await;
        assert_eq!(client.answer().await.status, 200);
        open.push(client);
    }
    let mut waiting = server.connect().await;
    waiting.send(get("/health", "")).await;
    // Meanwhile the server has answered others often enough to have served it too.
    for _ in 0..100 {
        open[0].send(get("/health", "")).await;
        assert_eq!(open[0].answer().await.status, 200);
    }
    let early = waiting.stream.try_read(&mut [0]);
    assert_eq!(early.expect_err("nothing is sent").kind(), std::io::ErrorKind::WouldBlock);
    open.pop();
    assert_eq!(waiting.answer().await.status, 200);
}

#[tokio::test]
async fn streams_that_run_when_the_time_to_drain_is_over_end_with_an_error() {
    let config = ServerConfig { drain_timeout: SHORT, ..ServerConfig::default() };
    let params = ContextParams { n_parallel: 1, ..ContextParams::default() };
    let mut server = start(config, params).await;
    let many = r#", "ignore_eos": true, "max_tokens": -1, "n": 30"#;
    let mut streamed = server.connect().await;
    streamed.send(chat(&format!(r#"{many}, "stream": true"#))).await;
    streamed.read_until("\"content\":\"").await;
    let mut whole = server.connect().await;
    whole.send(chat(many)).await;
    let unfinished = async {
        while server.engine.unfinished().expect("it lives") < 50 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(support::LIMIT, unfinished).await.expect("the second request waits");
    server.ask_to_stop();
    let answer = whole.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "CLOSED"));
    let rest = streamed.read_to_end().await;
    let end: String = rest.chars().skip(rest.chars().count().saturating_sub(300)).collect();
    assert!(end.contains("CLOSED") && end.contains("[DONE]"), "{end}");
    server.ended().await;
}

#[tokio::test]
async fn a_request_that_runs_when_the_server_is_asked_to_stop_ends_as_it_would_have() {
    let mut server = start_default().await;
    let mut client = server.connect().await;
    client.send(chat(r#", "stream": true, "max_tokens": 500, "ignore_eos": true"#)).await;
    client.read_until("\"content\":\"").await;
    let mut idle = server.connect().await;
    idle.send(get("/health", "")).await;
    idle.answer().await;
    server.ask_to_stop();
    client.read_until("[DONE]").await;
    idle.read_to_end().await;
    server.ended().await;
}
