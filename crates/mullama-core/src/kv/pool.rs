//! The KV pool and its bookkeeping: which seq_id holds which cells, what is shared, what is cached.
//!
//! The cells of a finished sequence stay in the pool until their cells or seq_ids are needed. A prefix is copied to
//! host memory in only three cases, the least recently used first:
//!
//! 1. Few cells or no seq_ids are free: it is copied in advance, and leaves the pool when the scheduler decides so.
//! 2. Since it was last used, its idle cells have slowed steps down by more than a copy to host memory and back costs,
//!    or they will slow the current streams down by that much. Then it leaves at once, before those streams take cells
//!    above it.
//! 3. The scheduler needs its cells or its seq_id now.
//!
//! Copies are made in parts, within the time by which a step may be delayed. If time or host memory does not suffice
//! for the rest of a prefix, the second case waits, and the other cases keep the part that was copied.

use std::sync::Arc;
use std::time::Duration;

use mullama_ffi::{Error, TokenId};

use crate::clock::Clock;
use crate::kv::backend::{Backend, Limits, Row};
use crate::kv::cells::Cells;
use crate::kv::costs::{KvCosts, Work, float};
use crate::kv::prefix_cache::{PrefixCache, PrefixMatch, PrefixSource, Reuse};

/// Prefixes are copied in advance when less than this share of the cells is free.
const RESERVE_SHARE: usize = 16;

/// A backend and the bookkeeping of its cells.
#[derive(Debug)]
pub(crate) struct KvPool<B> {
    backend: B,
    limits: Limits,
    cells: Cells,
    free_seq_ids: Vec<usize>,
    prefixes: PrefixCache,
    /// Incremented when a prefix may have appeared or disappeared; results of earlier searches are then stale.
    epoch: u64,
    clock: Arc<dyn Clock>,
    costs: KvCosts,
    /// Remaining time that copies may take in this step.
    copy_budget: Duration,
    transfers: Transfers,
}

/// Counts copies of KV.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Transfers {
    /// Parts of prefixes that were offloaded to host memory.
    pub(crate) offloads: u64,
    /// Prefixes that were restored.
    pub(crate) restores: u64,
}

