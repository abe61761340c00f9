//! Requests that wait for a model, in the order in which they came.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::registry::Registry;

/// How long a request that waits for room holds back later ones for models in memory, so that one of these models becomes
/// idle. It is short, because a client that does not read its answer keeps a model in use for as long as it likes.
const HOLD_BACK: Duration = Duration::from_secs(2);

/// The waiting requests by their tickets.
#[derive(Debug, Default)]
pub(super) struct Queue {
    next_ticket: u64,
    waiting: BTreeMap<u64, Waiting>,
}

/// A request that waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) model: u64,
    /// Until when it holds back later requests for models in memory.
    pub(super) holds_back_until: Instant,
}

impl Queue {
    /// The requests before this one.
    pub(super) fn before(&self, ticket: u64) -> impl Iterator<Item = Waiting> + '_ {
        self.waiting.range(..ticket).map(|(_, waiting)| *waiting)
    }
}

/// The turn of a request for a model, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    registry: Arc<Registry>,
    pub(super) ticket: u64,
    pub(super) model: u64,
}

impl Turn {
    pub(super) fn new(registry: &Arc<Registry>, model: u64) -> Self {
        let mut table = registry.lock();
        let queue = &mut table.queue;
        queue.next_ticket += 1;
        let ticket = queue.next_ticket;
        queue.waiting.insert(ticket, Waiting { model, holds_back_until: Instant::now() + HOLD_BACK });
        Self { registry: Arc::clone(registry), ticket, model }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let keeps_others_waiting = {
            let waiting = &mut self.registry.lock().queue.waiting;
            waiting.remove(&self.ticket);
            waiting.values().any(|waiting| waiting.model != self.model)
        };
        if keeps_others_waiting && self.registry.options.max_loaded > 0 {
            self.registry.changed().notify_waiters();
        }
    }
}
