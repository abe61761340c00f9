//! A server with an empty store, and what a pull must leave in it.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use mullama::{DownloadFailure, MullamaError};
use mullama_hub::{Hub, HubConfig, LocalModel};
use mullama_hub_server::{Content, Fault, LARGE_LEN, Request, Rule, Server};
use tempfile::TempDir;

pub(crate) const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/mullama/models/demo.gguf");
/// No pull may take longer: six tries with their delays, and as many stalls.
const LIMIT: Duration = Duration::from_secs(40);
/// How long the server may send nothing.
pub(crate) const STALL_LIMIT: Duration = Duration::from_secs(1);
/// A rule that never ends.
pub(crate) const ALWAYS: u64 = u64::MAX;
/// The length of a part, as the hub asks for it.
pub(crate) const PART_LEN: u64 = 16 << 20;

/// A server with an empty store.
pub(crate) struct Setup {
    pub(crate) server: Server,
    pub(crate) folder: TempDir,
}

impl Setup {
    pub(crate) fn new() -> Self {
        let server = Server::start(Path::new(DEMO)).expect("a port is free");
        Self { server, folder: tempfile::tempdir().expect("a temporary folder") }
    }

    pub(crate) fn config(&self) -> HubConfig {
        let url = self.server.url().parse().expect("the server has a valid address");
        let mut config = config(self.folder.path(), &url);
        config.hugging_face = url;
        config
    }

    pub(crate) fn hub(&self) -> Hub {
        Hub::new(self.config()).expect("the configuration is valid")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Pulls within a time limit.
    pub(crate) fn pull(&self, name: &str) -> Result<LocalModel, MullamaError> {
        pull(&self.hub(), name)
    }

    /// The failure of a pull that must fail.
    pub(crate) fn failure(&self, name: &str) -> DownloadFailure {
        match self.pull(name) {
            Err(MullamaError::Download { failure, .. }) => failure,
            other => panic!("{name} must fail with a download error: {other:?}"),
        }
    }

    /// Checks that a pull brings exactly this content, and that nothing of the download is left.
    pub(crate) fn pulls(&self, name: &str, content: &Content) -> LocalModel {
        let model = self.pull(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_is(&model.path, content);
        let left = files(self.folder.path());
        let left: Vec<_> = left.iter().filter(|path| path.to_string_lossy().contains(".part")).collect();
        assert!(left.is_empty(), "{name} left {left:?}");
        model
    }

    pub(crate) fn demo(&self) -> Content {
        self.server.sized(0)
    }

    pub(crate) fn large(&self) -> Content {
        self.server.sized(LARGE_LEN)
    }

    pub(crate) fn fault(&self, path: &str, fault: Fault, times: u64) {
        self.server.rule(Rule::new(path, fault, times));
    }

    /// The requests for the bytes of models; the other layers of a manifest are shorter than 1000 bytes.
    pub(crate) fn file_requests(&self) -> Vec<Request> {
        let of_model = |request: &Request| request.path == cdn(&self.demo()) || request.path == cdn(&self.large());
        self.server.requests().into_iter().filter(of_model).collect()
    }

    /// The bytes of models that the server sent.
    pub(crate) fn sent(&self) -> u64 {
        self.file_requests().iter().map(|request| request.sent).sum()
    }
}

/// The path at which the bytes of a blob are faulty.
pub(crate) fn cdn(content: &Content) -> String {
    format!("/cdn/{}", content.sha256())
}

/// A configuration of which everything is in `folder`, and everybody is asked at one address.
pub(crate) fn config(folder: &Path, url: &url::Url) -> HubConfig {
    HubConfig {
        store: folder.join("store"),
        registry: url.clone(),
        hugging_face: url.clone(),
        hugging_face_cache: folder.join("cache"),
        hugging_face_token: None,
        ollama_stores: Vec::new(),
        lm_studio_folders: Vec::new(),
        offline: None,
        demo: None,
        stall_limit: STALL_LIMIT,
        unusable: Vec::new(),
    }
}

/// Pulls within a time limit.
pub(crate) fn pull(hub: &Hub, name: &str) -> Result<LocalModel, MullamaError> {
    let started = Instant::now();
    let result = hub.pull_blocking(name, |_| {
        assert!(started.elapsed() < LIMIT, "{name} is still being pulled after {LIMIT:?}");
        true
    });
    assert!(started.elapsed() < LIMIT, "{name} took {:?}", started.elapsed());
    result
}

pub(crate) fn assert_is(path: &Path, content: &Content) {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(bytes.len() as u64, content.len(), "{}", path.display());
    assert_eq!(Content::bytes(bytes).sha256(), content.sha256(), "{}", path.display());
}

/// All files below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    paths.flat_map(|path| if path.is_dir() && !path.is_symlink() { files(&path) } else { vec![path] }).collect()
}

/// Runs cases at the same time, for most of them wait; panics with the names of those that fail.
pub(crate) fn all_at_once<C: Sync>(cases: &[(&str, C)], check: impl Fn(&C) + Sync) {
    let failed: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = cases
            .iter()
            .map(|(name, case)| {
                let check = &check;
                thread::Builder::new()
                    .name((*name).to_owned())
                    .spawn_scoped(scope, move || check(case))
                    .expect("a thread")
            })
            .collect();
        let results = cases.iter().zip(threads).map(|((name, _), thread)| (name, thread.join()));
        results.filter(|(_, result)| result.is_err()).map(|(name, _)| *name).collect()
    });
    assert!(failed.is_empty(), "failed: {failed:?}");
}

/// Waits until something is true.
pub(crate) fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_true() {
        assert!(started.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        thread::sleep(Duration::from_millis(5));
    }
}
