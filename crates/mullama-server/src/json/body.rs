//! Reads a request's body: bounded in bytes, in time, and in memory of all requests together.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use http_body::Body as _;
use http_body_util::BodyExt;
use mullama::StreamConfig;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Json;
use super::content::check_headers;
use super::parse::parse;
use crate::error::ApiError;
use crate::guard;
use crate::stop::unfinished;

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
    /// Bytes of its text.
    bytes: usize,
    _held: Held,
}

impl Deref for Parsed {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.value
    }
}

impl Parsed {
    /// The body.
    pub(crate) fn json(&self) -> Json<'_> {
        Json::new(&self.value, "")
    }

    /// The body, once `read` has found nothing wrong with it: a request with a wrong field loads no model. What it makes
    /// of the body is read again when the settings of the model are known.
    pub(crate) async fn checked<T: 'static>(
        self,
        defaults: &StreamConfig,
        read: fn(&Json<'_>, StreamConfig) -> Result<T, ApiError>,
    ) -> Result<Self, ApiError> {
        let config = defaults.clone();
        let check = move |parsed: Self| read(&parsed.json(), config).map(drop).map(|()| parsed);
        sized(self.bytes, move || check(self)).await
    }

    /// What `read` makes of the body, which is freed before an answer is computed. A large body is read on a thread for
    /// blocking work, so that no other connection waits for that.
    pub(crate) async fn read<T: Send + 'static>(
        self,
        read: impl FnOnce(&Json<'_>) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        sized(self.bytes, move || read(&self.json())).await
    }
}

/// Runs work on this many bytes of JSON: on a thread for blocking work if they are many, so that no other connection
/// waits for it.
pub(crate) async fn sized<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    if bytes < LARGE_BYTES {
        return work();
    }
    tokio::task::spawn_blocking(work).await.map_err(|error| unfinished(&error))?
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

/// Reads the body of a request as a JSON object.
pub(crate) async fn read(request: Request, budget: &Budget) -> Result<Parsed, ApiError> {
    check_headers(request.headers())?;
    let mut body = request.into_body();
    if !usize::try_from(body.size_hint().lower()).is_ok_and(|bytes| bytes <= budget.most_bytes) {
        // Nothing is read of it: a client that waits to be told to send its body would send all of it.
        return Err(too_large(budget));
    }
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
            let message = format!(
                "the body of the request did not arrive within {} s; send it faster or make it smaller",
                budget.limit.as_secs()
            );
            return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", message));
        }
    };
    let len = bytes.len();
    let (values, bytes) = sized(len, move || Ok((count_values(&bytes), bytes))).await?;
    if values > MOST_VALUES {
        let message =
            format!("the body has {values} JSON values, but may have at most {MOST_VALUES}; send a shorter request");
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "REQUEST_TOO_LARGE", message));
    }
    held.take(values * VALUE_BYTES + bytes.len(), budget)?;
    let value = sized(len, move || parse("the body", &bytes)).await?;
    Ok(Parsed { value, bytes: len, _held: held })
}

async fn collect(body: &mut Body, held: &mut Held, budget: &Budget) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| ApiError::invalid("the body of the request ended before all of it had arrived"))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > budget.most_bytes {
            return Err(too_large(budget));
        }
        held.take(data.len(), budget)?;
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// The bytes of memory that a JSON text and what it is parsed to take, or a few more.
pub(crate) fn parsed_bytes(json: &[u8]) -> usize {
    count_values(json) * VALUE_BYTES + json.len()
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
    let message = format!(
        "the body of the request has more than {} bytes, which is the most that this server accepts",
        budget.most_bytes
    );
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "REQUEST_TOO_LARGE", message)
}

fn overloaded() -> ApiError {
    let message = "the bodies of other requests fill the memory that is set aside for them; try again later";
    ApiError::overloaded(message, 1)
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Poll};
    use std::time::Duration;

    use axum::body::Body;
    use axum::extract::Request;
    use axum::http::StatusCode;
    use bytes::Bytes;
    use http_body::{Frame, SizeHint};

    use super::{Budget, LARGE_BYTES, MOST_VALUES, count_values, read};

    const MIB: usize = 1 << 20;

    async fn status(body: impl Into<Body>, budget: &Budget) -> Option<StatusCode> {
        read(Request::new(body.into()), budget).await.err().map(|error| error.status)
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
    async fn nothing_is_read_of_a_body_that_says_it_is_too_large() {
        let budget = Budget::new(MIB, Duration::from_secs(5));
        let is_read = Arc::new(AtomicBool::new(false));
        let body = Body::new(Announced { bytes: 2 * MIB as u64, is_read: Arc::clone(&is_read) });
        assert_eq!(status(body, &budget).await, Some(StatusCode::PAYLOAD_TOO_LARGE));
        assert!(!is_read.load(Ordering::Relaxed), "the client would be told to send it");
    }

    /// A body of which only the length has arrived.
    struct Announced {
        bytes: u64,
        is_read: Arc<AtomicBool>,
    }

    impl http_body::Body for Announced {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            self.is_read.store(true, Ordering::Relaxed);
            Poll::Ready(None)
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.bytes)
        }
    }

    #[tokio::test]
    async fn a_panic_on_a_large_body_is_a_fault_of_the_server() {
        let budget = Budget::new(MIB, Duration::from_secs(5));
        let text = format!("{{\"a\": \"{}\"}}", "x".repeat(LARGE_BYTES));
        let parsed = read(Request::new(text.into()), &budget).await.expect("it is valid");
        let error = parsed.read(|_| -> Result<(), _> { panic!("a fault") }).await.expect_err("it panics");
        assert_eq!((error.status, error.code), (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"));
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
            match read(Request::new(list()), &budget).await {
                Ok(parsed) => kept.push(parsed),
                Err(error) => break error,
            }
            assert!(kept.len() < 100, "the memory of all bodies is bounded");
        };
        assert_eq!((refused.status, refused.retry_after), (StatusCode::TOO_MANY_REQUESTS, Some(1)));
        kept.clear();
        assert_eq!(status(list(), &budget).await, None);
    }

    #[tokio::test]
    async fn a_body_leaves_the_budget_once_it_is_read() {
        let budget = Budget::new(4 * MIB, Duration::from_secs(5));
        for _ in 0..20 {
            let list = Body::from(format!("{{\"a\": [{}0]}}", "0,".repeat(MOST_VALUES - 9)));
            let parsed = read(Request::new(list), &budget).await.expect("the others are freed");
            let count = parsed.read(|body| Ok(body.require("a")?.list()?.len())).await;
            assert_eq!(count, Ok(MOST_VALUES - 8));
        }
    }
}
