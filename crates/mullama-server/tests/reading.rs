//! The first law: a client that does not read pauses its own stream only, whatever its kernel would take for it.

mod support;

use std::time::{Duration, Instant};

use mullama::{ContextParams, Stats};
use mullama_server::{Listen, ServerConfig};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use support::tls::SelfSigned;
use support::{Client, LIMIT, Running, chat, post, start, start_at, start_default};

/// Tokens that are computed ahead of the reader by the engine, and at most for a client that reads none.
const BUFFERED: u64 = 16;
const LAW: u64 = BUFFERED + 400;
/// A stream that was held back for seconds goes on faster than the longest time between probes once was, on a busy machine too.
const RESUMED: Duration = Duration::from_millis(800);
/// A stream that goes on until the context is full.
const ENDLESS: &str = r#""stream": true, "ignore_eos": true, "max_tokens": -1, "temperature": 1.0, "buffer_size": 16"#;

fn endless() -> Vec<u8> {
    chat(&format!(", {ENDLESS}"))
}

/// Opens a stream that nobody reads, and checks how many tokens are computed for it.
async fn stalls<S: AsyncRead + AsyncWrite + Unpin>(server: &Running, client: &mut Client<S>, request: &[u8]) {
    let before = server.stats().tokens_generated;
    client.send(request).await;
    let computed = server.until_paused().await - before;
    assert!(computed <= LAW, "{computed} tokens are computed for a client that reads none");
    assert!(computed >= BUFFERED, "{computed} tokens are no stream");
}

