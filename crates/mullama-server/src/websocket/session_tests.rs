use std::path::PathBuf;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::{LoadOptions, ModelSource, ModelSpec, ServerConfig};

const LIMIT: Duration = Duration::from_mins(1);

/// A server of models that are the demo, of which two may be in memory.
fn serving(names: &[&str]) -> State {
    let path: PathBuf = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/mullama/models/demo.gguf").into();
    let spec = |name: &&str| ModelSpec { name: (*name).to_owned(), source: ModelSource::File(path.clone()) };
    let options = LoadOptions { max_loaded: 2, ..LoadOptions::default() };
    State::new(names.iter().map(spec).collect(), options, ServerConfig::default(), None).expect("valid settings")
}

/// A text frame whose mask changes nothing.
fn text(message: &str) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a short message");
    let length = [&[0x81, 0xff, 0, 0, 0, 0][..], &length.to_be_bytes(), &[0; 4]].concat();
    [&length, message.as_bytes()].concat()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, wait).await.is_ok(), "{what}");
}

async fn read_until(client: &mut DuplexStream, words: &str) -> String {
    let mut read = Vec::new();
    let wait = async {
        while !String::from_utf8_lossy(&read).contains(words) {
            assert!(client.read_buf(&mut read).await.expect("a connection") > 0, "it ended before {words}");
        }
    };
    assert!(tokio::time::timeout(LIMIT, wait).await.is_ok(), "{words}");
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test]
async fn a_request_gets_its_model_while_the_socket_of_its_client_takes_nothing() {
    let state = serving(&["a", "b", "used"]);
    let used = state.model(Some("used")).await.expect("it loads");
    let (mut client, server) = tokio::io::duplex(256);
    let session = tokio::spawn(Session::new(server, state.clone(), None));
    let endless = r#"{"id": 1, "model": "a", "prompt": "Once", "ignore_eos": true, "buffer_size": 1, "logprobs": 20}"#;
    client.write_all(&text(endless)).await.expect("a connection");
    client.write_all(&text(r#"{"id": 2, "model": "b", "prompt": "x", "max_tokens": 1}"#)).await.expect("a connection");
    let is_paused = || {
        let loaded = state.models().glance(Some("a")).expect("a model");
        loaded.is_some_and(|loaded| loaded.context().stats().is_ok_and(|stats| stats.paused == 1 && stats.running == 0))
    };
    until("the stream is paused", is_paused).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    until("the stream is still paused", is_paused).await;
    assert!(state.models().glance(Some("b")).expect("a model").is_none(), "there is no room");
    drop(used);
    until("b is in memory", || state.models().glance(Some("b")).expect("a model").is_some()).await;
    read_until(&mut client, r#""type":"done","id":2"#).await;
    session.abort();
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_answer_reaches_a_client_that_reads_late() {
    let (mut client, server) = tokio::io::duplex(64);
    let mut session = Session::new(server, serving(&["a"]), None);
    encode(Opcode::Text, &[b'x'; 1000], &mut session.out);
    session.close(None, "");
    let session = tokio::spawn(session);
    for _ in 0..10 {
        tokio::time::sleep(LINGER).await;
        client.read_exact(&mut [0; 64]).await.expect("the connection is open");
    }
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.expect("the connection closes");
    assert_eq!(640 + rest.len(), 4 + 1000 + 2);
    let written = Instant::now();
    session.await.expect("it ends");
    assert!(written.elapsed() <= LINGER);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_of_the_end_is_cut_off_even_if_it_sends() {
    let (mut client, server) = tokio::io::duplex(64);
    let mut session = Session::new(server, serving(&["a"]), None);
    encode(Opcode::Text, &[b'x'; 1000], &mut session.out);
    session.close(None, "");
    let session = tokio::spawn(session);
    let started = Instant::now();
    while client.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).await.is_ok() {
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(started.elapsed() < ServerConfig::default().write_timeout + LIMIT);
    }
    session.await.expect("it ends");
}

/// On a runtime with one thread the test itself goes on only if the session gives it the thread.
#[tokio::test]
async fn a_large_message_is_read_on_another_thread_and_later_ones_wait_for_it() {
    let (_client, server) = tokio::io::duplex(64);
    let mut session = Session::new(server, serving(&["a"]), None);
    session.text(format!(r#"{{"id": 1, "prompt": "{}", "wrong": 1}}"#, "x".repeat(100 << 10)));
    session.decoder.extend(&text(r#"{"type": "wrong", "id": 2}"#));
    let mut idle = Context::from_waker(std::task::Waker::noop());
    assert!(!session.poll_reading(&mut idle), "it is on another thread");
    session.take_messages();
    assert!(session.out.is_empty() && session.requests.is_empty());
    until("both are read", || {
        session.poll_reading(&mut idle);
        !session.out.is_empty()
    })
    .await;
    assert!(!session.requests.is_empty(), "the first one waits for its model");
    assert!(String::from_utf8_lossy(&session.out).contains(r#""id":2"#));
}
