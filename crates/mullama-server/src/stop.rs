//! How far a server is on its way to its end.

use std::sync::Arc;

use axum::http::StatusCode;
use tokio::sync::watch;
use tokio::task::JoinError;

use crate::error::{ApiError, STOPPING};

/// Seconds after which a client that finds a server stopping may find another one there.
const RETRY_AFTER: u64 = 5;

/// The phases of a server, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Requests are answered.
    Serving,
    /// Requests that run may end; new ones are refused.
    Draining,
    /// Streams that still run end with an error.
    Ending,
}

/// The phase of a server, which its requests watch. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Stop(Arc<watch::Sender<Phase>>);

impl Stop {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Serving)))
    }

    pub(crate) fn set(&self, phase: Phase) {
        self.0.send_replace(phase);
    }

    /// Completes once this phase or a later one is reached.
    pub(crate) async fn reached(self, phase: Phase) {
        let mut phases = self.0.subscribe();
        // The sender lives as long as this future.
        let _ = phases.wait_for(|now| *now >= phase).await;
    }

    /// # Errors
    /// If the server takes no more requests.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        if *self.0.borrow() == Phase::Serving { Ok(()) } else { Err(stopping()) }
    }
}

/// The answer to a request that the server is too late for.
pub(crate) fn stopping() -> ApiError {
    let error = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "CLOSED", STOPPING);
    ApiError { retry_after: Some(RETRY_AFTER), ..error }
}

/// The answer to a request whose work on another thread has no result: it ran into a fault, or the threads end.
pub(crate) fn unfinished(error: &JoinError) -> ApiError {
    if error.is_panic() { ApiError::internal() } else { stopping() }
}

#[cfg(test)]
mod tests {
    use super::unfinished;

    #[tokio::test]
    async fn a_panic_is_a_fault_of_the_server_and_a_task_that_is_stopped_is_not() {
        let panicked = tokio::task::spawn_blocking(|| panic!("a fault")).await.expect_err("it panics");
        assert_eq!((unfinished(&panicked).status.as_u16(), unfinished(&panicked).code), (500, "INTERNAL"));
        let stopped = tokio::spawn(std::future::pending::<()>());
        stopped.abort();
        let stopped = stopped.await.expect_err("it is stopped");
        assert_eq!((unfinished(&stopped).status.as_u16(), unfinished(&stopped).code), (503, "CLOSED"));
    }
}
