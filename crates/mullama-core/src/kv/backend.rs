//! The engine's interface to the backend that computes logits and keeps the KV of computed tokens.

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
    /// The seq_id whose cells the row extends, below [`Limits::n_seq`].
    pub seq_id: usize,
    /// Whether its logits are needed.
    pub output: bool,
}

/// The capacity of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of rows of one decode.
    pub rows: usize,
    /// Cells of the KV pool: the number of tokens that all sequences together may hold.
    pub cells: usize,
    /// Number of sequences that may hold cells at once.
    pub n_seq: usize,
    /// Which parts of a sequence's KV another sequence can take over.
    pub reuse: Reuse,
}

/// Computes logits for rows of tokens, and keeps the KV of the computed tokens.
pub trait Backend: Send + 'static {
    /// The capacity of the backend.
    fn limits(&self) -> Limits;

    /// Computes all rows in one call; the positions of each sequence continue where its cells end. It may return before
    /// the work finished: see [`synchronize`](Self::synchronize).
    ///
    /// # Errors
    /// [`Error::NoKvSlot`] and [`Error::Aborted`] leave earlier cells as they were or shorter; an error that
    /// [`poisons`](Error::poisons) the context means that only [`rebuild`](Self::rebuild) may follow.
    fn decode(&mut self, rows: &[Row]) -> Result<(), Error>;

    /// Waits until all decodes have been computed. Every step ends here, even if it needs no logits: its cost is learnt
    /// from finished work, and a reader that leaves waits for at most one step. The price is that the launch of the
    /// next step does not overlap, once per step, because llama.cpp itself waits before it overwrites the inputs of the
    /// previous step.
    ///
    /// # Errors
    /// The error that the device reports.
    fn synchronize(&mut self) -> Result<(), Error>;

    /// The number of compute threads that waited for a core, if the last decode completed a reading.
    fn contention(&self) -> Option<CpuContention>;

    /// Logits of a row of the last decode, by its index; one for each token of the vocabulary.
    ///
    /// # Errors
    /// If the row did not ask for output.
    fn logits(&self, row: usize) -> Result<&[f32], Error>;

    /// Frees all cells of a sequence.
    ///
    /// # Errors
    /// If the context is poisoned.
    fn forget(&mut self, seq_id: usize) -> Result<(), Error>;

    /// Lets the empty sequence `to` start with the first `tokens` of `from` by sharing their cells; returns `false` and
    /// leaves
    /// `to` empty if the model's memory does not support that.
    ///
    /// # Errors
    /// If the context is poisoned.
    fn share(&mut self, from: usize, to: usize, tokens: usize) -> Result<bool, Error>;

    /// Saves the KV of some tokens of a sequence as bytes, for [`restore`](Self::restore); `None` if it takes more than
    /// `limit` bytes. For a model with [`Reuse::Whole`] the range is always all tokens.
    ///
    /// # Errors
    /// The error of llama.cpp.
    fn save(&mut self, seq_id: usize, tokens: Range<usize>, limit: usize) -> Result<Option<Vec<u8>>, Error>;

    /// Appends a saved state to a sequence that holds all earlier tokens; `false` if the model's memory does not
    /// support that.
    ///
    /// # Errors
    /// The error of llama.cpp. The content of the sequence is then undefined until [`forget`](Self::forget).
    fn restore(&mut self, seq_id: usize, tokens: Range<usize>, state: &[u8]) -> Result<bool, Error>;

    /// Truncates a sequence of `of` tokens to the first `keep`; `false` if the model's memory does not support that.
    ///
    /// # Errors
    /// If the context is poisoned.
    fn truncate(&mut self, seq_id: usize, keep: usize, of: usize) -> Result<bool, Error>;

    /// Sets the number of compute threads for later decodes.
    ///
    /// # Errors
    /// If the threads cannot be started.
    fn set_threads(&mut self, threads: u32) -> Result<(), Error>;

    /// Returns what creates, on any thread, another, empty backend over the same model, for one sequence of at most `tokens` tokens, with `rows` of
    /// them per decode call. The bits that it computes depend only on these two numbers and on the rows.
    ///
    /// The creation fails with the error of llama.cpp if that cannot create a context.
    fn isolated(&self, tokens: usize, rows: usize) -> Box<dyn FnOnce() -> Result<Self, Error> + Send>
    where
        Self: Sized;

    /// Discards everything that was computed, and creates a new context after a failure.
    ///
    /// # Errors
    /// The error of llama.cpp if it cannot create a context.
    fn rebuild(&mut self) -> Result<(), Error>;

    /// Pauses compute threads that spin for work, because the engine is about to sleep.
    fn pause_threads(&mut self);
}