impl<B: Backend> KvPool<B> {
    /// Creates an empty pool that may keep this many bytes in host memory.
    pub(crate) fn new(backend: B, prefix_cache_bytes: usize, clock: Arc<dyn Clock>) -> Self {
        let limits = backend.limits();
        Self {
            cells: Cells::new(limits.cells, limits.n_seq),
            free_seq_ids: (0..limits.n_seq).rev().collect(),
            prefixes: PrefixCache::new(prefix_cache_bytes, limits.reuse),
            backend,
            limits,
            epoch: 0,
            clock,
            costs: KvCosts::default(),
            copy_budget: Duration::ZERO,
            transfers: Transfers::default(),
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

    pub(crate) fn transfers(&self) -> Transfers {
        self.transfers
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Begins a step, which copies may delay up to their limit. The current streams need `upcoming` more rows. Makes
    /// the copies that are worthwhile; returns whether there was something to do.
    pub(crate) fn begin_step(&mut self, beside_running: bool, upcoming: usize) -> bool {
        self.copy_budget = self.costs.copy_budget(beside_running);
        let mut moved = false;
        while let Some(seq_id) = self.costly(upcoming)
            && self.offload_costly(seq_id)
        {
            moved = true;
        }
        if moved {
            return true;
        }
        let scarce = self.cells.capacity() - self.cells.used() < self.cells.capacity() / RESERVE_SHARE
            || self.free_seq_ids.is_empty();
        let next = self.prefixes.next_to_copy().filter(|_| scarce);
        next.is_some_and(|seq_id| self.copy_part(seq_id))
    }

    /// The prefix whose idle cells, in past steps and in `upcoming` rows, cost more than a copy out of the pool and
    /// back. If other sequences share most of its cells, those would stay in the pool, and nothing would be gained.
    fn costly(&self, upcoming: usize) -> Option<usize> {
        let cell = self.costs.idle_cell();
        self.prefixes.costly(|seq_id, tokens, cost| {
            cost + cell * float(tokens) * float(upcoming) > self.costs.out_and_back(tokens)
                && self.cells.shared_of(seq_id) * 2 <= self.cells.of(seq_id)
        })
    }

    /// Sets how many bytes cached prefixes may have in host memory from now on, and drops the oldest ones beyond that.
    pub(crate) fn limit_host_bytes(&mut self, limit: usize) {
        if self.prefixes.set_limit(limit) {
            self.epoch += 1;
        }
    }

    /// Offloads a costly prefix, or a part of it; returns whether there was time for that.
    fn offload_costly(&mut self, seq_id: usize) -> bool {
        let copied = self.copy_part(seq_id);
        if self.prefixes.is_copied(seq_id) {
            self.prefixes.leave_pool(seq_id);
            self.free(seq_id);
            return true;
        }
        copied
    }

    /// Copies the next part of a prefix in the pool if this step has time for it; returns whether it did.
    fn copy_part(&mut self, seq_id: usize) -> bool {
        let most = match self.limits.reuse {
            Reuse::Whole if !self.costs.knows_copies() => usize::MAX,
            _ => self.costs.tokens_within(self.copy_budget),
        };
        let Some(part) = self.prefixes.next_part(seq_id, most) else { return false };
        let began = self.clock.now();
        let saved = self.backend.save(seq_id, part.clone(), self.prefixes.room_for_copies());
        let took = self.clock.now().saturating_sub(began);
        self.copy_budget = self.copy_budget.saturating_sub(took);
        let Ok(Some(state)) = saved else {
            self.prefixes.refuse(seq_id);
            return false;
        };
        self.costs.learn_copy(part.len(), took);
        self.transfers.offloads += 1;
        self.prefixes.add_part(seq_id, part.end, state);
        true
    }

    /// Records a computed step: learns its cost, and charges idle prefixes for their cells.
    pub(crate) fn learn(&mut self, rows: &[Row], prefill: usize, took: Duration) {
        let attended = rows.iter().map(|row| row.position + 1).sum();
        let scanned = self.cells.extent() + rows.len();
        self.costs.learn_step(Work { decode: rows.len() - prefill, prefill, attended, scanned }, took);
        self.prefixes.charge(self.costs.idle_cell() * float(rows.len()));
        if prefill > 0 {
            // A computed prompt is a prefix that others can share.
            self.epoch += 1;
        }
    }

    /// Takes the seq_id of an empty sequence.
    pub(crate) fn take_seq_id(&mut self) -> usize {
        self.free_seq_ids.pop().expect("the plan counts n_seq")
    }

    /// Lets an empty sequence take over a computed prefix if `spare` cells are enough for it; returns how many tokens
    /// it has then.
    pub(crate) fn adopt(&mut self, seq_id: usize, prefix: PrefixMatch, spare: usize) -> usize {
        let shared = prefix.shared;
        let adopted = match prefix.source {
            PrefixSource::Sequence { seq_id: from } => {
                let is_shared = self.backend.share(from, seq_id, shared).unwrap_or(false);
                if is_shared {
                    self.cells.share(from, seq_id, shared);
                }
                is_shared
            }
            PrefixSource::Host { name, tokens } => tokens <= spare && self.restore(seq_id, name, tokens, shared),
        };
        if !adopted {
            return 0;
        }
        self.prefixes.used(prefix.source);
        shared
    }

    /// Restores a prefix from host memory and truncates it to the usable part.
    fn restore(&mut self, seq_id: usize, name: u64, tokens: usize, shared: usize) -> bool {
        let began = self.clock.now();
        let mut end = 0;
        for (part_end, state) in self.prefixes.parts(name, tokens) {
            if !self.backend.restore(seq_id, end..part_end, state).unwrap_or(false) {
                break;
            }
            end = part_end;
        }
        self.costs.learn_copy(end, self.clock.now().saturating_sub(began));
        if end == tokens && self.backend.truncate(seq_id, shared, tokens).unwrap_or(false) {
            self.cells.extend(seq_id, shared);
            self.transfers.restores += 1;
            return true;
        }
        // The sequence is freed and its tokens are recomputed. A poisoned context fails at the next decode.
        let _ = self.backend.forget(seq_id);
        false
    }

    /// Records that rows of this sequence were computed.
    pub(crate) fn extend(&mut self, seq_id: usize, rows: usize) {
        self.cells.extend(seq_id, rows);
    }

    /// Frees a seq_id and its cells.
    pub(crate) fn free(&mut self, seq_id: usize) {
        self.cells.truncate(seq_id, 0);
        self.free_seq_ids.push(seq_id);
        // A poisoned context has no cells to free; it is rebuilt before the next decode.
        let _ = self.backend.forget(seq_id);
        self.epoch += 1;
    }

    /// Frees a preempted sequence, whose tokens will be needed again.
    pub(crate) fn offload(&mut self, seq_id: usize, tokens: Vec<TokenId>) {
        self.release(seq_id, tokens);
        self.drop_cached(seq_id);
    }

    /// Takes over the cells of a sequence that has ended, as a cached prefix.
    pub(crate) fn release(&mut self, seq_id: usize, tokens: Vec<TokenId>) {
        if !self.prefixes.is_worth_keeping(&tokens) {
            return self.free(seq_id);
        }
        for needless in self.prefixes.insert(seq_id, tokens) {
            self.free(needless);
        }
        self.epoch += 1;
    }

    /// Removes a cached prefix from the pool, because its cells or seq_id are needed. Host memory keeps as much of it
    /// as there is time to copy.
    pub(crate) fn drop_cached(&mut self, seq_id: usize) {
        while self.copy_part(seq_id) {}
        if self.prefixes.leave_pool(seq_id) {
            self.free(seq_id);
        }
    }

    /// Forgets all cells after the context was lost.
    pub(crate) fn reset(&mut self) {
        self.prefixes.lose_pool();
        self.cells = Cells::new(self.limits.cells, self.limits.n_seq);
        self.free_seq_ids = (0..self.limits.n_seq).rev().collect();
        self.epoch += 1;
    }

    /// Rebuilds a lost context.
    pub(crate) fn rebuild(&mut self) -> Result<(), Error> {
        self.backend.rebuild()
    }
}
