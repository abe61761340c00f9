//! Downloads from a real server on loopback that misbehaves.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mullama_hub_server::{Content, Fault, Rule, Server};
use tempfile::TempDir;
use tokio::time::timeout;

use super::record::Record;
use super::*;
use crate::Progress;

const FILE: &str = "/files/x";
const LEN: u64 = (50 << 20) + 77;

/// A server with one file, and a folder to download it to.
struct Setting {
    server: Server,
    content: Content,
    folder: TempDir,
}

impl Setting {
    fn new(len: u64) -> Self {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python/mullama/models/demo.gguf");
        let server = Server::start(&demo).unwrap();
        let content = Content::generated(len, 7);
        server.add_file(FILE, content.clone());
        server.set_direct(true);
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("blobs")).unwrap();
        Self { server, content, folder }
    }

    fn blob(&self) -> Blob {
        Blob {
            url: Url::parse(&format!("{}{FILE}", self.server.url())).unwrap(),
            file: "x".to_owned(),
            digest: Digest::parse(self.content.sha256()),
            len: Some(self.content.len()),
            most: self.content.len(),
            is_model: false,
            place: Place::Path(self.path("x")),
            home: super::Home::Store(crate::store::Store::new(self.folder.path().to_owned())),
            lock: self.path("x.lock"),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("blobs").join(name)
    }

    async fn fetch(&self) -> Result<Fetched, DownloadFailure> {
        self.fetch_with(&mut |_| ()).await
    }

    async fn fetch_with(&self, report: &mut (dyn FnMut(&Progress) + Send)) -> Result<Fetched, DownloadFailure> {
        let http = Arc::new(Http::new(Duration::from_secs(1)));
        let mut tracker = Tracker::new("m", report);
        timeout(Duration::from_mins(1), fetch(&http, &self.blob(), &mut tracker)).await.expect("the limit of the test")
    }

    /// Downloads until the first `bytes` are on the disk and recorded, and drops the download then.
    async fn abandon_after(&self, bytes: u64) {
        let mut ignore = |_: &Progress| ();
        let fetching = self.fetch_with(&mut ignore);
        let recorded = async {
            let record = self.path("x.part.json");
            while Record::load(&record).is_none_or(|record| record.ranges.covered() < bytes) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            fetched = fetching => panic!("it ended too early: {fetched:?}"),
            () = recorded => {}
        }
    }

    /// Asserts that the blob is right and that nothing else is left.
    fn assert_right(&self) {
        assert!(std::fs::read(self.path("x")).unwrap() == self.content.to_vec(), "the file is not right");
        assert_eq!(self.names(), ["x"]);
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path().join("blobs")).unwrap();
        let mut names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>();
        names.sort();
        names
    }

    /// Bytes that the server has sent of the file.
    fn sent(&self) -> u64 {
        self.server.requests().iter().filter(|request| request.path == FILE).map(|request| request.sent).sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_comes_over_several_connections_each_byte_once() {
    let setting = Setting::new(LEN);
    let fetched = setting.fetch().await.unwrap();
    assert_eq!((fetched.path, fetched.len), (setting.path("x"), LEN));
    setting.assert_right();
    assert_eq!(setting.sent(), LEN);
    let requests = setting.server.requests();
    let mut connections = requests.iter().map(|request| request.connection).collect::<Vec<_>>();
    connections.sort_unstable();
    connections.dedup();
    assert!(connections.len() > 1, "{requests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_not_asked_for() {
    let setting = Setting::new(1000);
    setting.fetch().await.unwrap();
    setting.server.clear_requests();
    setting.fetch().await.unwrap();
    assert_eq!(setting.server.requests(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_download_is_continued() {
    let setting = Setting::new(LEN);
    setting.server.fault(FILE, Fault::Stall { bytes: 3 << 20 }, u64::MAX);
    setting.abandon_after(12 << 20).await;
    // The lock is held until the last record is on the disk.
    let until_unlocked = async {
        while setting.names() != ["x.part", "x.part.json"] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), until_unlocked).await.unwrap();
    setting.server.clear_faults();
    setting.server.clear_requests();
    setting.fetch().await.unwrap();
    setting.assert_right();
    assert!(setting.sent() <= LEN - (12 << 20), "{} bytes were sent again", setting.sent());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_file_that_was_damaged_is_not_believed() {
    let setting = Setting::new(LEN);
    setting.server.fault(FILE, Fault::Stall { bytes: 3 << 20 }, u64::MAX);
    setting.abandon_after(12 << 20).await;
    setting.server.clear_faults();
    let mut bytes = std::fs::read(setting.path("x.part")).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(setting.path("x.part"), bytes).unwrap();
    setting.fetch().await.unwrap();
    setting.assert_right();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_break_off_or_stall_are_continued() {
    let setting = Setting::new(LEN);
    for (skip, fault) in [
        (0, Fault::Cut { bytes: 1 << 20 }),
        (1, Fault::CutWithReset { bytes: 100 }),
        (2, Fault::Status { code: 503, retry_after: None, body: String::new() }),
        (3, Fault::Stall { bytes: 10 }),
    ] {
        setting.server.rule(Rule::new(FILE, fault, 1).skip(skip));
    }
    setting.fetch().await.unwrap();
    setting.assert_right();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_ranges_sends_one_piece() {
    let setting = Setting::new(5 << 20);
    setting.server.fault(FILE, Fault::NoRanges, u64::MAX);
    setting.server.fault(FILE, Fault::Cut { bytes: 4 << 20 }, 1);
    let mut done = Vec::new();
    setting.fetch_with(&mut |progress| done.push(progress.done)).await.unwrap();
    setting.assert_right();
    assert!(done.is_sorted(), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_changes_between_ranges_starts_over() {
    let setting = Setting::new(LEN);
    setting.server.fault(FILE, Fault::Changed { new_etag: true }, 1);
    setting.fetch().await.unwrap();
    setting.assert_right();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_digest_is_deleted_and_reported() {
    let setting = Setting::new(LEN);
    setting.server.fault(FILE, Fault::Corrupt { at: LEN / 2 }, u64::MAX);
    let failure = setting.fetch().await.unwrap_err();
    assert!(matches!(failure, DownloadFailure::Digest { .. }), "{failure}");
    assert_eq!(setting.names(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_of_an_earlier_attempt_are_fetched_again() {
    let setting = Setting::new(LEN);
    setting.server.fault(FILE, Fault::Corrupt { at: 500 }, u64::MAX);
    setting.server.fault(FILE, Fault::Stall { bytes: 3 << 20 }, u64::MAX);
    setting.abandon_after(12 << 20).await;
    setting.server.clear_faults();
    setting.fetch().await.unwrap();
    setting.assert_right();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_downloads_at_once_fetch_once() {
    let setting = Setting::new(LEN);
    let (one, other) = tokio::join!(setting.fetch(), setting.fetch());
    one.unwrap();
    other.unwrap();
    setting.assert_right();
    assert_eq!(setting.sent(), LEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_is_a_file() {
    let setting = Setting::new(0);
    setting.fetch().await.unwrap();
    setting.assert_right();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_gets_better_is_given_up() {
    let setting = Setting::new(1000);
    setting.server.fault(FILE, Fault::Reset, u64::MAX);
    let failure = setting.fetch().await.unwrap_err();
    assert!(matches!(failure, DownloadFailure::Network { .. }), "{failure}");
    assert_eq!(setting.server.requests().len(), 6);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_the_place_of_a_part_file_is_refused() {
    let setting = Setting::new(1000);
    std::fs::write(setting.path("elsewhere"), "precious").unwrap();
    std::os::unix::fs::symlink(setting.path("elsewhere"), setting.path("x.part")).unwrap();
    let failure = setting.fetch().await.unwrap_err();
    assert!(matches!(failure, DownloadFailure::Disk { .. }), "{failure}");
    assert_eq!(std::fs::read_to_string(setting.path("elsewhere")).unwrap(), "precious");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_a_process_that_was_killed_at_the_end_goes_with_the_next_download() {
    let setting = Setting::new(LEN);
    setting.fetch().await.unwrap();
    std::fs::write(setting.path("x.part.json"), "{}").unwrap();
    setting.fetch().await.unwrap();
    setting.assert_right();
    assert_eq!(setting.sent(), LEN, "nothing was downloaded again");
}
