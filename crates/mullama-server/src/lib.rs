//! HTTP over mullama's streams: the dialects of `OpenAI`, Anthropic, Ollama and llama-server over one engine.
//!
//! A client that reads slowly pauses its own stream only, and a client that leaves frees its slot within one step.

#![forbid(unsafe_code)]

mod background;
mod config;
mod dialect;
mod error;
mod generation;
mod guard;
mod ids;
mod json;
mod limits;
mod logging;
mod metrics;
mod models;
mod openapi;
mod page;
mod resume;
mod router;
mod server;
mod state;
mod stop;
mod telemetry;
mod transport;
mod websocket;

pub use background::RunningServer;
pub use config::{ServerConfig, TlsFiles};
pub use models::{LoadOptions, ModelSource, ModelSpec};
pub use router::router;
pub use server::{Listen, Server};
pub use state::State;
pub use telemetry::Telemetry;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/server.md")]
struct Page;
