//! The engine's only source of time, so that a test can control it.

#![cfg_attr(not(feature = "test-support"), expect(unreachable_pub, reason = "a stage of `testing` shows it"))]

use std::time::{Duration, Instant};

/// Reports the time since some fixed moment.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Time since the clock's start; never goes back.
    fn now(&self) -> Duration;
}

/// The system's monotonic clock.
#[derive(Debug)]
pub(crate) struct SystemClock(Instant);

impl SystemClock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}
