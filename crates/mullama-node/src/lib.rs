//! The native module of the npm package: it converts and calls. It takes no decisions.
//!
//! Nothing here waits: what may take longer than a moment is a [`job::Job`] on a thread of its own, and what blocks when
//! it is dropped is [`held::Held`]. Streams and jobs wake JavaScript through the one [`notifier::Notifier`] of its thread.

#![allow(clippy::needless_pass_by_value, reason = "napi passes values that it has made")]
#![cfg_attr(test, allow(dead_code, reason = "napi registers nothing where Rust's tests are compiled"))]
#![expect(unreachable_pub, reason = "napi exports the methods that are public, and no Rust program uses them")]

mod chat;
mod context;
mod error;
mod held;
mod hub;
mod job;
mod model;
mod notifier;
mod prompt;
mod settings;
mod stream;
mod value;

use napi_derive::napi;

use crate::error::Failure;
use crate::job::{Job, Output};
use crate::notifier::Notifier;

/// Ends all engines: llama.cpp must not run on while the process ends.
#[napi]
pub(crate) fn shutdown() {
    mullama::shutdown();
}

/// What llama.cpp was compiled for, and the devices that it found; looking for those may take a while.
#[napi]
pub(crate) fn system_info(notifier: &Notifier, key: u32) -> Result<Job, Failure> {
    Job::start(notifier.handle(key), |_| Ok(Output::Text(mullama::system_info())))
}

/// The version of this module.
#[napi]
pub(crate) fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
