//! A client that leaves frees its slot within one step.

mod support;

use std::time::Duration;

use mullama::ContextParams;
use mullama_server::ServerConfig;
use tokio::net::TcpStream;

use support::{Client, Running, chat, chat_body, post, start, start_default};

/// A generation that goes on until the context is full.
const ENDLESS: &str = r#", "ignore_eos": true, "max_tokens": -1, "temperature": 1.0"#;

fn endless(fields: &str) -> Vec<u8> {
    chat(&format!("{ENDLESS}{fields}"))
}

/// Streams that ended because their client had left.
const CANCELLED: &str = r#"mullama_streams_total{model="demo",reason="cancelled"}"#;

/// Closes a client, and checks that its stream did not run on to the end of the context.
async fn leaves(server: &Running, client: Client<TcpStream>) {
    drop(client);
    server.until_metric(CANCELLED, 1).await;
    server.until_idle().await;
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
    let until = async |what: &str, least: usize| {
        let wait = async {
            while unfinished() < least {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        assert!(tokio::time::timeout(support::LIMIT, wait).await.is_ok(), "{what}: {}", unfinished());
    };
    until("the first waits", 30).await;
    let mut waiting = Vec::new();
    for stream in ["", r#", "stream": true"#] {
        let (mut client, others) = (server.connect().await, unfinished());
        client.send(endless(&format!(r#"{stream}, "n": 10"#))).await;
        client.send(b"further bytes").await;
        until("it waits", others + 5).await;
        waiting.push(client);
    }
    drop(waiting);
    server.until_metric(r#"mullama_cancel_seconds_count{model="demo",phase="queued"}"#, 20).await;
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
