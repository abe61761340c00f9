//! The backend's pool of cells with its books: who sits where, what is shared, what rests.

use mullama_ffi::{Error, TokenId};

use crate::kv::backend::{Backend, Limits};
use crate::kv::cells::Cells;
use crate::kv::prefix_cache::{PrefixCache, PrefixLocation, PrefixMatch};

/// A backend and all that is known about its cells.
#[derive(Debug)]
pub(crate) struct KvPool<B> {
    backend: B,
    limits: Limits,
    cells: Cells,
    free_seq_ids: Vec<usize>,
    prefixes: PrefixCache,
    /// Grows when a beginning may have appeared or gone; what was looked up before is then stale.
    epoch: u64,
}

impl<B: Backend> KvPool<B> {
    /// An empty pool that may rest this many bytes in host memory.
    pub(crate) fn new(backend: B, prefix_cache_bytes: usize) -> Self {
        let limits = backend.limits();
        Self {
            cells: Cells::new(limits.cells, limits.n_seq),
            free_seq_ids: (0..limits.n_seq).rev().collect(),
            prefixes: PrefixCache::new(prefix_cache_bytes, limits.reuse),
            backend,
            limits,
            epoch: 0,
        }
    }

    pub(crate) fn backend(&mut self) -> &mut B {
        &mut self.backend
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    pub(crate) fn cells(&self) -> &Cells {
        &self.cells
    }

    pub(crate) fn prefixes(&self) -> &PrefixCache {
        &self.prefixes
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Something was computed that others may begin with.
    pub(crate) fn bump_epoch(&mut self) {
        self.epoch += 1;
    }

    /// An empty seat.
    pub(crate) fn take_seq_id(&mut self) -> usize {
        self.free_seq_ids.pop().expect("the plan counts n_seq")
    }

    /// Lets an empty seat begin with what somebody has computed, if `spare` cells are enough for it; how many tokens it
    /// has now.
    pub(crate) fn adopt(&mut self, seq_id: usize, beginning: PrefixMatch, spare: usize) -> usize {
        let shared = beginning.shared;
        let adopted = match beginning.source {
            PrefixLocation::SeqId(from) => {
                let shared_cells = self.backend.share(from, seq_id, shared).unwrap_or(false);
                if shared_cells {
                    self.cells.share(from, seq_id, shared);
                }
                shared_cells
            }
            PrefixLocation::Host { name, tokens } => tokens <= spare && self.restore(seq_id, name, tokens, shared),
        };
        if !adopted {
            return 0;
        }
        self.prefixes.used(beginning.source);
        shared
    }

    /// Copies a beginning back from host memory and cuts it to what serves.
    fn restore(&mut self, seq_id: usize, name: u64, tokens: usize, shared: usize) -> bool {
        let Some(state) = self.prefixes.state(name) else { return false };
        let came = self.backend.restore(seq_id, state).and_then(|()| self.backend.truncate(seq_id, shared, tokens));
        if came.unwrap_or(false) {
            self.cells.extend(seq_id, shared);
            return true;
        }
        // Whatever came of it is computed again. A poisoned context fails at the next decode.
        let _ = self.backend.forget(seq_id);
        false
    }

    /// Rows of this seat were computed.
    pub(crate) fn extend(&mut self, seq_id: usize, rows: usize) {
        self.cells.extend(seq_id, rows);
    }

    /// Frees a seat and its cells.
    pub(crate) fn free(&mut self, seq_id: usize) {
        self.cells.truncate(seq_id, 0);
        self.free_seq_ids.push(seq_id);
        // A poisoned context has no cells to free; it is rebuilt before the next decode.
        let _ = self.backend.forget(seq_id);
        self.bump_epoch();
    }

    /// Frees a seat whose tokens may be wanted again: they rest in host memory if they may.
    pub(crate) fn offload(&mut self, seq_id: usize, tokens: Vec<TokenId>) {
        if self.prefixes.can_offload()
            && self.prefixes.is_worth_keeping(&tokens)
            && let Ok(Some(state)) = self.backend.save(seq_id, self.prefixes.limit())
        {
            self.prefixes.offload(tokens, state);
        }
        self.free(seq_id);
    }

    /// A sequence has ended: its cells stay for others to begin with, within the share of idle beginnings.
    pub(crate) fn release(&mut self, seq_id: usize, tokens: Vec<TokenId>) {
        if !self.prefixes.is_worth_keeping(&tokens) {
            return self.free(seq_id);
        }
        for needless in self.prefixes.insert(seq_id, tokens) {
            self.free(needless);
        }
        self.bump_epoch();
    }

    /// Moves one idle beginning beyond the share of the pool out of it; `false` if there was none.
    pub(crate) fn trim(&mut self) -> bool {
        let surplus = self.prefixes.surplus(self.cells.capacity());
        if let Some(seq_id) = surplus {
            self.drop_cached(seq_id);
        }
        surplus.is_some()
    }

    /// Takes an idle beginning out of the pool.
    pub(crate) fn drop_cached(&mut self, seq_id: usize) {
        if let Some(tokens) = self.prefixes.remove_from_pool(seq_id) {
            self.offload(seq_id, tokens);
        }
    }

    /// The context was lost: nobody sits anywhere.
    pub(crate) fn reset(&mut self) {
        self.prefixes.lose_pool();
        self.cells = Cells::new(self.limits.cells, self.limits.n_seq);
        self.free_seq_ids = (0..self.limits.n_seq).rev().collect();
        self.bump_epoch();
    }

    /// Makes a lost context again.
    pub(crate) fn rebuild(&mut self) -> Result<(), Error> {
        self.backend.rebuild()
    }
}
