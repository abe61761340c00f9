//! The backend's pool of cells with its books: who sits where, what is shared, what rests.

use mullama_ffi::{Error, TokenId};

use super::backend::{Backend, Limits};
use crate::cells::Cells;
use crate::prefix::{Beginning, Prefixes, Source};

/// A backend and all that is known about its cells.
#[derive(Debug)]
pub(crate) struct KvPool<B> {
    backend: B,
    limits: Limits,
    cells: Cells,
    free_seats: Vec<usize>,
    prefixes: Prefixes,
    /// Grows when a beginning may have appeared or gone; what was looked up before is then stale.
    epoch: u64,
}

impl<B: Backend> KvPool<B> {
    /// An empty pool that may rest this many bytes in host memory.
    pub(crate) fn new(backend: B, prefix_cache_bytes: usize) -> Self {
        let limits = backend.limits();
        Self {
            cells: Cells::new(limits.cells, limits.seats),
            free_seats: (0..limits.seats).rev().collect(),
            prefixes: Prefixes::new(prefix_cache_bytes, limits.reuse),
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

    pub(crate) fn prefixes(&self) -> &Prefixes {
        &self.prefixes
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Something was computed that others may begin with.
    pub(crate) fn announce(&mut self) {
        self.epoch += 1;
    }

    /// An empty seat.
    pub(crate) fn sit(&mut self) -> usize {
        self.free_seats.pop().expect("the plan counts seats")
    }

    /// Lets an empty seat begin with what somebody has computed, if `spare` cells are enough for it; how many tokens it
    /// has now.
    pub(crate) fn adopt(&mut self, seat: usize, beginning: Beginning, spare: usize) -> usize {
        let shared = beginning.shared;
        let adopted = match beginning.source {
            Source::Seat(from) => {
                let shared_cells = self.backend.share(from, seat, shared).unwrap_or(false);
                if shared_cells {
                    self.cells.share(from, seat, shared);
                }
                shared_cells
            }
            Source::Host { name, tokens } => tokens <= spare && self.bring_back(seat, name, tokens, shared),
        };
        if !adopted {
            return 0;
        }
        self.prefixes.used(beginning.source);
        shared
    }

    /// Copies a beginning back from host memory and cuts it to what serves.
    fn bring_back(&mut self, seat: usize, name: u64, tokens: usize, shared: usize) -> bool {
        let Some(state) = self.prefixes.state(name) else { return false };
        let came = self.backend.restore(seat, state).and_then(|()| self.backend.truncate(seat, shared, tokens));
        if came.unwrap_or(false) {
            self.cells.extend(seat, shared);
            return true;
        }
        // Whatever came of it is computed again. A poisoned context fails at the next decode.
        let _ = self.backend.forget(seat);
        false
    }

    /// Rows of this seat were computed.
    pub(crate) fn extend(&mut self, seat: usize, rows: usize) {
        self.cells.extend(seat, rows);
    }

    /// Frees a seat and its cells.
    pub(crate) fn free(&mut self, seat: usize) {
        self.cells.truncate(seat, 0);
        self.free_seats.push(seat);
        // A poisoned context has no cells to free; it is rebuilt before the next decode.
        let _ = self.backend.forget(seat);
        self.announce();
    }

    /// Frees a seat whose tokens may be wanted again: they rest in host memory if they may.
    pub(crate) fn put_away(&mut self, seat: usize, tokens: Vec<TokenId>) {
        if self.prefixes.can_rest()
            && self.prefixes.wants(&tokens)
            && let Ok(Some(state)) = self.backend.save(seat, self.prefixes.limit())
        {
            self.prefixes.rest(tokens, state);
        }
        self.free(seat);
    }

    /// A sequence has ended: its cells stay for others to begin with, within the share of idle beginnings.
    pub(crate) fn retire(&mut self, seat: usize, tokens: Vec<TokenId>) {
        if !self.prefixes.wants(&tokens) {
            return self.free(seat);
        }
        for needless in self.prefixes.keep(seat, tokens) {
            self.free(needless);
        }
        self.announce();
    }

    /// Moves one idle beginning beyond the share of the pool out of it; `false` if there was none.
    pub(crate) fn tidy(&mut self) -> bool {
        let surplus = self.prefixes.surplus(self.cells.capacity());
        if let Some(seat) = surplus {
            self.drop_idle(seat);
        }
        surplus.is_some()
    }

    /// Takes an idle beginning out of the pool.
    pub(crate) fn drop_idle(&mut self, seat: usize) {
        if let Some(tokens) = self.prefixes.release(seat) {
            self.put_away(seat, tokens);
        }
    }

    /// The context was lost: nobody sits anywhere.
    pub(crate) fn lose(&mut self) {
        self.prefixes.lose_pool();
        self.cells = Cells::new(self.limits.cells, self.limits.seats);
        self.free_seats = (0..self.limits.seats).rev().collect();
        self.announce();
    }

    /// Makes a lost context again.
    pub(crate) fn rebuild(&mut self) -> Result<(), Error> {
        self.backend.rebuild()
    }
}
