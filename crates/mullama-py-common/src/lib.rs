//! What the parts of the native Python module share: errors, waits, and the runtime of asynchronous calls.

#![forbid(unsafe_code)]

mod asynchronous;
mod error;
mod exit;
mod progress;
mod runtime;
pub mod settings;
pub mod wait;

pub use asynchronous::{awaitable, in_background};
pub use error::{stream_busy, to_py};
pub use exit::{attach, begin as begin_exit};
pub use progress::{Callback, wants_more};
pub use runtime::deliver;
