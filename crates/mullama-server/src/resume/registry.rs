//! The streams of a server that can be resumed: found by unguessable ids, and by the key that started them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use subtle::ConstantTimeEq;

use super::stream::Stream;
use crate::error::ApiError;
use crate::guard;

/// Most streams of a server that can be resumed.
const MOST_STREAMS: usize = 128;

/// The key of a request, as clients of the various dialects send it; empty without one.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credential(Vec<u8>);

impl Credential {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let bearer = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let bearer = bearer.map(|value| guard::bearer(value).unwrap_or(value));
        let plain = || headers.get("x-api-key").or_else(|| headers.get("api-key")).map(HeaderValue::as_bytes);
        let key = bearer.or_else(plain);
        Self(key.unwrap_or_default().to_vec())
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(..)")
    }
}

/// All streams of a server that can be resumed.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    entries: Mutex<HashMap<String, Entry>>,
}

#[derive(Debug)]
struct Entry {
    credential: Credential,
    stream: Arc<Stream>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a stream under a new id. Streams that are complete and only wait for their clients give way to it.
    pub(super) fn insert(&self, credential: Credential, source: Body) -> Result<(HeaderValue, Arc<Stream>), ApiError> {
        let id = new_id()?;
        let mut entries = self.lock();
        if entries.len() >= MOST_STREAMS {
            let complete = entries.iter().find(|(_, entry)| entry.stream.is_left_over()).map(|(id, _)| id.clone());
            let complete = complete.ok_or_else(full)?;
            entries.remove(&complete);
        }
        let value = HeaderValue::from_str(&id).map_err(|_| full())?;
        let stream = Arc::new(Stream::new(source));
        entries.insert(id, Entry { credential, stream: Arc::clone(&stream) });
        Ok((value, stream))
    }

    /// The stream of this id, if the same key started it.
    pub(super) fn find(&self, id: &str, credential: &Credential) -> Option<Arc<Stream>> {
        let entries = self.lock();
        let entry = entries.get(id)?;
        bool::from(entry.credential.0.ct_eq(&credential.0)).then(|| Arc::clone(&entry.stream))
    }

    pub(super) fn remove(&self, id: &str) {
        self.lock().remove(id);
    }

    /// Removes a stream if no other reader has taken it over.
    pub(super) fn remove_unread(&self, stream: &Arc<Stream>, reader: u64) -> bool {
        let mut entries = self.lock();
        if !stream.is_read_by(reader) {
            return false;
        }
        entries.retain(|_, entry| !Arc::ptr_eq(&entry.stream, stream));
        true
    }

    /// Ends all streams, for a server that stops.
    pub(crate) fn clear(&self) {
        let entries = std::mem::take(&mut *self.lock());
        for entry in entries.into_values() {
            entry.stream.close();
        }
    }
}

fn full() -> ApiError {
    let message = format!("the server has {MOST_STREAMS} streams that can be resumed, which is the maximum");
    let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "OVERLOADED", message);
    ApiError { retry_after: Some(1), ..error }
}

/// An id of 128 random bits.
fn new_id() -> Result<String, ApiError> {
    let mut random = [0; 16];
    let no_randomness =
        |_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "GENERATION_ERROR", "the system has no randomness");
    getrandom::fill(&mut random).map_err(no_randomness)?;
    Ok(format!("stream_{:032x}", u128::from_be_bytes(random)))
}
