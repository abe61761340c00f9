//! A real server over the demo model, and a client that sends the bytes that it is given.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    reason = "each test file uses a part of it, and nobody else"
)]

pub mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mullama::{Context, ContextParams, Model, Stats};
use mullama_server::{Listen, LoadOptions, ModelSource, ModelSpec, Server, ServerConfig, State};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// After this time something that was expected has failed to happen.
pub const LIMIT: Duration = Duration::from_mins(1);

/// The file of the demo model.
pub fn demo() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/mullama/models/demo.gguf").into()
}

/// A running server.
pub struct Running {
    /// Of a TCP socket.
    pub address: SocketAddr,
    /// Shares the engine of the server, and shows what it does.
    pub engine: Arc<Context>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// Serves the demo model at a port of this machine.
pub async fn start(config: ServerConfig, params: ContextParams) -> Running {
    start_at(&Listen::Tcp("127.0.0.1".to_owned(), 0), config, params).await
}

/// Serves the demo model.
pub async fn start_at(listen: &Listen, config: ServerConfig, params: ContextParams) -> Running {
    let model = Arc::new(Model::load(demo()).expect("the demo model loads"));
    let engine = Arc::new(Context::new(Arc::clone(&model), params.clone()).expect("the engine starts"));
    let spec = ModelSpec { name: "demo".to_owned(), source: ModelSource::Loaded(model) };
    let options = LoadOptions { context: params, ..LoadOptions::default() };
    let state = State::new(vec![spec], options, config, None).expect("valid settings");
    let server = Server::bind(listen, state).await.expect("a free port");
    let address = server.address();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(server.run(async { drop(stopped.await) }));
    Running { address: address.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0))), engine, stop: Some(stop), task }
}

/// A server with the default settings.
pub async fn start_default() -> Running {
    start(ServerConfig::default(), ContextParams::default()).await
}

impl Running {
    pub async fn connect(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.address).await.expect("the server accepts"))
    }

    /// Sends one request over a connection of its own, and reads the answer to its end.
    pub async fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut client = self.connect().await;
        client.send(request).await;
        client.answer().await
    }

    /// The value of a metric, by its name and its labels as they are written; 0 if there is none.
    pub async fn metric(&self, name: &str) -> u64 {
        let answer = self.ask(get("/metrics", "")).await;
        let value = answer.body.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_default()
    }

    /// Waits until a metric has this value or a larger one.
    pub async fn until_metric(&self, name: &str, least: u64) {
        let wait = async {
            while self.metric(name).await < least {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        assert!(tokio::time::timeout(LIMIT, wait).await.is_ok(), "{name} is less than {least}");
    }

    pub fn stats(&self) -> Stats {
        self.engine.stats().expect("the engine lives")
    }

    /// Waits until the engine's statistics are as wanted.
    pub async fn until(&self, what: &str, is_so: impl Fn(&Stats) -> bool) {
        let wait = async {
            while !is_so(&self.stats()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, wait).await;
        assert!(waited.is_ok(), "{what}: {:?}", self.stats());
    }

    /// Waits until the only stream has been paused for a while, and returns the number of tokens computed.
    pub async fn until_paused(&self) -> u64 {
        self.until_all_paused(1).await
    }

    /// As [`until_paused`](Self::until_paused), for this many streams.
    pub async fn until_all_paused(&self, count: usize) -> u64 {
        let (mut computed, mut looks) = (0, 0);
        let wait = async {
            while looks < 50 {
                tokio::time::sleep(Duration::from_millis(5)).await;
                let stats = self.stats();
                let is_still = (stats.paused, stats.running, stats.tokens_generated) == (count, 0, computed);
                looks = if is_still { looks + 1 } else { 0 };
                computed = stats.tokens_generated;
            }
        };
        let waited = tokio::time::timeout(LIMIT, wait).await;
        assert!(waited.is_ok(), "{count} streams are not paused: {:?}", self.stats());
        computed
    }

    /// Waits until no stream is left.
    pub async fn until_idle(&self) {
        let wait = async {
            while self.engine.unfinished().expect("the engine lives") > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let waited = tokio::time::timeout(LIMIT, wait).await;
        assert!(waited.is_ok(), "streams are left: {:?}", self.stats());
    }

    pub fn ask_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Drops the future that serves.
    pub fn abort(self) {
        self.task.abort();
    }

    /// Waits until the server has ended.
    pub async fn ended(self) {
        let ended = tokio::time::timeout(LIMIT, self.task).await.expect("the server ends");
        ended.expect("it does not panic");
    }
}

/// A client that sends and reads bytes.
pub struct Client<S> {
    pub stream: S,
    read: Vec<u8>,
}

/// An answer to a request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The status line and the headers, in lower case.
    pub head: String,
    /// The body as it was sent, with the lengths of its chunks if it has chunks.
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn code(&self) -> String {
        self.json()["error"]["mullama_code"].as_str().unwrap_or_default().to_owned()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The server may have answered and closed already.
        let sent = tokio::time::timeout(LIMIT, self.stream.write_all(bytes.as_ref())).await;
        drop(sent.expect("the server reads"));
    }

    /// Reads until these words have come.
    pub async fn read_until(&mut self, words: &str) -> String {
        loop {
            if let Some(at) = find(&self.read, words.as_bytes()) {
                let rest = self.read.split_off(at + words.len());
                return String::from_utf8_lossy(&std::mem::replace(&mut self.read, rest)).into_owned();
            }
            assert!(self.read_some().await > 0, "the server closed before {words}: {:?}", self.shown());
        }
    }

    /// Reads until the server closes.
    pub async fn read_to_end(&mut self) -> String {
        while self.read_some().await > 0 {}
        self.shown()
    }

    /// Reads one answer that has a length, or else to the end.
    pub async fn answer(&mut self) -> Answer {
        let head = self.read_until("\r\n\r\n").await.to_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let length = if status == 204 { Some(0) } else { length };
        let body = match length {
            Some(length) => {
                while self.read.len() < length {
                    assert!(self.read_some().await > 0, "the body is cut off: {head}");
                }
                let rest = self.read.split_off(length);
                String::from_utf8_lossy(&std::mem::replace(&mut self.read, rest)).into_owned()
            }
            None => self.read_to_end().await,
        };
        Answer { status, head, body }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.read).into_owned()
    }

    async fn read_some(&mut self) -> usize {
        let read = tokio::time::timeout(LIMIT, self.stream.read_buf(&mut self.read)).await;
        read.expect("the server sends or closes").unwrap_or(0)
    }
}

fn find(text: &[u8], words: &[u8]) -> Option<usize> {
    text.windows(words.len()).position(|window| window == words)
}

/// A request for a chat; `fields` are further fields, each with a comma before it.
pub fn chat(fields: &str) -> Vec<u8> {
    post("/v1/chat/completions", "", &chat_body("Hello", fields))
}

pub fn chat_body(prompt: &str, fields: &str) -> String {
    format!(r#"{{"messages": [{{"role": "user", "content": "{prompt}"}}]{fields}}}"#)
}

/// A POST request; `headers` end with a line break each.
pub fn post(path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// A GET request; `headers` end with a line break each.
pub fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}
