//! A separate context for deterministic streams, one at a time, so that only the stream itself determines its bits.
//!
//! llama.cpp's kernels choose their order of summation by the number of rows, the range of cells and the number of
//! threads. In the shared pool all three depend on other streams: attention in tiles, or divided between threads,
//! groups the cells differently when they lie elsewhere. Here a stream's cells start at the first one, its prompt is
//! computed in chunks of one size and its tokens one by one, and either the sums do not depend on the number of threads
//! or it never changes.

use std::time::Duration;

use mullama_ffi::{CpuContention, Error, TokenId};

use crate::engine::creation::Creation;
use crate::engine::sequence::Sequence;
use crate::kv::backend::{Backend, Row};
use crate::kv::pool::Transfers;
use crate::kv::prefix_cache::common;
use crate::stream::StreamId;

/// The only sequence id of the context.
const SEQ_ID: usize = 0;

/// The KV of a stream that was preempted, as bytes.
#[derive(Debug)]
struct Offloaded {
    id: StreamId,
    state: Vec<u8>,
}

/// The context, and which stream's tokens it holds.
#[derive(Debug)]
pub(super) struct Isolated<B> {
    /// Created for the first deterministic stream.
    context: Creation<B>,
    /// The number of compute threads that was last requested for the context.
    threads: u32,
    /// Maximum number of tokens of one sequence.
    context_len: usize,
    /// Tokens of a prompt per decode call.
    chunk: usize,
    /// The running stream whose tokens are in the cells.
    holder: Option<StreamId>,
    /// Number of tokens in the cells.
    held: usize,
    /// The held tokens that were computed as whole chunks of a prompt: any prompt with the same start gets the same
    /// bits.
    whole_chunks: Vec<TokenId>,
    /// Preempted streams, the longest ago first.
    offloaded: Vec<Offloaded>,
    /// Maximum bytes of offloaded streams; a stream that does not fit is computed again, token by token.
    limit: usize,
    transfers: Transfers,
}

/// What it took to give the cells to a sequence.
#[derive(Debug, Default)]
pub(super) struct Handover {
    /// Prompt tokens of the sequence that need not be computed.
    pub(super) saved: usize,
    /// Whether an unfinished stream lost the cells.
    pub(super) swapped: bool,
    /// Tokens of that stream of which there is no copy, so that they must be computed again.
    pub(super) lost: usize,
}

impl<B: Backend> Isolated<B> {
    pub(super) fn new(context: Creation<B>, context_len: usize, chunk: usize, limit: usize) -> Self {
        Self {
            context,
            context_len,
            threads: 0,
            chunk,
            holder: None,
            held: 0,
            whole_chunks: Vec::new(),
            offloaded: Vec::new(),
            limit,
            transfers: Transfers::default(),
        }
    }

    /// The running stream whose tokens are in the cells.
    pub(super) fn holder(&self) -> Option<StreamId> {
        self.holder
    }

    /// Bytes of offloaded streams.
    pub(super) fn host_bytes(&self) -> usize {
        self.offloaded.iter().map(|offloaded| offloaded.state.len()).sum()
    }

    /// Numbers of copies to host memory and back.
    pub(super) fn transfers(&self) -> Transfers {
        self.transfers
    }

    /// Creates a context like `other`'s beside the running streams, if there is none and none was refused a moment ago.
    /// Returns whether that is over, so that a stream can be computed or told why not.
    pub(super) fn prepare(&mut self, other: &B, now: Duration) -> bool {
        let (context_len, chunk) = (self.context_len, self.chunk);
        self.context.start(now, || other.isolated(context_len, chunk));
        self.context.is_over(now)
    }

    /// Sets the number of compute threads. If that fails, the context keeps the number that it has.
    pub(super) fn set_threads(&mut self, threads: u32) {
        if self.threads == threads {
            return;
        }
        self.threads = threads;
        if let Ok(Err(error)) = self.context.get().map(|context| context.set_threads(threads)) {
            tracing::warn!(target: "mullama", %error, threads, "cannot change the number of threads");
        }
    }

    /// Computes rows, and waits until they are computed.
    pub(super) fn decode(&mut self, rows: &[Row]) -> Result<(), Error> {
        let context = self.context.get()?;
        context.decode(rows).and_then(|()| context.synchronize())
    }

    /// The number of compute threads that waited for a core, if the last decode completed a reading.
    pub(super) fn contention(&self) -> Option<CpuContention> {
        self.context.done()?.contention()
    }

    /// The logits of a row of the last decode.
    pub(super) fn logits(&self, row: usize) -> Result<&[f32], Error> {
        self.context.done().ok_or(Error::Poisoned)?.logits(row)
    }

