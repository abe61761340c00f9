//! Connections: sockets with small buffers, an accept loop with limits, and TLS.

mod accept;
mod connection;
mod gate;
mod listen;
mod paced;
mod requests;
mod socket;
mod tls;
mod unread;
mod upgrades;

pub(crate) use accept::accept_all;
pub(crate) use connection::Peer;
pub use listen::Listen;
pub(crate) use listen::Listener;
pub(crate) use tls::acceptor;
pub(crate) use upgrades::Upgrades;
