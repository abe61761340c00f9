//! The streams of a server that can be resumed: found by unguessable ids, and by the key that started them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use subtle::{Choice, ConstantTimeEq};

use super::stream::{Source, Stream};
use crate::error::ApiError;
use crate::guard;

/// Most streams of a server that can be resumed.
const MOST_STREAMS: usize = 128;

/// The keys of a request, in whichever headers it gives them; mostly one or none.
#[derive(Clone)]
pub(super) struct Credential(Vec<Vec<u8>>);

impl Credential {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self(guard::given(headers).map(<[u8]>::to_vec).collect())
    }

    /// Compares without telling by its duration how much is equal.
    fn is_same(&self, other: &Self) -> bool {
        let pairs = self.0.iter().zip(&other.0);
        let is_equal = pairs.fold(Choice::from(1), |is_equal, (own, other)| is_equal & own.ct_eq(other));
        self.0.len() == other.0.len() && bool::from(is_equal)
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

/// What became of a body that is to be resumable.
#[derive(Debug)]
pub(super) enum Inserted {
    /// Its id and the stream.
    Stream(HeaderValue, Arc<Stream>),
    /// There are too many streams, so this one ends with its connection.
    Full(Body),
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

    /// Adds a stream under a new id. Streams that are complete and only wait for their clients give way to it. If all
    /// others are in use, the body is returned as it is: their number must not keep a client from its answer.
    pub(super) fn insert(&self, credential: Credential, source: Source) -> Result<Inserted, ApiError> {
        let id = new_id()?;
        let value = HeaderValue::from_str(&id).map_err(|_| no_randomness())?;
        let mut entries = self.lock();
        if entries.len() >= MOST_STREAMS {
            let complete = entries.iter().find(|(_, entry)| entry.stream.is_left_over()).map(|(id, _)| id.clone());
            let Some(complete) = complete else { return Ok(Inserted::Full(source.body)) };
            entries.remove(&complete);
        }
        let stream = Arc::new(Stream::new(source));
        entries.insert(id, Entry { credential, stream: Arc::clone(&stream) });
        Ok(Inserted::Stream(value, stream))
    }

    /// The stream of this id, if the same key started it.
    pub(super) fn find(&self, id: &str, credential: &Credential) -> Option<Arc<Stream>> {
        let entries = self.lock();
        let entry = entries.get(id)?;
        entry.credential.is_same(credential).then(|| Arc::clone(&entry.stream))
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

fn no_randomness() -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "GENERATION_ERROR", "the system has no randomness")
}

/// An id of 128 random bits.
fn new_id() -> Result<String, ApiError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| no_randomness())?;
    Ok(format!("stream_{:032x}", u128::from_be_bytes(random)))
}