#[tokio::test]
async fn a_client_that_stops_reading_pauses_its_stream_in_every_dialect() {
    let server = start_default().await;
    let llama = ENDLESS.replace("max_tokens", "n_predict");
    let responses = ENDLESS.replace(r#""max_tokens": -1, "#, "");
    for (path, body) in [
        ("/v1/chat/completions", format!(r#"{{"messages": [{{"role": "user", "content": "Hello"}}], {ENDLESS}}}"#)),
        ("/v1/completions", format!(r#"{{"prompt": "Hello", {ENDLESS}}}"#)),
        ("/completion", format!(r#"{{"prompt": "Hello", {llama}}}"#)),
        ("/v1/responses", format!(r#"{{"input": "Hello", {responses}}}"#)),
    ] {
        let mut client = server.connect().await;
        stalls(&server, &mut client, &post(path, "", &body)).await;
        drop(client);
        server.until_idle().await;
    }
}

#[tokio::test]
async fn a_client_that_stops_reading_pauses_its_streams_also_when_events_are_large_or_many() {
    for fields in [r#", "n": 4"#, r#", "logprobs": true, "top_logprobs": 5"#] {
        let server = start(ServerConfig::default(), ContextParams::default()).await;
        let mut client = server.connect().await;
        client.send(chat(&format!(", {ENDLESS}{fields}"))).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let computed = server.stats().tokens_generated;
        assert!((BUFFERED..=LAW + 3 * BUFFERED).contains(&computed), "{computed} tokens with {fields}");
    }
}

#[tokio::test]
async fn a_client_that_has_read_much_before_it_stops_pauses_its_stream_and_gets_all_of_it() {
    let server = start_default().await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        client.send(endless()).await;
        client.read_until("[DONE]\n\n").await;
    }
    client.send(endless()).await;
    server.until_paused().await;
    client.read_until("[DONE]").await;
}

#[tokio::test]
async fn a_client_with_a_small_buffer_that_stops_reading_pauses_its_own_stream_only() {
    let server = start_default().await;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(8192).expect("a small buffer");
    socket.connect(&server.address.into()).expect("the server accepts");
    socket.set_nonblocking(true).expect("a socket of tokio");
    let mut stalled = Client::new(TcpStream::from_std(socket.into()).expect("a socket of tokio"));
    stalls(&server, &mut stalled, &endless()).await;

    let answer = server.ask(chat(r#", "max_tokens": 50, "ignore_eos": true"#)).await;
    assert_eq!(answer.json()["usage"]["completion_tokens"], 50);
    let is_so = |stats: &Stats| stats.paused == 1 && stats.tokens_generated <= LAW + 50;
    server.until("the stalled stream stays paused", is_so).await;

    stalled.read_until("[DONE]").await;
    server.until_idle().await;
}

#[tokio::test]
async fn clients_that_do_not_read_shut_nobody_out_and_the_longest_paused_gives_way() {
    let params = ContextParams { n_parallel: 2, max_queue: 6, max_paused: 8, ..ContextParams::default() };
    let server = start(ServerConfig::default(), params).await;
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    let four = chat(&format!(r#", "n": 4, {ENDLESS}"#));
    first.send(&four).await;
    server.until_all_paused(4).await;
    second.send(&four).await;
    server.until_all_paused(8).await;

    let answer = server.ask(chat(r#", "max_tokens": 50, "ignore_eos": true"#)).await;
    assert_eq!(answer.json()["usage"]["completion_tokens"], 50);
    let ended = first.read_until("OVERLOADED").await;
    assert!(ended.contains("had been paused longest") && !ended.contains("[DONE]"), "the error is the last event");
    second.read_until("[DONE]").await;
    drop((first, second));
    server.until_idle().await;
}

#[tokio::test]
async fn a_client_that_reads_again_gets_the_rest_at_once() {
    let server = start_default().await;
    for pause in [0, 1, 2] {
        let mut client = server.connect().await;
        client.send(endless()).await;
        let before = server.until_paused().await;
        tokio::time::sleep(Duration::from_secs(pause)).await;
        let start = Instant::now();
        let read = async {
            // More than all that can wait, so that the stream must have gone on.
            while server.stats().tokens_generated < before + LAW {
                client.read_until("\n\n").await;
            }
        };
        tokio::time::timeout(LIMIT, read).await.expect("what was held back comes");
        assert!(start.elapsed() < RESUMED, "{:?} after a pause of {pause} s", start.elapsed());
        client.read_until("[DONE]").await;
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_for_long_gets_no_more() {
    let server = start_default().await;
    let mut client = server.connect().await;
    client.send(endless()).await;
    server.until_paused().await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    let computed = server.until_paused().await;
    assert!(computed <= LAW, "{computed} tokens are computed for a client that reads none");
}

#[tokio::test]
async fn a_client_that_reads_slowly_is_not_one_that_takes_no_bytes() {
    let config = ServerConfig { write_timeout: Duration::from_secs(1), ..ServerConfig::default() };
    let server = start(config, ContextParams { n_ctx: Some(8192), ..ContextParams::default() }).await;
    let mut slow = TcpStream::connect(server.address).await.expect("the server accepts");
    slow.write_all(&endless()).await.expect("it is sent");
    server.until_paused().await;
    // Several times the timeout, in which it reads far less than what is there already.
    for _ in 0..16 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        slow.read_exact(&mut [0; 100]).await.expect("there is more");
    }
    assert_eq!(server.stats().paused, 1, "it was closed although it reads");
    server.until_idle().await;
}

#[tokio::test]
async fn a_client_of_tls_that_stops_reading_pauses_its_stream() {
    let signed = SelfSigned::new();
    let config = ServerConfig { tls: Some(signed.files()), ..ServerConfig::default() };
    let server = start(config, ContextParams::default()).await;
    let mut client = signed.connect(server.address).await;
    stalls(&server, &mut client, &endless()).await;
    client.read_until("[DONE]").await;
}

#[tokio::test]
async fn a_client_of_a_unix_socket_that_stops_reading_pauses_its_stream() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let server = start_at(&Listen::Unix(path.clone()), ServerConfig::default(), ContextParams::default()).await;
    let mut client = Client::new(UnixStream::connect(&path).await.expect("the server accepts"));
    stalls(&server, &mut client, &endless()).await;
    client.read_until("[DONE]").await;
}
