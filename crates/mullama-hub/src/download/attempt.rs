//! One attempt to download a blob: parts over several connections, while the digest follows them and records are saved.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use mullama::DownloadFailure;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::answer::{Extent, Identity, extent};
use super::hashing::{self, NoDigest};
use super::part::{self, Content, Trouble, Writer};
use super::part_file::PartFile;
use super::plan::Parts;
use super::record::Record;
use super::source::Source;
use super::{Blob, Ended, TRIES, blocking, joined, space};
use crate::http::{Answer, Http, Kind, Tries, jittered, shown};
use crate::progress::Tracker;
use crate::store::digest::Digest;
use crate::store::files::disk;
use crate::store::lock::Lock;

/// Connections of a fast download, and of a slow one. On a fast network more of them only compete for the processor and
/// for the file.
const CONNECTIONS: [usize; 2] = [4, 8];
/// A download that is slower than this after [`SPEED_TIME`] gets more connections, in bytes per second.
const FAST: u64 = 200 << 20;
const SPEED_TIME: Duration = Duration::from_millis(500);
const PART_LEN: u64 = 16 << 20;
/// How often the record is brought up to date: what a crash can cost. The data is synchronized with the disk each time.
const SAVE_INTERVAL: Duration = Duration::from_secs(2);
const SAVE_BYTES: u64 = 64 << 20;

/// What attempts to download a blob have in common.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    pub(super) http: &'a Arc<Http>,
    pub(super) blob: &'a Blob,
    pub(super) part: PathBuf,
    pub(super) lock: Arc<Lock>,
    /// Whether the server may be asked for ranges.
    pub(super) has_ranges: bool,
}

/// The whole content.
#[derive(Debug)]
pub(super) struct Complete {
    pub(super) file: Arc<PartFile>,
    pub(super) len: u64,
    pub(super) sha256: String,
    /// Whether some of the bytes are from an earlier attempt.
    pub(super) continued: bool,
}

/// The first answer, and what it means for the rest.
enum Opened {
    /// Everything is there.
    Nothing { len: u64 },
    /// The server supports ranges; the answer is the first of them.
    Ranges(Box<Content>, Box<Answer>),
    /// The server sends everything in one piece.
    Whole(Box<Answer>, Option<u64>),
}

