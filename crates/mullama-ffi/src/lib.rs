//! Owned, checked handles over llama.cpp: the only unsafe code of mullama.
//!
//! Everything that llama.cpp would assert is checked here first and becomes an [`Error`] with its facts. Whatever passes the
//! checks is caught by a second safety net: a C++ shim that converts every exception and every failed assertion on the
//! calling thread into an error. A [`Context`] that returned such an error is poisoned ([`Error::poisons`]): it refuses
//! further calls, and its owner creates a new one from the same [`Model`].
//!
//! ```no_run
//! use mullama_ffi::{Batch, Context, ContextOptions, Model, ModelOptions, Sampler, SamplerOptions};
//!
//! let model = Model::load("model.gguf".as_ref(), &ModelOptions::default(), None)?;
//! let mut context = Context::new(&model, &ContextOptions::default())?;
//! let mut sampler = Sampler::new(&SamplerOptions::default(), &model)?;
//! let mut batch = Batch::new(512);
//! for (at, token) in (0..).zip(model.vocab().tokenize("Once upon a time", true, true)?) {
//!     batch.push(token, at, 0, true)?;
//! }
//! context.decode(&batch)?;
//! let token = sampler.sample(context.logits(batch.len() - 1)?)?;
//! # Ok::<(), mullama_ffi::Error>(())
//! ```

mod abort;
pub mod backend;
pub mod batch;
#[cfg(feature = "test-support")]
mod busy;
mod contention;
pub mod context;
mod decode;
pub mod devices;
pub mod error;
#[cfg(feature = "test-support")]
mod failure;
#[cfg(all(unix, feature = "test-support"))]
mod forked;
mod heap;
#[cfg(feature = "portable")]
mod library;
mod log;
mod memory;
pub mod model;
pub mod options;
mod per_process;
pub mod sampler;
pub mod slices;
mod state;
mod sys;
mod threads;
pub mod token;
pub mod tokenize;
pub mod vocab;

#[cfg(not(feature = "portable"))]
pub use backend::load_plugin;
pub use backend::{keep_statics_at_exit, system_info, variant};
pub use batch::Batch;
#[cfg(feature = "test-support")]
pub use busy::beside_busy_threads;
pub use contention::CpuContention;
pub use context::Context;
pub use devices::{Device, DeviceKind, devices};
pub use error::Error;
#[cfg(feature = "test-support")]
pub use failure::Failure;
#[cfg(all(unix, feature = "test-support"))]
pub use forked::in_forked_child;
pub use heap::trim_heap;
#[cfg(feature = "portable")]
pub use library::load_plugin;
pub use model::{Model, ModelOptions};
pub use options::{ContextOptions, FlashAttn, KvType};
pub use per_process::PerProcess;
pub use sampler::{Sampler, SamplerOptions};
pub use slices::TextRules;
pub use token::TokenId;
pub use tokenize::{Special, TokenizerThread, spawn_tokenizer_thread};
pub use vocab::Vocab;
