//! The server: two addresses, a bounded number of threads, and what they share.

use std::collections::HashMap;
use std::fmt::{self, Debug, Formatter};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::answer::Answer;
use crate::connection;
use crate::request::Request;
use crate::site::{RegistryModel, Repo, Site};
use crate::tls::Front;
use crate::{Certificate, Content, Fault, Rule};

/// Connections that are served at the same time; more wait in the listener's queue.
const CONNECTIONS: usize = 128;
/// Requests that are recorded; later ones are served, but not recorded.
const RECORDED: usize = 100_000;
/// How long `stop` waits for threads that serve connections.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// What changes while the server runs.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) site: Site,
    pub(crate) rules: Vec<Rule>,
    pub(crate) requests: Vec<Request>,
    /// Files that the CDN was asked to deliver, by SHA-256.
    delivered: HashMap<String, Content>,
    /// The number of the newest signature, and of the first that is still valid.
    signatures: (u64, u64),
    /// The number of the newest token, and of the first that is still valid.
    tokens: (u64, u64),
    direct: bool,
    open: HashMap<u64, Arc<TcpStream>>,
    connections: u64,
}

impl State {
    pub(crate) fn new_token(&mut self) -> String {
        self.tokens.0 += 1;
        format!("loopback-registry-token-{}", self.tokens.0)
    }

    /// Makes all signatures and tokens invalid that were given so far.
    pub(crate) fn expire(&mut self) {
        self.signatures.1 = self.signatures.0 + 1;
        self.tokens.1 = self.tokens.0 + 1;
    }

    /// Answers blobs and files directly, without a redirection to the CDN.
    pub(crate) fn set_direct(&mut self, direct: bool) {
        self.direct = direct;
    }
}

/// What all threads share.
pub(crate) struct Shared {
    main: SocketAddr,
    cdn: SocketAddr,
    /// The encrypted addresses, which are those that answers name if there are any.
    encrypted: Option<Front>,
    state: Mutex<State>,
    /// Signalled when a connection ends and when the server stops.
    changed: Condvar,
    stopped: Mutex<bool>,
    stop: Condvar,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn url(&self) -> String {
        self.encrypted.as_ref().map_or_else(|| self.plain_url(), |front| format!("https://{}", front.main))
    }

    fn plain_url(&self) -> String {
        format!("http://{}", self.main)
    }

    fn plain_cdn_url(&self) -> String {
        format!("http://{}", self.cdn)
    }

    pub(crate) fn cdn_url(&self) -> String {
        self.encrypted.as_ref().map_or_else(|| self.plain_cdn_url(), |front| format!("https://{}", front.cdn))
    }

    /// Waits, or returns true early if the server stops.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.stop.wait_timeout_while(stopped, limit, |stopped| !*stopped);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Whether a request has a registry token that is still valid.
    pub(crate) fn has_token(&self, request: &Request) -> bool {
        let number = request.authorization.as_deref().and_then(|value| value.strip_prefix("Bearer "));
        let number = number.and_then(|token| token.strip_prefix("loopback-registry-token-"));
        let tokens = self.state().tokens;
        number.and_then(|number| number.parse().ok()).is_some_and(|number: u64| (tokens.1..=tokens.0).contains(&number))
    }

    /// The answer that delivers a file: a redirection to a signed address of the CDN.
    pub(crate) fn deliver(&self, request: &Request, content: Content, status: u16) -> Answer {
        let sha256 = content.sha256().to_owned();
        let mut state = self.state();
        if state.direct {
            return Answer::file(content, &sha256);
        }
        state.signatures.0 += 1;
        let signature = state.signatures.0;
        state.delivered.insert(sha256.clone(), content);
        let name = request.path.rsplit('/').next().unwrap_or_default();
        let to = format!("{}/cdn/{sha256}?filename={name}&Signature=secret-signature-{signature}", self.cdn_url());
        Answer::redirect(status, &to)
    }

    /// Answers a request for the CDN, whose path is `/cdn/<sha256>`.
    pub(crate) fn cdn(&self, request: &Request) -> Answer {
        let state = self.state();
        let signature =
            request.query.rsplit_once("Signature=secret-signature-").and_then(|(_, text)| text.parse().ok());
        if !signature.is_some_and(|number: u64| (state.signatures.1..=state.signatures.0).contains(&number)) {
            return Answer::text(
                403,
                "application/xml",
                "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>",
            );
        }
        let content = request.path.strip_prefix("/cdn/").and_then(|sha256| state.delivered.get(sha256));
        match content {
            Some(content) => Answer::file(content.clone(), &format!("cdn-{}", &content.sha256()[..16])),
            None => Answer::text(404, "application/xml", "<Error><Code>NoSuchKey</Code></Error>"),
        }
    }

    /// Counts a connection, once there are few enough; `None` if the server stops.
    fn open(&self, stream: TcpStream) -> Option<(u64, Arc<TcpStream>)> {
        let state = self.changed.wait_timeout_while(self.state(), STOP_LIMIT, |state| state.open.len() >= CONNECTIONS);
        let mut state = state.unwrap_or_else(PoisonError::into_inner).0;
        if self.wait(Duration::ZERO) || state.open.len() >= CONNECTIONS {
            return None;
        }
        state.connections += 1;
        let (number, stream) = (state.connections, Arc::new(stream));
        state.open.insert(number, Arc::clone(&stream));
        Some((number, stream))
    }

    fn close(&self, number: u64) {
        self.state().open.remove(&number);
        self.changed.notify_all();
    }

