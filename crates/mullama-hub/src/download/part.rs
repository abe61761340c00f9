//! One part: a range of the content, fetched and written with as many tries as it takes.

use std::mem;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mullama::DownloadFailure;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::answer::{Extent, Identity, extent};
use super::part_file::PartFile;
use super::source::Source;
use super::{Ended, TRIES, blocking, space};
use crate::http::{Answer, Kind, RequestError, Tries, jittered, shown};

/// Bytes that are written at once.
const BATCH_LEN: usize = 512 << 10;
/// Fewer bytes are written after this time, so that a slow download can be continued too.
const BATCH_TIME: Duration = Duration::from_millis(500);

/// The content that all parts are of.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) source: Source,
    pub(super) file: Arc<PartFile>,
    pub(super) len: u64,
    pub(super) has_digest: bool,
    pub(super) identity: Mutex<Identity>,
}

impl Content {
    pub(super) fn identity(&self) -> Identity {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn ask(&self, range: &Range<u64>) -> Result<Answer, RequestError> {
        let identity = self.identity();
        // With a digest, a different ETag of another server does not mean that the file differs.
        let if_range = identity.if_range().filter(|_| !self.has_digest);
        self.source.get(Some((range.start, Some(range.end))), if_range).await
    }

    /// Checks that an answer is about this file and begins at the right offset. Returns the offset where it ends.
    fn admit(&self, answer: &Answer, wanted: &Range<u64>) -> Result<u64, Trouble> {
        let (begin, end, total) = match extent(answer)? {
            Extent::Range { begin, end, total } => (begin, end, total.unwrap_or(self.len)),
            Extent::Whole { .. } => {
                return Err(changed(answer, "the server sent the whole file instead of the requested range"));
            }
        };
        let identity = Identity::of(answer);
        if total != self.len || !self.identity().matches(&identity, self.has_digest) {
            return Err(changed(answer, "the file on the server changed during the download"));
        }
        if begin != wanted.start {
            let message =
                format!("the server sent a range from offset {begin}, but must send one from offset {}", wanted.start);
            let failure = DownloadFailure::Protocol { url: shown(&answer.url), message };
            return Err(RequestError::transient(failure).into());
        }
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = identity;
        Ok(end.min(wanted.end))
    }
}

/// What stopped one try.
pub(super) enum Trouble {
    Request(RequestError),
    Ended(Ended),
}

impl From<RequestError> for Trouble {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

impl From<Ended> for Trouble {
    fn from(ended: Ended) -> Self {
        Self::Ended(ended)
    }
}

fn changed(answer: &Answer, message: &str) -> Trouble {
    let failure = DownloadFailure::Protocol { url: shown(&answer.url), message: message.to_owned() };
    Trouble::Ended(Ended::StartOver(failure))
}

/// Fetches a part. `first` is an answer that has arrived already.
pub(super) async fn fetch(content: &Content, mut range: Range<u64>, mut first: Option<Answer>) -> Result<(), Ended> {
    let mut tries = Tries::new(TRIES, content.file.covered());
    while !range.is_empty() {
        let error = match attempt(content, &mut range, first.take()).await {
            Ok(()) => continue,
            Err(Trouble::Request(error)) => error,
            Err(Trouble::Ended(ended)) => return Err(ended),
        };
        if error.kind == Kind::Range {
            return Err(Ended::StartOver(error.failure));
        }
        // Bytes of other parts count as well: a server that accepts only a few connections at a time serves all in turn.
        match tries.failed(error.kind, content.file.covered()) {
            Some(delay) => tokio::time::sleep(jittered(delay)).await,
            None => return Err(Ended::Failed(tries.exhausted(error.failure))),
        }
    }
    Ok(())
}

/// One try; moves the start of the range past the bytes that arrived.
async fn attempt(content: &Content, range: &mut Range<u64>, first: Option<Answer>) -> Result<(), Trouble> {
    let mut answer = match first {
        Some(answer) => answer,
        None => content.ask(range).await?,
    };
    let end = content.admit(&answer, range)?;
    let mut writer = Writer::new(Arc::clone(&content.file), range.start, content.len);
    let received = receive(&mut answer, &mut writer, end).await;
    let written = writer.finish().await?;
    range.start = written;
    received?;
    if written < end { Err(broke_off(&answer).into()) } else { Ok(()) }
}

/// The connection ended before the content did.
pub(super) fn broke_off(answer: &Answer) -> RequestError {
    let host = answer.url.host_str().unwrap_or_default();
    let message = format!("lost the connection to {host} (it ended before the file did)");
    RequestError::transient(DownloadFailure::Network { url: shown(&answer.url), message, tries: 1 })
}

/// Writes what an answer brings, up to the position `end`.
pub(super) async fn receive(answer: &mut Answer, writer: &mut Writer, end: u64) -> Result<(), Trouble> {
    while let Some(mut chunk) = answer.chunk().await? {
        let left = end - writer.received();
        if chunk.len() as u64 > left {
            // The server sent more than it promised; the rest is ignored.
            chunk.truncate(usize::try_from(left).expect("it is less than the length of the chunk"));
        }
        answer.stall.extend(writer.push(chunk).await?);
        if writer.received() == end {
            break;
        }
    }
    Ok(())
}

/// Writes chunks in batches; each batch is written while the next one is being received.
#[derive(Debug)]
pub(super) struct Writer {
    file: Arc<PartFile>,
    /// Where the batch belongs.
    at: u64,
    batch: Vec<Bytes>,
    batch_len: usize,
    since: Instant,
    writing: Option<JoinHandle<std::io::Result<()>>>,
    /// The length of the content, for the error when the disk is full.
    len: u64,
}

impl Writer {
    pub(super) fn new(file: Arc<PartFile>, at: u64, len: u64) -> Self {
        Self { file, at, batch: Vec::new(), batch_len: 0, since: Instant::now(), writing: None, len }
    }

    /// The offset after the last byte that was pushed.
    pub(super) const fn received(&self) -> u64 {
        self.at + self.batch_len as u64
    }

    /// Takes a chunk, and returns how long it had to wait for the disk.
    pub(super) async fn push(&mut self, chunk: Bytes) -> Result<Duration, Ended> {
        self.batch_len += chunk.len();
        self.batch.push(chunk);
        if self.batch_len < BATCH_LEN && self.since.elapsed() < BATCH_TIME {
            return Ok(Duration::ZERO);
        }
        let before = Instant::now();
        self.flush().await?;
        self.since = Instant::now();
        Ok(self.since - before)
    }

    /// Waits until everything is written, and returns the offset after it.
    pub(super) async fn finish(&mut self) -> Result<u64, Ended> {
        self.flush().await?;
        self.written().await?;
        Ok(self.at)
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        self.written().await?;
        if self.batch_len > 0 {
            let (file, at, batch) = (Arc::clone(&self.file), self.at, mem::take(&mut self.batch));
            self.at += mem::take(&mut self.batch_len) as u64;
            self.writing = Some(tokio::task::spawn_blocking(move || file.write(at, &batch)));
        }
        Ok(())
    }

    async fn written(&mut self) -> Result<(), Ended> {
        let Some(writing) = &mut self.writing else { return Ok(()) };
        let result = super::joined(writing.await);
        self.writing = None;
        let Err(error) = result else { return Ok(()) };
        let needed = self.len.saturating_sub(self.file.covered());
        let file = Arc::clone(&self.file);
        let failure = blocking(move || space::write_failure(file.path(), needed, &error)).await;
        Err(Ended::Failed(failure))
    }
}
