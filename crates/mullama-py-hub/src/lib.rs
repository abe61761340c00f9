//! Models by name, for the native Python module: it converts, releases the GIL and calls.

#![forbid(unsafe_code)]

mod facts;
mod hub;
mod pull;

pub use hub::Hub;