impl Attempt<'_> {
    /// Downloads what is missing.
    pub(super) async fn run(&self, tracker: &mut Tracker<'_>) -> Result<Complete, Ended> {
        let (file, record) = self.open().await?;
        let mut follower = Follower::new(&file, record.as_ref())?;
        tracker.arrived(file.covered(), self.blob.len);
        let len = match self.ask(&file, record.as_ref()).await? {
            Opened::Nothing { len } => len,
            Opened::Ranges(content, first) => {
                self.check_space(content.len - file.covered())?;
                let mut saver = Saver::new(&content, self.blob);
                let fetched = fetch_parts(&content, *first, &mut saver, &mut follower, tracker).await;
                let recorded = saver.finish(fetched.is_err()).await;
                fetched.and(recorded)?;
                content.len
            }
            Opened::Whole(answer, len) => {
                self.check_space(len.unwrap_or(0))?;
                self.fetch_whole(&file, (*answer, len), &mut follower, tracker).await?
            }
        };
        file.complete(len);
        tracker.arrived(len, Some(len));
        tracker.verifying();
        let sha256 = follower.digest().await?;
        Ok(Complete { file, len, sha256, continued: record.is_some() })
    }

    /// Deletes the part file.
    pub(super) async fn delete(&self) -> Result<(), DownloadFailure> {
        let (part, lock) = (self.part.clone(), Arc::clone(&self.lock));
        blocking(move || {
            let _lock = lock;
            PartFile::delete(&part).map_err(|error| disk(&part, &error))
        })
        .await
    }

    async fn open(&self) -> Result<(Arc<PartFile>, Option<Record>), Ended> {
        let (part, lock, len) = (self.part.clone(), Arc::clone(&self.lock), self.blob.len);
        let digest = self.blob.digest.as_ref().map(|digest| digest.hex().to_owned());
        let opened = blocking(move || {
            PartFile::open(&part, lock, |record, file_len| record.fits(digest.as_deref(), len, file_len))
                .map_err(|error| disk(&part, &error))
        });
        let (file, record) = opened.await.map_err(Ended::Failed)?;
        Ok((Arc::new(file), record))
    }

    /// Asks for the first part that is missing, until there is an answer.
    async fn ask(&self, file: &Arc<PartFile>, record: Option<&Record>) -> Result<Opened, Ended> {
        let len = self.blob.len.or(record.map(|record| record.len));
        let missing = file.missing(len.unwrap_or(PART_LEN));
        let source = Source::new(Arc::clone(self.http), self.blob.url.clone());
        let Some(first) = Parts::new(missing, PART_LEN).next() else {
            return Ok(Opened::Nothing { len: len.unwrap_or(0) });
        };
        let range = self.has_ranges.then_some((first.start, Some(first.end)));
        let condition = record.filter(|_| self.blob.digest.is_none()).and_then(|record| record.identity.if_range());
        let mut tries = Tries::new(TRIES, 0);
        loop {
            let error = match source.get(range, condition).await {
                Ok(answer) => match extent(&answer) {
                    Ok(extent) => return self.opened(source, file, record, (answer, extent)),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            match (error.kind, record) {
                (Kind::Range, Some(_)) => return Err(Ended::StartOver(error.failure)),
                // An empty content has no range that could be asked for.
                (Kind::Range, None) if self.has_ranges => return Err(Ended::NoRanges),
                _ => {}
            }
            let Some(delay) = tries.failed(error.kind, 0) else {
                return Err(Ended::Failed(tries.exhausted(error.failure)));
            };
            tokio::time::sleep(jittered(delay)).await;
        }
    }

    /// Decides what the first answer means.
    fn opened(
        &self,
        source: Source,
        file: &Arc<PartFile>,
        record: Option<&Record>,
        (answer, extent): (Answer, Extent),
    ) -> Result<Opened, Ended> {
        let identity = Identity::of(&answer);
        let has_digest = self.blob.digest.is_some();
        match extent {
            Extent::Whole { .. } if file.covered() > 0 => Err(Ended::NoRanges),
            Extent::Whole { len } => {
                self.check_len(&answer, len)?;
                Ok(Opened::Whole(Box::new(answer), len.or(self.blob.len)))
            }
            Extent::Range { total, .. } => {
                // Without the length, nobody knows when the content is complete.
                let Some(len) = total.or(self.blob.len) else { return Err(Ended::NoRanges) };
                self.check_len(&answer, Some(len))?;
                let same = |record: &Record| record.len == len && record.identity.matches(&identity, has_digest);
                if !record.is_none_or(same) {
                    let message = "the file on the server changed after the download had begun".to_owned();
                    return Err(Ended::StartOver(DownloadFailure::Protocol { url: shown(&answer.url), message }));
                }
                let (file, identity) = (Arc::clone(file), Mutex::new(identity));
                Ok(Opened::Ranges(Box::new(Content { source, file, len, has_digest, identity }), Box::new(answer)))
            }
        }
    }

    fn check_len(&self, answer: &Answer, len: Option<u64>) -> Result<(), Ended> {
        let url = || shown(&answer.url);
        match (len, self.blob.len) {
            (Some(len), Some(wanted)) if len != wanted => {
                let message = format!("the file on the server has {len} bytes, but must have {wanted}");
                Err(Ended::StartOver(DownloadFailure::Protocol { url: url(), message }))
            }
            (Some(len), _) if len > self.blob.most => {
                let message = format!("the file has {len} bytes, but must have at most {}", self.blob.most);
                Err(Ended::Failed(DownloadFailure::Protocol { url: url(), message }))
            }
            _ => Ok(()),
        }
    }

    fn check_space(&self, needed: u64) -> Result<(), Ended> {
        space::check(&self.part, needed).map_err(Ended::Failed)
    }

    /// Receives the file in one piece, of a length that the server may have sent. Returns the length.
    async fn fetch_whole(
        &self,
        file: &Arc<PartFile>,
        (mut answer, len): (Answer, Option<u64>),
        follower: &mut Follower,
        tracker: &mut Tracker<'_>,
    ) -> Result<u64, Ended> {
        let most = len.unwrap_or(self.blob.most);
        let mut writer = Writer::new(Arc::clone(file), 0, most);
        let mut ticks = ticks();
        let received = {
            // One byte more than is allowed shows that the server sends too much.
            let receiving = part::receive(&mut answer, &mut writer, most.saturating_add(1));
            tokio::pin!(receiving);
            loop {
                tokio::select! {
                    received = &mut receiving => break received,
                    ended = follower.ended() => return Err(ended),
                    _ = ticks.tick() => tracker.arrived(file.covered(), len),
                }
            }
        };
        let written = writer.finish().await?;
        match received {
            Err(Trouble::Request(error)) => Err(Ended::Broke(error, written)),
            Err(Trouble::Ended(ended)) => Err(ended),
            Ok(()) if written > most => {
                let message = format!("the server sends more than the {most} bytes of the file");
                Err(Ended::Failed(DownloadFailure::Protocol { url: shown(&answer.url), message }))
            }
            Ok(()) if len.is_some_and(|len| written < len) => Err(Ended::Broke(part::broke_off(&answer), written)),
            Ok(()) => Ok(written),
        }
    }
}

/// Fetches everything that is missing, in parts.
async fn fetch_parts(
    content: &Content,
    first: Answer,
    saver: &mut Saver<'_>,
    follower: &mut Follower,
    tracker: &mut Tracker<'_>,
) -> Result<(), Ended> {
    let mut missing = Parts::new(content.file.missing(content.len), PART_LEN);
    let mut parts = FuturesUnordered::new();
    let mut first = Some(first);
    let mut ticks = ticks();
    let [mut connections, most] = CONNECTIONS;
    let (begun, before) = (Instant::now(), content.file.covered());
    loop {
        while parts.len() < connections
            && let Some(range) = missing.next()
        {
            parts.push(part::fetch(content, range, first.take()));
        }
        tokio::select! {
            part = parts.next() => match part {
                Some(fetched) => fetched?,
                None => return Ok(()),
            },
            ended = follower.ended() => return Err(ended),
            _ = ticks.tick() => {
                tracker.arrived(content.file.covered(), Some(content.len));
                saver.advance().await?;
                if is_slow(content.file.covered() - before, begun.elapsed()) {
                    connections = most;
                }
            }
        }
    }
}

/// Whether a download that brought so many bytes in this time should get more connections.
fn is_slow(bytes: u64, time: Duration) -> bool {
    time >= SPEED_TIME && u128::from(bytes) * 1000 < u128::from(FAST) * time.as_millis()
}

/// Ten times a second: for the progress, and for what is done now and then.
fn ticks() -> Interval {
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Saves records, one at a time, without holding up the parts.
struct Saver<'a> {
    content: &'a Content,
    blob: &'a Blob,
    saving: Option<JoinHandle<std::io::Result<()>>>,
    saved: (Instant, u64),
    is_finished: bool,
}

impl<'a> Saver<'a> {
    fn new(content: &'a Content, blob: &'a Blob) -> Self {
        let saved = (Instant::now(), content.file.covered());
        Self { content, blob, saving: None, saved, is_finished: false }
    }

    /// Begins to save if it is time for it.
    async fn advance(&mut self) -> Result<(), Ended> {
        if self.saving.as_ref().is_some_and(|saving| !saving.is_finished()) {
            return Ok(());
        }
        self.settle().await?;
        let (covered, (at, before)) = (self.content.file.covered(), self.saved);
        if covered >= before + SAVE_BYTES || (covered > before && at.elapsed() >= SAVE_INTERVAL) {
            self.begin(covered);
        }
        Ok(())
    }

    /// Waits for the record that is being saved, and saves a last one if the parts will be continued later.
    async fn finish(mut self, to_be_continued: bool) -> Result<(), Ended> {
        self.is_finished = true;
        self.settle().await?;
        if to_be_continued {
            self.begin(self.content.file.covered());
            self.settle().await?;
        }
        Ok(())
    }

    fn begin(&mut self, covered: u64) {
        let (file, len, identity) = (Arc::clone(&self.content.file), self.content.len, self.content.identity());
        let digest = self.blob.digest.clone();
        self.saved = (Instant::now(), covered);
        self.saving =
            Some(tokio::task::spawn_blocking(move || file.save(digest.as_ref().map(Digest::hex), len, identity)));
    }

    async fn settle(&mut self) -> Result<(), Ended> {
        let Some(saving) = &mut self.saving else { return Ok(()) };
        let saved = joined(saving.await);
        self.saving = None;
        let needed = self.content.len - self.content.file.covered();
        saved.map_err(|error| Ended::Failed(space::write_failure(self.content.file.path(), needed, &error)))
    }
}

impl Drop for Saver<'_> {
    /// The download is cancelled: what has arrived since the last record is saved in the background.
    fn drop(&mut self) {
        let covered = self.content.file.covered();
        if !self.is_finished && covered > self.saved.1 && tokio::runtime::Handle::try_current().is_ok() {
            self.begin(covered);
        }
    }
}

