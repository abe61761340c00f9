//! Counts the cells of the KV pool as llama.cpp does: a cell that several sequences share is one cell.
//!
//! Pure bookkeeping that mirrors the real pool, so that the scheduler can evaluate hypothetical changes.

use std::collections::BTreeSet;

/// Which cells each sequence holds, and how many sequences hold each cell.
#[derive(Debug, Clone)]
pub(crate) struct Cells {
    /// Number of sequences that hold each cell, up to the highest cell in use.
    holders: Vec<u16>,
    /// Free cells below the highest cell in use.
    free: BTreeSet<u32>,
    /// Where llama.cpp starts to search for the next free cell.
    head: u32,
    sequences: Vec<Vec<u32>>,
    capacity: usize,
    /// Number of cells with more than one holder.
    shared: usize,
}

impl Cells {
    /// Creates an empty pool.
    pub(crate) fn new(capacity: usize, n_seq: usize) -> Self {
        Self {
            holders: Vec::new(),
            free: BTreeSet::new(),
            head: 0,
            sequences: vec![Vec::new(); n_seq],
            capacity,
            shared: 0,
        }
    }

    /// Number of cells of the pool.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Number of cells in use.
    pub(crate) fn used(&self) -> usize {
        self.holders.len() - self.free.len()
    }

    /// Number of cells of one sequence, including shared ones.
    pub(crate) fn of(&self, seq_id: usize) -> usize {
        self.sequences[seq_id].len()
    }

    /// Number of cells that more than one sequence holds.
    pub(crate) fn shared(&self) -> usize {
        self.shared
    }

    /// Number of cells of one sequence that others hold as well.
    pub(crate) fn shared_of(&self, seq_id: usize) -> usize {
        self.sequences[seq_id].iter().filter(|&&cell| self.holders[cell as usize] > 1).count()
    }

    /// How far attention scans: up to the highest cell in use. As in llama.cpp, except where sliding windows
    /// free cells or a step is split, so it is an estimate.
    pub(crate) fn extent(&self) -> usize {
        self.holders.len()
    }

    /// Gives a sequence more cells. The plan has made sure that there are enough.
    pub(crate) fn extend(&mut self, seq_id: usize, cells: usize) {
        if self.head as usize > self.used() + 2 * cells {
            self.head = 0;
        }
        for _ in 0..cells {
            let cell = self.take_free();
            self.holders[cell as usize] = 1;
            self.sequences[seq_id].push(cell);
            self.head = cell + 1;
        }
    }

    /// The first free cell at or after the head; if there is none, the first free cell of all.
    fn take_free(&mut self) -> u32 {
        let behind = self.free.range(self.head..).next().copied();
        let grows = self.holders.len() < self.capacity;
        if let Some(cell) = behind.or_else(|| self.free.first().copied().filter(|_| !grows)) {
            self.free.remove(&cell);
            cell
        } else {
            self.holders.push(0);
            u32::try_from(self.holders.len() - 1).expect("a pool has far fewer cells than 2^32")
        }
    }

    /// Lets the empty sequence `to` hold the first `cells` cells of `from` as well.
    pub(crate) fn share(&mut self, from: usize, to: usize, cells: usize) {
        let shared = self.sequences[from][..cells].to_vec();
        for &cell in &shared {
            self.holders[cell as usize] += 1;
            self.shared += usize::from(self.holders[cell as usize] == 2);
        }
        self.sequences[to] = shared;
    }

    /// Frees a sequence's cells after the first `keep`.
    pub(crate) fn truncate(&mut self, seq_id: usize, keep: usize) {
        while self.sequences[seq_id].len() > keep {
            let Some(cell) = self.sequences[seq_id].pop() else { return };
            self.holders[cell as usize] -= 1;
            self.shared -= usize::from(self.holders[cell as usize] == 1);
            if self.holders[cell as usize] == 0 {
                self.free.insert(cell);
            }
        }
        while self.holders.last() == Some(&0) {
            self.holders.pop();
            self.free.pop_last();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_shared_cell_becomes_free_with_its_last_holder() {
        let mut cells = Cells::new(100, 3);
        cells.extend(0, 10);
        cells.share(0, 1, 6);
        cells.extend(1, 2);
        assert_eq!((cells.used(), cells.of(1), cells.shared()), (12, 8, 6));
        cells.truncate(0, 0);
        assert_eq!((cells.used(), cells.shared()), (8, 0));
        cells.truncate(1, 0);
        assert_eq!(cells.used(), 0);
    }

    proptest! {
        #[test]
        fn the_used_cells_are_those_with_a_holder(moves in prop::collection::vec((0_u8..3, 0_usize..4, 0_usize..4, 0_usize..20), 0..60)) {
            let mut cells = Cells::new(10_000, 4);
            for (kind, seq_id, other, n) in moves {
                match kind {
                    0 => cells.extend(seq_id, n),
                    1 => cells.truncate(seq_id, n),
                    _ if cells.of(other) == 0 && seq_id != other => cells.share(seq_id, other, n.min(cells.of(seq_id))),
                    _ => {}
                }
                let held: std::collections::HashSet<u32> = cells.sequences.iter().flatten().copied().collect();
                prop_assert_eq!(held.len(), cells.used());
                prop_assert_eq!(held.iter().max().map_or(0, |&highest| highest as usize + 1), cells.extent());
            }
        }
    }
}
