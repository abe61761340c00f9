//! What the engine needs of whatever computes logits and keeps the KV of what it computed.

#![cfg_attr(not(feature = "test-support"), expect(unreachable_pub, reason = "a stage of `testing` shows it"))]

use std::ops::Range;

use mullama_ffi::{CpuContention, Error, TokenId};

use crate::kv::prefix_cache::Reuse;

/// One row of a decode: a token at a position of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The token.
    pub token: TokenId,
    /// Its position in the sequence, from 0.
    pub position: usize,
    /// The sequence whose cells the row extends, below [`Limits::n_seq`].
    pub seq_id: usize,
    /// Whether its logits are wanted.
    pub output: bool,
}

/// How much a backend holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most rows of one decode.
    pub rows: usize,
    /// Cells of the KV pool: tokens that all sequences together may hold.
    pub cells: usize,
    /// Sequences that may hold cells at once.
    pub n_seq: usize,
    /// What parts of a sequence's KV another sequence can take over.
    pub reuse: Reuse,
}

/// Computes logits for rows of tokens, and keeps the KV of what it computed.
pub trait Backend {
    /// How much it holds.
    fn limits(&self) -> Limits;

    /// Computes all rows in one call; positions of a sequence continue where its cells end. It may return before the work is
    /// finished: see [`synchronize`](Self::synchronize).
    ///
    /// # Errors
    /// [`Error::NoKvSlot`] and [`Error::Aborted`] leave earlier cells as they were or shorter; an error that
    /// [`poisons`](Error::poisons) means that nothing but [`rebuild`](Self::rebuild) may follow.
    fn decode(&mut self, rows: &[Row]) -> Result<(), Error>;

    /// Waits until all decodes have been computed. A step ends here, also one that wants no logits: its cost is learnt
    /// from finished work, and a reader that leaves waits for one step at most. What is lost is the overlap of one
    /// launch per step, because llama.cpp itself waits before it overwrites the inputs of the step before.
    ///
    /// # Errors
    /// What the device reports.
    fn synchronize(&mut self) -> Result<(), Error>;

    /// How many compute threads waited for a core, where the last decode completed a reading.
    fn contention(&self) -> Option<CpuContention>;

    /// Logits of a row of the last decode, by its index; one for each token of the vocabulary.
    ///
    /// # Errors
    /// If the row asked for no output.
    fn logits(&self, row: usize) -> Result<&[f32], Error>;

    /// Frees all cells of a sequence.
    ///
    /// # Errors
    /// If the context is poisoned.
    fn forget(&mut self, seq_id: usize) -> Result<(), Error>;

    /// Lets the empty sequence `to` start with the first `tokens` of `from`, sharing their cells; `false` with `to` empty if
    /// the model's memory cannot do that.
    ///
    /// # Errors
    /// If the context is poisoned.
    fn share(&mut self, from: usize, to: usize, tokens: usize) -> Result<bool, Error>;

    /// The KV of some tokens of a sequence as bytes, for [`restore`](Self::restore); `None` if that were more than `limit`
    /// bytes. A model with [`Reuse::Whole`] is asked for all tokens only.
    ///
    /// # Errors
    /// What llama.cpp refuses.
    fn save(&mut self, seq_id: usize, tokens: Range<usize>, limit: usize) -> Result<Option<Vec<u8>>, Error>;

    /// Appends a saved state to a sequence that holds all tokens before it; `false` if the model's memory cannot do that.
    ///
    /// # Errors
    /// What llama.cpp refuses. What the sequence then holds is undefined, until [`forget`](Self::forget).
    fn restore(&mut self, seq_id: usize, tokens: Range<usize>, state: &[u8]) -> Result<bool, Error>;

    /// Cuts a sequence of `of` tokens to its first `keep`; `false` if the model's memory cannot do that.
    ///
    /// # Errors
    /// If the context is poisoned.
    fn truncate(&mut self, seq_id: usize, keep: usize, of: usize) -> Result<bool, Error>;

    /// Computes with this many threads from now on.
    ///
    /// # Errors
    /// If the threads cannot be started.
    fn set_threads(&mut self, threads: u32) -> Result<(), Error>;

    /// Makes another backend over the same model, empty, for one sequence of at most `tokens`, `rows` of them in a decode
    /// call. The bits that it computes depend on nothing but these two and the rows.
    ///
    /// # Errors
    /// What llama.cpp says if it cannot make a context.
    fn isolated(&self, tokens: usize, rows: usize) -> Result<Self, Error>
    where
        Self: Sized;

    /// Discards everything computed, and makes a new context after a failure.
    ///
    /// # Errors
    /// What llama.cpp says if it cannot make a context.
    fn rebuild(&mut self) -> Result<(), Error>;

    /// Lets threads that wait for work sleep; the engine is about to.
    fn rest(&mut self);
}
