//! The synchronisation primitives of streams, inbox and engine thread: std's and tokio's, or shuttle's where a test explores
//! the interleavings of their threads.
//!
//! The feature `shuttle` is for those tests alone: outside of shuttle's scheduler its primitives panic.

#[cfg(feature = "shuttle")]
pub(crate) mod mpsc;

#[cfg(feature = "shuttle")]
pub(crate) use shuttle::sync::mpsc::{SyncSender, sync_channel};
#[cfg(feature = "shuttle")]
pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard, atomic};
#[cfg(feature = "shuttle")]
pub(crate) use shuttle::{thread, thread_local};

#[cfg(not(feature = "shuttle"))]
pub(crate) use std::sync::mpsc::{SyncSender, sync_channel};
#[cfg(not(feature = "shuttle"))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, atomic};
#[cfg(not(feature = "shuttle"))]
pub(crate) use std::{thread, thread_local};

#[cfg(not(feature = "shuttle"))]
pub(crate) use tokio::sync::mpsc;
