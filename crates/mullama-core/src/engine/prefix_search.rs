//! What a sequence knows about computed prefixes of its prompt: the ones that exist, and one that is about to exist.

use crate::kv::prefix_cache::PrefixMatch;
use crate::stream::StreamId;

/// A prefix of a prompt that another stream is about to compute.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PendingPrefix {
    pub(crate) stream: StreamId,
    /// How many tokens the two prompts share.
    pub(crate) shared: usize,
}

/// The result of a search for computed prefixes, and when it was made: see `KvPool::epoch`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LookedUp {
    epoch: u64,
    pub(crate) found: Option<PrefixMatch>,
}

/// The search of one sequence for computed prefixes.
#[derive(Debug, Default)]
pub(crate) struct PrefixSearch {
    pending: Option<PendingPrefix>,
    looked_up: Option<LookedUp>,
}

impl PrefixSearch {
    /// The last search, if the available prefixes have not changed since.
    pub(crate) fn looked_up(&self, epoch: u64) -> Option<LookedUp> {
        self.looked_up.filter(|looked_up| looked_up.epoch == epoch)
    }

    /// Remembers the result of a search.
    pub(crate) fn remember(&mut self, epoch: u64, found: Option<PrefixMatch>) {
        self.looked_up = Some(LookedUp { epoch, found });
    }

    /// Forgets the last result, so that the next search starts from nothing.
    pub(crate) fn forget(&mut self) {
        self.looked_up = None;
    }

    /// The prefix that another stream is about to compute.
    pub(crate) fn pending(&self) -> Option<PendingPrefix> {
        self.pending
    }

    /// Waits for a prefix that another stream is about to compute, or for none; the next search looks for computed ones
    /// again.
    pub(crate) fn wait_for(&mut self, pending: Option<PendingPrefix>) {
        self.pending = pending;
        if pending.is_none() {
            self.forget();
        }
    }

    /// The length of the prefix that the last search found, in tokens.
    pub(crate) fn tokens_found(&self) -> usize {
        self.looked_up.and_then(|looked_up| looked_up.found).map_or(0, |prefix| prefix.shared)
    }
}
