//! Streams whose clients grant no credits: how many may wait at once, and for how long.
//!
//! A stream that waits has computed its tokens up to the size of its buffer and has no slot, so it takes memory alone.
//! That is bounded for the server as a whole. Beyond the bound the stream that has waited longest ends, and not the one
//! that comes, so that clients that forget their streams shut out nobody else.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::time::Sleep;

use crate::error::ApiError;

/// Most streams of a server that wait for credits.
const MOST_WAITING: usize = 1024;

/// The streams of a server that wait for credits, the longest waiting first.
#[derive(Debug, Default)]
pub(crate) struct CreditWaits {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    /// Who is told that it must end.
    wakers: BTreeMap<u64, Waker>,
}

/// One stream that waits. Dropping it ends the wait.
#[derive(Debug)]
pub(super) struct CreditWait {
    waits: Arc<CreditWaits>,
    number: u64,
    limit: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl CreditWaits {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a wait of at most `limit`. If there are too many, the longest one ends.
    pub(super) fn begin(self: &Arc<Self>, limit: Duration) -> CreditWait {
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        let ended = if inner.wakers.len() >= MOST_WAITING { inner.wakers.pop_first() } else { None };
        inner.wakers.insert(number, Waker::noop().clone());
        drop(inner);
        if let Some((_, waker)) = ended {
            waker.wake();
        }
        CreditWait { waits: Arc::clone(self), number, limit, sleep: Box::pin(tokio::time::sleep(limit)) }
    }
}

impl CreditWait {
    /// Ready with the reason once the wait has taken too long, or has to give way to others.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<ApiError> {
        match self.waits.lock().wakers.get_mut(&self.number) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => return Poll::Ready(gave_way()),
        }
        let limit = self.limit;
        self.sleep.as_mut().poll(cx).map(|()| timed_out(limit))
    }
}

impl Drop for CreditWait {
    fn drop(&mut self) {
        let waker = self.waits.lock().wakers.remove(&self.number);
        // The drop of a waker may end the task of another socket, which takes the lock.
        drop(waker);
    }
}

fn timed_out(limit: Duration) -> ApiError {
    let message = format!("the client granted no credit for {} s, which is the maximum", limit.as_secs_f64());
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "STREAM_TIMEOUT", message)
}

fn gave_way() -> ApiError {
    let message = format!(
        "{MOST_WAITING} streams of the server wait for credits, which is the maximum, and this one has waited longest; \
         grant credits, or send the request again"
    );
    ApiError::overloaded(message, 1)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    const LONG: Duration = Duration::from_mins(10);

    #[derive(Default)]
    struct Counts(AtomicUsize);

    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn beyond_the_bound_the_longest_wait_ends_and_is_woken() {
        let waits = Arc::new(CreditWaits::default());
        let (woken, mut idle) = (Arc::new(Counts::default()), Context::from_waker(Waker::noop()));
        let waker = Waker::from(Arc::clone(&woken));
        let mut first = waits.begin(LONG);
        assert!(first.poll_over(&mut Context::from_waker(&waker)).is_pending());
        let mut second = waits.begin(LONG);
        let mut others: Vec<_> = (2..MOST_WAITING).map(|_| waits.begin(LONG)).collect();
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        let mut last = waits.begin(LONG);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        let Poll::Ready(error) = first.poll_over(&mut idle) else { panic!("the longest wait is over") };
        assert_eq!((error.code, error.retry_after), ("OVERLOADED", Some(1)));
        assert!(
            [&mut second, &mut last].into_iter().chain(&mut others).all(|wait| wait.poll_over(&mut idle).is_pending())
        );
        drop(second);
        let _one_more = waits.begin(LONG);
        assert!(others[0].poll_over(&mut idle).is_pending(), "the one that was dropped makes room");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_over_after_its_limit() {
        let waits = Arc::new(CreditWaits::default());
        let mut wait = waits.begin(LONG);
        assert!(wait.poll_over(&mut Context::from_waker(Waker::noop())).is_pending());
        let error = std::future::poll_fn(|cx| wait.poll_over(cx)).await;
        assert_eq!((error.code, error.message.contains("600 s")), ("STREAM_TIMEOUT", true));
        drop(wait);
        assert!(waits.lock().wakers.is_empty());
    }
}
