//! One stream: a bounded channel from the engine's [`TokenSender`] to the reader's [`TokenStream`].
//!
//! Flow: stop → **stream** → frontend. The channel is tokio's `mpsc` with `buffer_size + 1` slots; the additional one
//! is reserved for the end from the start.

pub(crate) mod admission;
pub(crate) mod completion;
mod handle;
pub(crate) mod notifier;
mod receiver;
mod sender;
mod shared;
pub(crate) mod token;
pub(crate) mod usage;
pub(crate) mod wakeups;

use std::sync::Arc;

pub use handle::StreamHandle;
pub use receiver::{IntoTokens, TokenStream, Tokens, TryNext};
pub(crate) use sender::{Readiness, TokenSender};
pub(crate) use shared::{End, EngineInbox, Progress, StreamId};

use admission::AdmissionTicket;
use shared::Shared;

use crate::sync::mpsc;

/// What identifies a new stream to its engine.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) id: StreamId,
    pub(crate) seed: u32,
    pub(crate) engine: Arc<dyn EngineInbox>,
    /// Counts the stream as unfinished until it ends.
    pub(crate) ticket: AdmissionTicket,
}

/// Opens a stream whose reader may be up to `buffer_size` tokens behind.
pub(crate) fn open(identity: Identity, buffer_size: u32) -> (TokenSender, TokenStream) {
    let Identity { id, seed, engine, ticket } = identity;
    let (sender, receiver) = mpsc::channel(buffer_size as usize + 1);
    let end_permit = sender.clone().try_reserve_owned().expect("a new channel has capacity and a receiver");
    let shared = Arc::new(Shared::new(id, seed, engine, ticket, end_permit));
    let handle = StreamHandle::new(Arc::clone(&shared));
    (TokenSender::new(shared, sender), TokenStream::new(handle, receiver))
}
