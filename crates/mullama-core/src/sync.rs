//! The synchronisation primitives of streams, inbox and engine thread: those of std and tokio, or shuttle's in tests
//! that explore the interleavings of the threads.
//!
//! The feature `shuttle` is only for those tests: outside of shuttle's scheduler its primitives panic.

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