    /// Gives the cells to a sequence and reuses what is already computed of it.
    pub(super) fn hold(&mut self, sequences: &mut [Sequence], at: usize) -> Result<Handover, Error> {
        let id = sequences[at].id();
        if self.holder == Some(id) && sequences[at].computed() == self.held {
            return Ok(Handover::default());
        }
        let mut handover = Handover::default();
        if let Some(other) = sequences.iter().find(|other| Some(other.id()) == self.holder && other.id() != id) {
            handover.swapped = true;
            handover.lost = if self.offload(other)? { 0 } else { other.computed() };
        }
        let sequence = &mut sequences[at];
        if !self.restore(sequence)? {
            handover.saved = self.start_over(sequence)?;
        }
        self.holder = Some(id);
        Ok(handover)
    }

    /// Offloads the cells of the stream that is preempted to host memory; `false` if there is no copy. A copy that fails
    /// must not fail the stream that wants the cells, so only a context that can no longer be used is an error.
    fn offload(&mut self, holder: &Sequence) -> Result<bool, Error> {
        let context = self.context.get()?;
        if holder.computed() != self.held {
            return Ok(false);
        }
        let state = match context.save(SEQ_ID, 0..self.held, self.limit) {
            Ok(Some(state)) => state,
            Ok(None) => return Ok(false),
            Err(error) if error.poisons() => return Err(error),
            Err(error) => {
                tracing::warn!(target: "mullama", %error, "a deterministic stream must be computed again");
                return Ok(false);
            }
        };
        let mut bytes = self.host_bytes() + state.len();
        while bytes > self.limit {
            bytes -= self.offloaded.remove(0).state.len();
        }
        self.offloaded.push(Offloaded { id: holder.id(), state });
        self.transfers.offloads += 1;
        Ok(true)
    }

    /// Restores the offloaded cells of a stream; `false` if there is no copy.
    fn restore(&mut self, sequence: &Sequence) -> Result<bool, Error> {
        let Some(at) = self.offloaded.iter().position(|offloaded| offloaded.id == sequence.id()) else {
            return Ok(false);
        };
        let state = self.offloaded.remove(at).state;
        if sequence.computed() == 0 {
            return Ok(false);
        }
        self.clear()?;
        let context = self.context.get()?;
        match context.restore(SEQ_ID, 0..sequence.computed(), &state) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) => return if error.poisons() { Err(error) } else { Ok(false) },
        }
        self.transfers.restores += 1;
        self.held = sequence.computed();
        let prompt = sequence.prompt_tokens().min(sequence.computed());
        self.whole_chunks = sequence.tokens()[..prompt - prompt % self.chunk].to_vec();
        Ok(true)
    }

    /// Starts a stream with the whole chunks that its prompt shares with the tokens in the cells.
    fn start_over(&mut self, sequence: &mut Sequence) -> Result<usize, Error> {
        // The last token of the prompt must be computed, because its logits are needed.
        let shared = common(&self.whole_chunks, sequence.tokens()).min(sequence.prompt_tokens() - 1);
        let keep = shared - shared % self.chunk;
        let context = self.context.get()?;
        if keep > 0 && context.truncate(SEQ_ID, keep, self.held)? {
            self.held = keep;
            self.whole_chunks.truncate(keep);
        } else {
            self.clear()?;
        }
        Ok(sequence.reuse_prefix(self.held))
    }

    /// Frees all cells.
    pub(super) fn clear(&mut self) -> Result<(), Error> {
        self.holder = None;
        self.held = 0;
        self.whole_chunks.clear();
        self.context.get().map_or(Ok(()), |context| context.forget(SEQ_ID))
    }

    /// The next rows of the sequence that holds the cells: a chunk of its prompt, or one token.
    pub(super) fn rows(&self, sequence: &Sequence) -> impl Iterator<Item = Row> {
        let rows = match sequence.prompt_tokens().saturating_sub(sequence.computed()) {
            0 => 1,
            left => left.min(self.chunk),
        };
        sequence.rows(rows).map(|(token, position, output)| Row { token, position, seq_id: SEQ_ID, output })
    }

    /// Records that these rows were computed for the sequence that holds the cells.
    pub(super) fn computed(&mut self, rows: &[Row], sequence: &Sequence) {
        let within_prompt = self.held + rows.len() <= sequence.prompt_tokens();
        if within_prompt && rows.len() == self.chunk && self.held == self.whole_chunks.len() {
            self.whole_chunks.extend(rows.iter().map(|row| row.token));
        }
        self.held += rows.len();
    }

    /// Records that a stream has ended. Its cells are kept for prompts that start alike.
    pub(super) fn retire(&mut self, id: StreamId) {
        self.offloaded.retain(|offloaded| offloaded.id != id);
        if self.holder == Some(id) {
            self.holder = None;
        }
    }

    /// Drops the context after a failure; the next stream gets a new one.
    pub(super) fn lose(&mut self) {
        self.holder = None;
        self.held = 0;
        self.whole_chunks.clear();
        self.context.lose();
        self.threads = 0;
    }

    /// Pauses the compute threads of the context.
    pub(super) fn pause_threads(&mut self) {
        if let Ok(context) = self.context.get() {
            context.pause_threads();
        }
    }
}
