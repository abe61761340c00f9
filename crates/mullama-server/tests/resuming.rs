//! Streams that can be resumed when their server ends: they end with it, and leave nothing in the engine.

mod support;

use std::time::Duration;

use mullama::ContextParams;
use mullama_server::ServerConfig;

use support::{LIMIT, Running, chat_body, get, post, start};

/// A generation that goes on until the context is full, and can be resumed.
fn endless() -> Vec<u8> {
    let fields = r#", "ignore_eos": true, "max_tokens": -1, "stream": true, "buffer_size": 1"#;
    post("/v1/chat/completions", "X-Stream-Resume: 1\r\n", &chat_body("Hello", fields))
}

async fn serving() -> Running {
    let params = ContextParams { n_ctx: Some(4096), kv_cells: Some(8192), ..ContextParams::default() };
    start(ServerConfig { drain_timeout: Duration::from_millis(200), ..ServerConfig::default() }, params).await
}

/// Starts a stream; returns its id and its connection.
async fn begin(server: &Running) -> (String, support::Client<tokio::net::TcpStream>) {
    let mut client = server.connect().await;
    client.send(endless()).await;
    let head = client.read_until("\r\n\r\n").await.to_lowercase();
    let id = head.lines().find_map(|line| line.strip_prefix("x-stream-id: ")).expect("an id").to_owned();
    client.read_until("id: 3\n").await;
    (id, client)
}

#[tokio::test]
async fn a_server_that_stops_ends_the_streams_of_clients_that_read_and_of_those_that_are_away() {
    let mut server = serving().await;
    let (_, mut reading) = begin(&server).await;
    let (_, away) = begin(&server).await;
    drop(away);
    let engine = std::sync::Arc::clone(&server.engine);
    assert_eq!(engine.unfinished().expect("the engine lives"), 2);
    server.ask_to_stop();
    let rest = reading.read_to_end().await;
    assert!(
        rest.contains("\"code\":\"CLOSED\""),
        "the client that reads is told: {}",
        &rest[rest.len().saturating_sub(400)..]
    );
    server.ended().await;
    until_empty(&engine).await;
}

#[tokio::test]
async fn dropping_the_server_ends_the_streams_of_clients_that_read_and_of_those_that_are_away() {
    let server = serving().await;
    let (_, _reading) = begin(&server).await;
    let (_, away) = begin(&server).await;
    drop(away);
    let engine = std::sync::Arc::clone(&server.engine);
    assert_eq!(engine.unfinished().expect("the engine lives"), 2);
    server.abort();
    until_empty(&engine).await;
}

#[tokio::test]
async fn errors_of_a_stream_have_the_shape_of_its_dialect() {
    let server = serving().await;
    let body = r#"{"model": "demo", "max_tokens": 3, "stream": true, "messages": [{"role": "user", "content": "Hi"}]}"#;
    let mut client = server.connect().await;
    client.send(post("/v1/messages", "X-Stream-Resume: 1\r\nConnection: close\r\n", body)).await;
    let head = client.read_until("\r\n\r\n").await.to_lowercase();
    let id = head.lines().find_map(|line| line.strip_prefix("x-stream-id: ")).expect("an id").to_owned();
    client.read_to_end().await;
    let answer = server.ask(get(&format!("/v1/streams/{id}"), "Last-Event-ID: x\r\n")).await;
    assert_eq!((answer.status, answer.json()["type"].as_str()), (400, Some("error")), "{answer:?}");
    let answer = server.ask(post("/v1/messages", "X-Stream-Resume: yes\r\n", body)).await;
    assert_eq!((answer.status, answer.json()["type"].as_str()), (400, Some("error")), "{answer:?}");
    let answer = server.ask(post("/v1/completions", "X-Stream-Resume: yes\r\n", r#"{"prompt": "a"}"#)).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "INVALID_REQUEST"), "{answer:?}");
}

#[tokio::test]
async fn an_answer_that_cannot_be_resumed_has_no_id() {
    let server = serving().await;
    let chat = |fields: &str| chat_body("Hello", &format!(r#", "max_tokens": 3{fields}"#));
    for (path, fields) in [("/v1/chat/completions", ""), ("/v1/messages", r#", "model": "demo""#)] {
        let answer = server.ask(post(path, "X-Stream-Resume: 1\r\nConnection: close\r\n", &chat(fields))).await;
        assert_eq!((answer.status, answer.head.contains("x-stream-id")), (200, false), "{path}: {answer:?}");
    }
    let mut client = server.connect().await;
    client.send("HEAD /v1/streams/stream_0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(client.read_to_end().await.contains(" 405 "));
}

async fn until_empty(engine: &mullama::Context) {
    let wait = async {
        while engine.unfinished().expect("the engine lives") > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LIMIT.min(Duration::from_secs(20)), wait).await.expect("no stream is left");
}
