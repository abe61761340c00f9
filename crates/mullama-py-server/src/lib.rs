//! The HTTP server, for the native Python module: it converts, releases the GIL and calls.

#![forbid(unsafe_code)]

mod server;
mod settings;

pub use server::Server;
