//! A client that leaves frees its slot within one step, and one that does not read pauses its own stream only.

mod support;

use std::time::Duration;

use mullama::{ContextParams, Stats};
use mullama_server::ServerConfig;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;

use support::{Client, Running, chat, chat_body, post, start, start_default};

/// A generation that goes on until the context is full.
const ENDLESS: &str = r#", "ignore_eos": true, "max_tokens": -1, "temperature": 1.0"#;

fn endless(fields: &str) -> Vec<u8> {
    chat(&format!("{ENDLESS}{fields}"))
}

/// Closes a client, and checks that its stream did not run on to the end of the context.
async fn leaves(server: &Running, client: Client<TcpStream>) {
    let context_len = server.engine.context_len().expect("the engine lives") as u64;
    let before = server.stats().tokens_generated;
    drop(client);
    server.until_idle().await;
    let after = server.stats().tokens_generated;
    assert!(after - before < context_len / 2, "{before} tokens, and {after} after the client had left");
}

#[tokio::test]
async fn a_client_that_leaves_its_stream_frees_the_slot() {
    let server = start_default().await;
    let mut client = server.connect().await;
    client.send(endless(r#", "stream": true"#)).await;
    client.read_until("\"content\":\"").await;
    leaves(&server, client).await;
}

#[tokio::test]
async fn a_client_that_leaves_before_a_whole_answer_frees_the_slot() {
    let server = start_default().await;
    let mut client = server.connect().await;
    client.send(endless("")).await;
    server.until("it runs", |stats| stats.running == 1).await;
    leaves(&server, client).await;
}

#[tokio::test]
async fn a_client_that_leaves_after_it_has_sent_further_bytes_frees_the_slot() {
    for stream in ["", r#", "stream": true"#] {
        let server = start_default().await;
        let mut client = server.connect().await;
        client.send(endless(stream)).await;
        client.send(endless(stream)).await;
        server.until("it runs", |stats| stats.running == 1).await;
        leaves(&server, client).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_for_a_slot_leaves_the_queue() {
    let params = ContextParams { n_parallel: 1, ..ContextParams::default() };
    let server = start(ServerConfig::default(), params).await;
    let mut first = server.connect().await;
    first.send(endless(r#", "n": 40"#)).await;
    let unfinished = || server.engine.unfinished().expect("the engine lives");
    let until = async |what: &str, is_so: &dyn Fn(usize) -> bool| {
        let wait = async {
            while !is_so(unfinished()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        assert!(tokio::time::timeout(support::LIMIT, wait).await.is_ok(), "{what}: {}", unfinished());
    };
    until("the first waits", &|count| count >= 30).await;
    let mut waiting = Vec::new();
    for stream in ["", r#", "stream": true"#] {
        let (mut client, others) = (server.connect().await, unfinished());
        client.send(endless(&format!(r#"{stream}, "n": 10"#))).await;
        client.send(b"further bytes").await;
        until("it waits", &|count| count > others + 5).await;
        waiting.push(client);
    }
    let (before, computed) = (unfinished(), server.stats().tokens_generated);
    drop(waiting);
    until("they have left", &|count| count <= before - 20).await;
    let context_len = server.engine.context_len().expect("the engine lives") as u64;
    assert!(server.stats().tokens_generated - computed < 5 * context_len, "they did not wait for their turn");
    drop(first);
    server.until_idle().await;
}

#[tokio::test]
async fn a_client_that_leaves_during_prefill_stops_it() {
    let server = start_default().await;
    let context_len = server.engine.context_len().expect("the engine lives");
    let prompt = "word ".repeat(context_len / 4);
    let mut client = server.connect().await;
    client.send(post("/v1/chat/completions", "", &chat_body(&prompt, ENDLESS))).await;
    server.until("it runs", |stats| stats.running == 1).await;
    leaves(&server, client).await;
}

/// The first law. A client with a small receive buffer stops reading.
#[tokio::test]
async fn a_client_that_stops_reading_pauses_its_own_stream_only() {
    let server = start_default().await;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(8192).expect("a small buffer");
    socket.connect(&server.address.into()).expect("the server accepts");
    socket.set_nonblocking(true).expect("a socket of tokio");
    let mut stalled = Client::new(TcpStream::from_std(socket.into()).expect("a socket of tokio"));
    stalled.send(endless(r#", "stream": true, "buffer_size": 16"#)).await;
    let computed = server.until_paused().await;
    assert!(computed <= 16 + 400, "{computed} tokens are computed for a client that reads none");

    let answer = server.ask(chat(r#", "max_tokens": 50, "ignore_eos": true"#)).await;
    assert_eq!(answer.json()["usage"]["completion_tokens"], 50);
    let is_so = |stats: &Stats| (stats.paused, stats.tokens_generated) == (1, computed + 50);
    server.until("the stalled stream computes nothing", is_so).await;

    stalled.read_until("[DONE]").await;
    server.until_idle().await;
}
