//! Reads a request's body: bounded in bytes, in time, and in memory of all requests together.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use http_body::Body as _;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;
use crate::guard;

/// Bytes of memory that the bodies of all requests may take, read and parsed.
const BYTES_AT_ONCE: usize = 256 << 20;
/// Bytes that each request has for itself, so that large bodies of others do not keep small ones out.
const OWN_BYTES: usize = 64 << 10;
/// Bytes that a parsed value takes besides its text.
const VALUE_BYTES: usize = size_of::<Value>();
/// Most values of one body. A long prompt as token ids has some hundred thousand.
const MOST_VALUES: usize = 1 << 20;
/// Bodies from this size on are parsed on a thread of their own.
const LARGE_BYTES: usize = 64 << 10;

/// The bounds of request bodies.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    /// Maximum bytes of one body.
    pub(crate) most_bytes: usize,
    /// Maximum time from the first to the last byte.
    pub(crate) limit: Duration,
    bytes_left: Arc<Semaphore>,
}

impl Budget {
    pub(crate) fn new(most_bytes: usize, limit: Duration) -> Self {
        let bytes = BYTES_AT_ONCE.max(most_bytes.saturating_mul(2)).min(Semaphore::MAX_PERMITS);
        Self { most_bytes, limit, bytes_left: Arc::new(Semaphore::new(bytes)) }
    }
}

/// A body as JSON. It counts in the budget as long as it lives.
#[derive(Debug)]
pub(crate) struct Parsed {
    value: Value,
    _held: Held,
}

impl Deref for Parsed {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.value
    }
}

/// Memory that a request has taken, first its own and then from the budget.
#[derive(Debug)]
struct Held {
    /// Bytes of its own that are left.
    own: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl Default for Held {
    fn default() -> Self {
        Self { own: OWN_BYTES, permit: None }
    }
}

impl Held {
    fn take(&mut self, bytes: usize, budget: &Budget) -> Result<(), ApiError> {
        let own = self.own.min(bytes);
        self.own -= own;
        let count = u32::try_from(bytes - own).map_err(|_| overloaded())?;
        let more = Arc::clone(&budget.bytes_left).try_acquire_many_owned(count).map_err(|_| overloaded())?;
        match &mut self.permit {
            Some(held) => held.merge(more),
            None => self.permit = Some(more),
        }
        Ok(())
    }
}

impl Budget {
    /// Room for this many bytes of requests that arrive another way than as a body; `None` while others take it.
    pub(crate) fn hold(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.bytes_left).try_acquire_many_owned(bytes).ok()
    }
}

/// Reads a body as a JSON object.
pub(crate) async fn read(mut body: Body, budget: &Budget) -> Result<Parsed, ApiError> {
    let mut held = Held::default();
    let collected = tokio::time::timeout(budget.limit, collect(&mut body, &mut held, budget)).await;
    let bytes = match collected {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => {
            // The client is still sending, and would get an error of its socket instead of this one.
            guard::drain(body).await;
            return Err(error);
        }
        Err(_) => {
            let message = format!("the body of the request did not arrive within {} s", budget.limit.as_secs());
            return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", message));
        }
    };
    let values = count_values(&bytes);
    if values > MOST_VALUES {
        let message = format!("the body has {values} values, but must have at most {MOST_VALUES}");
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "REQUEST_TOO_LARGE", message));
    }
    held.take(values * VALUE_BYTES + bytes.len(), budget)?;
    let value = if bytes.len() < LARGE_BYTES {
        parse(&bytes)?
    } else {
        let failed = |_| ApiError::invalid("the body cannot be parsed");
        tokio::task::spawn_blocking(move || parse(&bytes)).await.map_err(failed)??
    };
    Ok(Parsed { value, _held: held })
}

fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| ApiError::invalid(format!("the body is not valid JSON: {error}")))?;
    if value.is_object() {
        return Ok(value);
    }
    Err(ApiError::invalid(format!("the body must be a JSON object, not {}", super::value::kind(&value))))
}

