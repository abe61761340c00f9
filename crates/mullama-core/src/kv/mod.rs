//! The KV cache: which sequence holds which cells, and which computed prefixes are kept for later prompts.
//!
//! Flow: scheduler → **KV pool → backend** → sample.

pub(crate) mod backend;
pub(crate) mod cells;
mod costs;
pub(crate) mod llama;
pub(crate) mod memory;
pub(crate) mod pool;
pub(crate) mod prefix_cache;
#[cfg(feature = "test-support")]
pub(crate) mod scripted;