/// The work on the digest; it ends with the attempt.
struct Follower {
    file: Arc<PartFile>,
    url: String,
    work: oneshot::Receiver<Result<String, NoDigest>>,
}

impl Follower {
    /// The work has a thread of its own: among a runtime's few threads for blocking work, it could wait for writes that
    /// wait for its thread.
    fn new(file: &Arc<PartFile>, record: Option<&Record>) -> Result<Self, Ended> {
        let prefix = record.map(|record| record.prefix.clone()).filter(|prefix| prefix.len > 0);
        let url = record.map(|record| record.identity.url.clone()).unwrap_or_default();
        let (sender, work) = oneshot::channel();
        let (file, followed) = (Arc::clone(file), Arc::clone(file));
        let thread = thread::Builder::new().name("mullama-sha256".to_owned()).spawn(move || {
            let digest = hashing::follow(&followed, prefix.as_ref());
            // The file keeps the lock, which nobody should find held once the digest is known.
            drop(followed);
            // The receiver is gone when the attempt has ended.
            let _ = sender.send(digest);
        });
        thread.map_err(|error| Ended::Failed(disk(file.path(), &error)))?;
        Ok(Self { file, url, work })
    }

    /// Completes only when the work ends before the content is complete, which it does for a reason.
    async fn ended(&mut self) -> Ended {
        let result = (&mut self.work).await;
        self.no_digest(result.ok().and_then(Result::err).unwrap_or(NoDigest::Stopped))
    }

    async fn digest(&mut self) -> Result<String, Ended> {
        let result = (&mut self.work).await;
        result.unwrap_or(Err(NoDigest::Stopped)).map_err(|error| self.no_digest(error))
    }

    fn no_digest(&self, error: NoDigest) -> Ended {
        match error {
            NoDigest::Disk(error) => Ended::Failed(disk(self.file.path(), &error)),
            NoDigest::Damaged | NoDigest::Stopped => {
                let message = "the part that was downloaded earlier has been damaged on the disk".to_owned();
                Ended::StartOver(DownloadFailure::Protocol { url: self.url.clone(), message })
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.file.stop();
    }
}
