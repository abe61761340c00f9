//! Sockets whose clients grant no credits, read nothing or leave: their streams end, are told so, and harm no other.

mod support;

use std::time::Duration;

use mullama::ContextParams;
use mullama_server::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use support::{Client, Running, start};

/// A text frame of a client, whose mask changes nothing.
fn text(message: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u16::try_from(message.len()) {
        Ok(length @ 126..) => frame.extend([&[0xfe][..], &length.to_be_bytes()].concat()),
        Ok(length) => frame.push(0x80 | length.to_le_bytes()[0]),
        Err(_) => frame.extend([&[0xff][..], &(message.len() as u64).to_be_bytes()].concat()),
    }
    frame.extend([0; 4]);
    frame.extend(message.as_bytes());
    frame
}

const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

/// A close frame with this code.
fn close(code: u16) -> Vec<u8> {
    [&[0x88, 0x82, 0, 0, 0, 0][..], &code.to_be_bytes()].concat()
}

/// A request that never ends by itself while its client grants no further credits.
fn stalled(id: usize, fields: &str) -> Vec<u8> {
    text(&format!(r#"{{"id": {id}, "prompt": "Once", "ignore_eos": true, "credits": 1, "buffer_size": 1{fields}}}"#))
}

async fn serving(change: impl FnOnce(&mut ServerConfig)) -> Running {
    let mut config = ServerConfig { websocket: true, ..ServerConfig::default() };
    change(&mut config);
    let params = ContextParams { n_ctx: Some(4096), n_parallel: 2, max_queue: 1, ..ContextParams::default() };
    start(config, params).await
}

async fn open(server: &Running) -> Client<TcpStream> {
    shaken(server.connect().await).await
}

async fn shaken(mut client: Client<TcpStream>) -> Client<TcpStream> {
    let handshake = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.send(handshake).await;
    client.read_until("\r\n\r\n").await;
    client
}

/// A client whose kernel takes few bytes.
async fn narrow(server: &Running) -> Client<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    shaken(Client::new(socket.connect(server.address).await.expect("the server accepts"))).await
}

/// A socket that takes nothing: one stream fills it, and another waits for credits.
async fn blocked(server: &Running) -> Client<TcpStream> {
    let mut client = narrow(server).await;
    client
        .send(text(r#"{"id": "full", "prompt": "Once", "ignore_eos": true, "buffer_size": 1, "logprobs": 20}"#))
        .await;
    client.send(stalled(2, "")).await;
    server.until("both are paused", |stats| stats.paused == 2 && stats.running == 0).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.until("both are still paused", |stats| stats.paused == 2 && stats.running == 0).await;
    client
}

#[tokio::test]
async fn a_stream_without_credits_is_told_its_deadline() {
    let server = serving(|_| {}).await;
    let mut client = open(&server).await;
    client.send(stalled(1, r#", "timeout_ms": 300"#)).await;
    client.read_until(r#""type":"token","id":1"#).await;
    client.read_until(r#""type":"error","id":1,"code":"STREAM_TIMEOUT""#).await;
    server.until_idle().await;
}

#[tokio::test]
async fn a_stream_without_credits_is_told_that_the_server_stops() {
    let mut server = serving(|config| config.drain_timeout = Duration::from_millis(200)).await;
    let mut client = open(&server).await;
    client.send(stalled(1, "")).await;
    client.read_until(r#""type":"token","id":1"#).await;
    server.until("it waits", |stats| stats.paused == 1).await;
    server.ask_to_stop();
    client.read_until(r#""type":"error","id":1,"code":"CLOSED""#).await;
    assert!(client.read_to_end().await.contains("the server is stopping"));
    server.ended().await;
}

#[tokio::test]
async fn a_stream_without_credits_is_told_that_its_engine_has_ended() {
    let server = serving(|_| {}).await;
    let mut client = open(&server).await;
    client.send(stalled(1, "")).await;
    client.read_until(r#""type":"token","id":1"#).await;
    server.until("it waits", |stats| stats.paused == 1).await;
    server.engine.model().close();
    client.read_until(r#""type":"error","id":1,"code":"CLOSED""#).await;
}

#[tokio::test]
async fn a_stream_waits_for_credits_for_a_limited_time() {
    let server = serving(|config| config.write_timeout = Duration::from_secs(1)).await;
    let mut client = open(&server).await;
    client.send(stalled(1, "")).await;
    // A client that says nothing at all would be cut off by the same limit.
    for _ in 0..80 {
        client.send(PONG).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let told = client.read_until("no credit for 1 s").await;
    assert!(told.contains(r#""type":"error","id":1,"code":"STREAM_TIMEOUT""#), "{told}");
    server.until_idle().await;
}

#[tokio::test]
async fn credits_that_come_in_time_begin_a_new_wait() {
    let server = serving(|config| config.write_timeout = Duration::from_secs(2)).await;
    let mut client = open(&server).await;
    client.send(stalled(1, r#", "max_tokens": 5"#)).await;
    for _ in 0..4 {
        client.read_until(r#""type":"token","id":1"#).await;
        tokio::time::sleep(Duration::from_millis(800)).await;
        client.send(text(r#"{"type": "grant", "id": 1, "tokens": 1}"#)).await;
    }
    client.read_until(r#""type":"done","id":1,"finish_reason":"length""#).await;
}

#[tokio::test]
async fn streams_without_credits_shut_out_nobody() {
    let server = serving(|_| {}).await;
    let mut client = open(&server).await;
    // Two slots and a queue of one: far more than may run or wait.
    for id in 0..60 {
        client.send(stalled(id, "")).await;
        client.read_until(r#""type":"token""#).await;
        server.until("it waits", |stats| stats.paused == id + 1).await;
    }
    let answer = server.ask(support::chat(r#", "max_tokens": 5, "ignore_eos": true"#)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    drop(client);
    server.until_idle().await;
}

#[tokio::test]
async fn the_end_of_a_client_is_seen_while_its_socket_takes_nothing() {
    for end in ["half", "close", "both"] {
        let server = serving(|_| {}).await;
        let mut client = blocked(&server).await;
        if end != "half" {
            client.send(close(1000)).await;
        }
        if end != "close" {
            client.stream.shutdown().await.expect("the connection is open");
        }
        server.until_idle().await;
    }
}

#[tokio::test]
async fn the_end_of_a_client_is_seen_behind_messages_whose_answers_it_does_not_read() {
    let server = serving(|_| {}).await;
    let mut client = blocked(&server).await;
    for _ in 0..2000 {
        client.send(text(r#"{"id": "wrong", "unknown": 1, "prompt": "a"}"#)).await;
    }
    drop(client.stream.shutdown().await);
    server.until_idle().await;
}

#[tokio::test]
async fn messages_about_a_request_that_runs_on_are_refused_without_its_end() {
    let server = serving(|_| {}).await;
    let mut client = open(&server).await;
    client.send(stalled(1, "")).await;
    client.read_until(r#""type":"token","id":1"#).await;
    client.send(stalled(1, "")).await;
    let told = client.read_until(r#""request_continues":true"#).await;
    let refused = r#""type":"error","id":1,"code":"INVALID_REQUEST""#;
    assert!(told.contains("id is already in use by a running request"), "{told}");
    assert!(told.contains(refused) && told.contains(r#""field":"id","request_continues":true"#), "{told}");
    client.send(text(r#"{"id": "free", "prompt": "Once", "ignore_eos": true, "buffer_size": 1}"#)).await;
    client.read_until(r#""type":"token","id":"free""#).await;
    client.send(text(r#"{"type": "grant", "id": "free", "tokens": 1}"#)).await;
    let told = client.read_until(r#""request_continues":true"#).await;
    assert!(told.contains(r#""type":"error","id":"free","code":"INVALID_REQUEST""#), "{told}");
    assert!(told.contains(r#"this request does not use credits; send it with \"flow\": \"credits\""#), "{told}");
    client.send(text(r#"{"type": "cancel", "id": "free"}"#)).await;
    client.send(text(r#"{"type": "grant", "id": 1, "tokens": 1}"#)).await;
    client.read_until(r#""type":"token","id":1"#).await;
}

#[tokio::test]
async fn a_message_without_an_id_is_about_the_only_request_and_refused_if_there_are_several() {
    let server = serving(|_| {}).await;
    let mut client = open(&server).await;
    client.send(stalled(1, "")).await;
    client.send(text(r#"{"type": "grant", "tokens": 1}"#)).await;
    client.read_until(r#""type":"token","id":1"#).await;
    client.send(stalled(2, "")).await;
    for message in [r#"{"type": "grant", "tokens": 1}"#, r#"{"type": "cancel"}"#] {
        client.send(text(message)).await;
        let told = client.read_until(r#""request_continues":true"#).await;
        assert!(told.contains("id is missing, and 2 requests are unfinished"), "{told}");
    }
    client.send(text(r#"{"type": "cancel", "id": 1}"#)).await;
    client.read_until(r#""type":"done","id":1,"finish_reason":"cancelled""#).await;
    client.send(text(r#"{"type": "cancel"}"#)).await;
    client.read_until(r#""type":"done","id":2,"finish_reason":"cancelled""#).await;
    client.send(text(r#"{"type": "cancel"}"#)).await;
    client.send(text(r#"{"id": 3, "prompt": "Once", "max_tokens": 1}"#)).await;
    let told = client.read_until(r#""type":"done","id":3"#).await;
    assert!(!told.contains("error"), "{told}");
}

#[tokio::test]
async fn the_memory_of_waiting_messages_is_bounded_over_all_sockets() {
    let server = serving(|_| {}).await;
    // A message of a mebibyte has half a million values of 32 bytes.
    let list = format!("{}0", "0,".repeat((1 << 19) - 100));
    let large = |id: usize| text(&format!(r#"{{"id": {id}, "prompt": "a", "stop": [{list}]}}"#));
    let mut sockets = Vec::new();
    let mut refused = false;
    for _ in 0..20 {
        let mut client = open(&server).await;
        // Requests without an id wait for the first one, which waits for its credits.
        client.send(text(r#"{"prompt": "Once", "ignore_eos": true, "credits": 1}"#)).await;
        client.read_until(r#""type":"token""#).await;
        client.send(text(&format!(r#"{{"prompt": "a", "stop": [{list}]}}"#))).await;
        client.send(text(r#"{"type": "grant", "id": "none", "tokens": 0}"#)).await;
        client.read_until(r#""type":"error""#).await;
        let told = client.read_until("}").await;
        refused |= told.contains("OVERLOADED");
        sockets.push(client);
    }
    assert!(refused, "twenty of them take more than 256 MiB");
    drop(sockets);
    server.until_idle().await;
    let mut client = open(&server).await;
    client.send(large(7)).await;
    client.read_until(r#""id":7,"code":"INVALID_REQUEST""#).await;
}
