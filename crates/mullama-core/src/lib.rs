//! Streams text from language models in your own process.
//!
//! Every reader gets each token as soon as it is computed; a reader that lags pauses
//! only its own stream; a reader that leaves frees its compute within one step.
//!
//! ```
//! use std::sync::Arc;
//! use mullama::{Context, ContextParams, Model, StreamConfig};
//!
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/mullama/models/demo.gguf");
//! let model = Arc::new(Model::load(path)?);
//! let context = Context::new(model, ContextParams::default())?;
//! for token in context.stream("Write a poem:", StreamConfig::new().max_tokens(20))? {
//!     print!("{}", token?.text);
//! }
//! # Ok::<(), mullama::MullamaError>(())
//! ```
//!
//! The flow, with one module per stage: `request` → `engine` (`scheduler` → decode →
//! `sample` → `detokenize` → `stop`) → `stream`.
//!
//! Feature `streaming` (default) makes [`TokenStream`] a `futures` stream and
//! adds [`AsyncModel`]; `cuda`, `vulkan`, `metal` and `rocm` enable llama.cpp's backends;
//! `test-support` adds a scripted backend for tests.

#![forbid(unsafe_code)]

#[cfg(feature = "streaming")]
mod async_model;
mod background;
mod chat;
mod clock;
mod config;
mod context;
mod cores;
mod devices;
mod engine;
mod error;
mod file_guard;
mod fork_guard;
pub mod gguf;
mod in_flight;
#[cfg(all(test, feature = "shuttle"))]
mod interleavings;
mod kv;
mod log;
mod model;
mod request;
mod shutdown;
mod stats;
mod stream;
mod sync;
#[cfg(feature = "test-support")]
pub mod testing;
mod text;

#[cfg(feature = "streaming")]
pub use async_model::AsyncModel;
pub use background::{BackgroundWork, WorkEvent};
pub use chat::{Chat, Message, TemplateFailure};
pub use config::{
    ContextParams, DynamicValue, Field, FlashAttn, KvType, Limits, Numeral, Range, Setting, StreamConfig,
};
pub use context::Context;
pub use cores::usable_cores;
pub use devices::{PluginError, cpu_variant, devices, load_plugin, system_info};
pub use error::{Deadline, DownloadFailure, Fact, ModelLoadFailure, MullamaError, PromptFailure, StreamFailure};
pub use in_flight::InFlightGuard;
pub use log::{LogLine, LogQueue};
pub use model::{Model, ModelOptions};
pub use mullama_ffi::{Device, DeviceKind, PerProcess, TokenId};
pub use request::Prompt;
pub use shutdown::shutdown;
pub use stats::{Stats, Steps};
pub use stream::completion::Completion;
pub use stream::notifier::{LoopNotifier, NotifyHandle};
pub use stream::token::Token;
pub use stream::usage::{FinishReason, Timings, Usage};
pub use stream::{IntoTokens, StreamHandle, TokenStream, Tokens, TryNext};

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

#[cfg(all(doctest, feature = "streaming"))]
#[doc = include_str!("../../../docs/streaming.md")]
#[doc = include_str!("../../../docs/first-steps.md")]
#[doc = include_str!("../../../docs/chat.md")]
#[doc = include_str!("../../../docs/rust.md")]
struct Pages;