    /// Records a request; returns its index in the log.
    pub(crate) fn record(&self, request: &Request) -> Option<usize> {
        let requests = &mut self.state().requests;
        (requests.len() < RECORDED).then(|| {
            requests.push(request.clone());
            requests.len() - 1
        })
    }
}

/// A server on two loopback addresses. It stops when it is dropped.
pub struct Server {
    shared: Arc<Shared>,
    listeners: Vec<JoinHandle<()>>,
}

impl Debug for Server {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("url", &self.url()).field("cdn_url", &self.cdn_url()).finish_non_exhaustive()
    }
}

impl Server {
    /// Starts a server that offers the GGUF file at `demo` under several names.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or no port is free.
    pub fn start(demo: &Path) -> io::Result<Self> {
        Self::start_with(demo, None)
    }

    /// Starts a server like [`start`](Self::start) whose addresses are encrypted, with this certificate.
    ///
    /// # Errors
    ///
    /// Those of [`start`](Self::start).
    pub fn start_encrypted(demo: &Path, certificate: Certificate) -> io::Result<Self> {
        Self::start_with(demo, Some(certificate))
    }

    fn start_with(demo: &Path, certificate: Option<Certificate>) -> io::Result<Self> {
        let site = Site::of_demo(&Content::bytes(std::fs::read(demo)?));
        let (main, cdn) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
        let state = Mutex::new(State { site, ..State::default() });
        let (stopped, stop) = (Mutex::new(false), Condvar::new());
        let plain = [main.local_addr()?, cdn.local_addr()?];
        let encrypted = certificate.map(|certificate| Front::start(certificate, plain)).transpose()?;
        let changed = Condvar::new();
        let shared = Shared { main: plain[0], cdn: plain[1], encrypted, state, changed, stopped, stop };
        let shared = Arc::new(shared);
        let listeners = [("main", main), ("cdn", cdn)].map(|(origin, listener)| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || listen(&shared, origin, &listener))
        });
        Ok(Self { shared, listeners: listeners.into() })
    }

    /// The main address, such as `http://127.0.0.1:4321`: registry, Hugging Face and plain files.
    pub fn url(&self) -> String {
        self.shared.url()
    }

    /// The address that blobs are redirected to: another origin.
    pub fn cdn_url(&self) -> String {
        self.shared.cdn_url()
    }

    /// The main address without encryption; [`url`](Self::url) unless the server is encrypted.
    pub fn plain_url(&self) -> String {
        self.shared.plain_url()
    }

    /// The CA certificate of an encrypted server, in PEM format; `None` if the server is not encrypted.
    pub fn ca_pem(&self) -> Option<&str> {
        self.shared.encrypted.as_ref().map(|front| front.ca_pem.as_str())
    }

    /// Lets the next `times` requests for `path` fail; a path that ends in `*` stands for all that begin so.
    pub fn fault(&self, path: &str, fault: Fault, times: u64) {
        self.rule(Rule::new(path, fault, times));
    }

    /// Adds a rule.
    pub fn rule(&self, rule: Rule) {
        self.shared.state().rules.push(rule);
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.shared.state().rules.clear();
    }

    /// All requests so far, in the order in which they arrived.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.shared.state().requests.clear();
    }

    /// Makes all signed addresses and registry tokens invalid that were given so far.
    pub fn expire(&self) {
        self.shared.state().expire();
    }

    /// Answers blobs and files directly, without a redirection to the CDN.
    pub fn set_direct(&self, direct: bool) {
        self.shared.state().set_direct(direct);
    }

    /// Offers a model as `namespace/model:tag`.
    pub fn add_model(&self, name: &str, model: RegistryModel) {
        self.shared.state().site.models.insert(name.to_owned(), model);
    }

    /// Offers a repository as `user/repo`.
    pub fn add_repo(&self, name: &str, repo: Repo) {
        self.shared.state().site.repos.insert(name.to_owned(), repo);
    }

    /// Offers a plain file at a path.
    pub fn add_file(&self, path: &str, content: Content) {
        self.shared.state().site.files.insert(path.to_owned(), content);
    }

    /// The demo model continued with generated bytes to `len`, or itself if it is longer; registry models
    /// `library/sized:<len>` and the file `/sized/<len>.gguf` are that as well.
    ///
    /// # Panics
    ///
    /// Never: a started server has a demo model.
    pub fn sized(&self, len: u64) -> Content {
        let mut state = self.shared.state();
        let demo = state.site.demo.clone().expect("a started server has a demo model");
        state.site.sized(len).unwrap_or(demo)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        *self.shared.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.stop.notify_all();
        // A listener that waits for a connection notices the end when one arrives.
        for address in [self.shared.main, self.shared.cdn] {
            drop(TcpStream::connect_timeout(&address, STOP_LIMIT));
        }
        for stream in self.shared.state().open.values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for listener in self.listeners.drain(..) {
            let _ = listener.join();
        }
        let end = Instant::now() + STOP_LIMIT;
        let mut state = self.shared.state();
        while !state.open.is_empty() && Instant::now() < end {
            let waited = self.shared.changed.wait_timeout(state, Duration::from_millis(100));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn listen(shared: &Arc<Shared>, origin: &'static str, listener: &TcpListener) {
    while !shared.wait(Duration::ZERO) {
        let Ok((stream, _)) = listener.accept() else { continue };
        let Some((number, stream)) = shared.open(stream) else { continue };
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // The client sees an error of its connection; the log shows that the answer is not complete.
            let _ = connection::serve(&shared, (origin, number), &stream);
            // Dropped first, so that the socket is closed when the connection is no longer counted.
            let closing = stream;
            shared.close(number);
            drop(closing);
        });
    }
}
