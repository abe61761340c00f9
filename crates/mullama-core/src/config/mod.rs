//! The two tables of settings: how a stream is generated, and how an engine is set up.

mod context_params;
mod dynamic;
mod range;
mod resolved_params;
mod stream_config;

pub(crate) use context_params::MAX_SEQUENCES;
pub use context_params::{ContextParams, FlashAttn, KvType};
pub use dynamic::{DynamicValue, Field, Numeral, Setting};
pub use range::{Limits, Range};
pub(crate) use resolved_params::ResolvedParams;
pub use stream_config::StreamConfig;
