//! The body of an answer, with limits on its size and on how long the server may take for it.

use std::time::Duration;

use bytes::Bytes;
use mullama::DownloadFailure;
use reqwest::Response;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::client::network;
use super::{Answer, RequestError, shown};

/// Fewer bytes than this within the stall limit count as none, so that a server cannot keep a client waiting by sending a
/// byte occasionally.
const LEAST_BYTES: u64 = 1024;

/// Checks that bytes keep arriving.
#[derive(Debug, Clone)]
pub(crate) struct Stall {
    limit: Duration,
    deadline: Instant,
    bytes: u64,
}

impl Stall {
    pub(crate) fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, deadline: now + limit, bytes: 0 }
    }

    /// Bytes have arrived: once there are enough of them, the limit starts again.
    fn arrived(&mut self, bytes: usize, now: Instant) {
        self.bytes += bytes as u64;
        if self.bytes >= LEAST_BYTES {
            (self.bytes, self.deadline) = (0, now + self.limit);
        }
    }

    /// Adds time that was spent on writing, which is not the server's fault.
    pub(crate) fn extend(&mut self, time: Duration) {
        self.deadline += time;
    }

    pub(super) fn failure(limit: Duration, url: &Url) -> RequestError {
        RequestError::transient(DownloadFailure::Stalled { url: shown(url), seconds: limit.as_secs(), tries: 1 })
    }
}

impl Answer {
    /// The next chunk of the body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, RequestError> {
        match timeout_at(self.stall.deadline, self.response.chunk()).await {
            Ok(Ok(chunk)) => {
                self.stall.arrived(chunk.as_ref().map_or(0, Bytes::len), Instant::now());
                Ok(chunk)
            }
            Ok(Err(error)) => Err(network(error, &self.url)),
            Err(_) => Err(Stall::failure(self.stall.limit, &self.url)),
        }
    }

    /// The whole body, of at most `limit` bytes.
    pub(crate) async fn bytes(mut self, limit: usize) -> Result<Vec<u8>, RequestError> {
        let too_long = |url: &Url| {
            let message = format!("the answer must have at most {limit} bytes, but is longer");
            Err(RequestError::permanent(DownloadFailure::Protocol { url: shown(url), message }))
        };
        if self.response.content_length().is_some_and(|length| length > limit as u64) {
            return too_long(&self.url);
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if bytes.len() + chunk.len() > limit {
                return too_long(&self.url);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

/// The beginning of the body of an error; what does not arrive within two seconds is left out.
pub(super) async fn beginning(mut response: Response) -> Vec<u8> {
    const ENOUGH: usize = 4096;
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut bytes = Vec::new();
    while let Ok(Ok(Some(chunk))) = timeout_at(deadline, response.chunk()).await {
        let left = ENOUGH - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(left)]);
        if bytes.len() == ENOUGH {
            break;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_is_a_stall() {
        let begin = Instant::now();
        let mut stall = Stall::new(Duration::from_secs(30), begin);
        stall.arrived(1, begin + Duration::from_secs(29));
        assert_eq!(stall.deadline, begin + Duration::from_secs(30));
        stall.arrived(1023, begin + Duration::from_secs(29));
        assert_eq!(stall.deadline, begin + Duration::from_secs(59));
    }
}