async fn collect(body: &mut Body, held: &mut Held, budget: &Budget) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    let fits = |bytes: u64| usize::try_from(bytes).is_ok_and(|bytes| bytes <= budget.most_bytes);
    if !fits(body.size_hint().lower()) {
        return Err(too_large(budget));
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::invalid("the body of the request ended early"))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > budget.most_bytes {
            return Err(too_large(budget));
        }
        held.take(data.len(), budget)?;
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// The number of values in a JSON text, keys of objects included, or a few more.
fn count_values(json: &[u8]) -> usize {
    let (mut count, mut is_text, mut is_escaped) = (1, false, false);
    for &byte in json {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b',' | b':' | b'[' | b'{' if !is_text => count += 1,
            _ => {}
        }
    }
    count
}

fn too_large(budget: &Budget) -> ApiError {
    let message = format!("the body of the request is larger than {} bytes", budget.most_bytes);
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "REQUEST_TOO_LARGE", message)
}

fn overloaded() -> ApiError {
    let message = "the bodies of other requests take all memory that they may; try again later";
    let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "OVERLOADED", message);
    ApiError { retry_after: Some(1), ..error }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::StatusCode;

    use super::{Budget, MOST_VALUES, count_values, read};

    const MIB: usize = 1 << 20;

    async fn status(body: impl Into<Body>, budget: &Budget) -> Option<StatusCode> {
        read(body.into(), budget).await.err().map(|error| error.status)
    }

    #[test]
    fn values_inside_texts_are_not_counted() {
        for (json, count) in [("{}", 2), (r#"{"a": "[,,{\\\",,", "b": [1, 2]}"#, 7), ("[", 2), ("", 1), ("\"", 1)] {
            assert_eq!(count_values(json.as_bytes()), count, "{json}");
        }
    }

    #[tokio::test]
    async fn what_is_not_an_object_of_valid_json_is_a_bad_request() {
        let budget = Budget::new(MIB, Duration::from_secs(5));
        let deep = "[".repeat(100_000);
        let object_of_deep = format!("{{\"a\": {}", "{\"a\":".repeat(100_000));
        for body in [
            "",
            " ",
            "{",
            "[]",
            "null",
            "7",
            "\"text\"",
            "{\"a\": 1e999}",
            "{\"a\": \"\\ud800\"}",
            "{\"a\": NaN}",
            "{'a': 1}",
            "{\"a\": 1} x",
            "\u{feff}{}",
            &deep,
            &object_of_deep,
        ] {
            let shown: String = body.chars().take(20).collect();
            assert_eq!(status(body.to_owned(), &budget).await, Some(StatusCode::BAD_REQUEST), "{shown}");
        }
        assert_eq!(status(&b"{\"a\": \"\xff\"}"[..], &budget).await, Some(StatusCode::BAD_REQUEST));
        assert_eq!(status("{}", &budget).await, None);
    }

    #[tokio::test]
    async fn bodies_with_too_many_bytes_or_values_are_too_large() {
        let budget = Budget::new(4 * MIB, Duration::from_secs(5));
        let text = |count: usize| format!("{{\"a\": \"{}\"}}", ",".repeat(count));
        assert_eq!(status(text(3 * MIB), &budget).await, None);
        assert_eq!(status(text(5 * MIB), &budget).await, Some(StatusCode::PAYLOAD_TOO_LARGE));
        let list = format!("{{\"a\": [{}0]}}", "0,".repeat(MOST_VALUES));
        assert_eq!(status(list, &budget).await, Some(StatusCode::PAYLOAD_TOO_LARGE));
    }

    #[tokio::test]
    async fn bodies_count_in_the_budget_while_they_are_used() {
        let budget = Budget::new(4 * MIB, Duration::from_secs(5));
        let list = || Body::from(format!("{{\"a\": [{}0]}}", "0,".repeat(MOST_VALUES - 9)));
        let mut kept = Vec::new();
        let refused = loop {
            match read(list(), &budget).await {
                Ok(parsed) => kept.push(parsed),
                Err(error) => break error,
            }
            assert!(kept.len() < 100, "the memory of all bodies is bounded");
        };
        assert_eq!((refused.status, refused.retry_after), (StatusCode::TOO_MANY_REQUESTS, Some(1)));
        kept.clear();
        assert_eq!(status(list(), &budget).await, None);
    }
}
