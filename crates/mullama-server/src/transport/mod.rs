//! Connections: sockets with small buffers, an accept loop with limits, and TLS.

mod accept;
mod connection;
mod listen;
mod socket;
mod timed_io;
mod tls;

pub(crate) use accept::accept_all;
pub use listen::Listen;
pub(crate) use listen::Listener;
pub(crate) use tls::acceptor;
