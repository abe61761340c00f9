//! Reads a request's body: bounded in bytes, in time, and in memory of all requests together.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;

/// Bytes of bodies that are being read or parsed at once, of all requests.
const BYTES_AT_ONCE: usize = 64 << 20;

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
        Self { most_bytes, limit, bytes_left: Arc::new(Semaphore::new(BYTES_AT_ONCE.max(most_bytes))) }
    }
}

/// Reads a body as a JSON object.
pub(crate) async fn read(body: Body, budget: &Budget) -> Result<Value, ApiError> {
    let (bytes, _held) = match tokio::time::timeout(budget.limit, collect(body, budget)).await {
        Ok(collected) => collected?,
        Err(_) => {
            let message = format!("the body of the request did not arrive within {} s", budget.limit.as_secs());
            return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", message));
        }
    };
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::invalid(format!("the body is not valid JSON: {error}")))?;
    if value.is_object() {
        return Ok(value);
    }
    Err(ApiError::invalid(format!("the body must be a JSON object, not {}", super::value::kind(&value))))
}

async fn collect(mut body: Body, budget: &Budget) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), ApiError> {
    let (mut bytes, mut held) = (Vec::new(), None::<OwnedSemaphorePermit>);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::invalid("the body of the request ended early"))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > budget.most_bytes {
            let message = format!("the body of the request is larger than {} bytes", budget.most_bytes);
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "REQUEST_TOO_LARGE", message));
        }
        let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let more = Arc::clone(&budget.bytes_left).try_acquire_many_owned(count).map_err(|_| overloaded())?;
        match &mut held {
            Some(held) => held.merge(more),
            None => held = Some(more),
        }
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, held))
}

fn overloaded() -> ApiError {
    let message = format!("other requests' bodies take {BYTES_AT_ONCE} bytes of memory; try again later");
    let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "OVERLOADED", message);
    ApiError { retry_after: Some(1), ..error }
}
