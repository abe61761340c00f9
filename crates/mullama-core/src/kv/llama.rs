//! llama.cpp as the engine's backend.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mullama_ffi::{Batch, Context, ContextOptions, CpuContention, Error, KvType, Model};

use crate::config::{MAX_SEQUENCES, ResolvedParams};
use crate::kv::backend::{Backend, Limits, Row};
use crate::kv::prefix_cache::Reuse;

fn llama_seq_id(seq_id: usize) -> i32 {
    i32::try_from(seq_id).expect("a context has at most 256 sequences")
}

fn position(tokens: usize) -> i32 {
    i32::try_from(tokens).expect("n_ctx is an i32 in llama.cpp")
}

/// A llama.cpp context, which is rebuilt when it is lost.
#[derive(Debug)]
pub(crate) struct LlamaBackend {
    model: Arc<Model>,
    options: ContextOptions,
    abort: Arc<AtomicBool>,
    /// `None` only between a failure and the creation of the replacement: two contexts might not fit into memory.
    context: Option<Context>,
    batch: Batch,
    limits: Limits,
    resting: bool,
    /// Whether the number of threads must never change, because the bits depend on it.
    fixed_threads: bool,
}

impl LlamaBackend {
    /// Creates the context on the calling thread, which then owns it.
    pub(crate) fn new(model: Arc<Model>, params: &ResolvedParams, abort: Arc<AtomicBool>) -> Result<Self, Error> {
        let reuse = if model.is_recurrent() || model.is_hybrid() { Reuse::Whole } else { Reuse::Parts };
        let parts = reuse == Reuse::Parts;
        let n_seq = if parts { params.n_seq.min(MAX_SEQUENCES - 1) } else { params.n_seq };
        // One sequence more than the engine uses: parts of a prefix are saved and restored through it.
        let n_seq_max = n_seq + u32::from(parts);
        let options = ContextOptions { n_seq_max, ..params.options() };
        let context = Context::with_abort_flag(&model, &options, Arc::clone(&abort))?;
        let rows = context.n_batch() as usize;
        let limits = Limits { rows, cells: params.kv_cells as usize, n_seq: n_seq as usize, reuse };
        Ok(Self {
            model,
            options,
            abort,
            context: Some(context),
            batch: Batch::new(rows),
            limits,
            resting: false,
            fixed_threads: false,
        })
    }

    /// Makes the next decode fail in this way.
    #[cfg(feature = "test-support")]
    pub(crate) fn fail_next_decode(&mut self, failure: mullama_ffi::Failure) {
        if let Some(context) = &mut self.context {
            context.fail_next_decode(failure);
        }
    }
}

/// Saves the state of a sequence if it has at most `limit` bytes.
fn state(context: &mut Context, seq: i32, limit: usize) -> Result<Option<Vec<u8>>, Error> {
    if context.state_seq_size(seq)? > limit {
        return Ok(None);
    }
    context.state_seq_get(seq).map(Some)
}

impl LlamaBackend {
    /// The spare sequence, if the model's KV can be reused in parts. It is empty between two calls.
    fn scratch(&self) -> i32 {
        llama_seq_id(self.limits.n_seq)
    }

    /// On the CPU, ggml divides the attention of a single row between the threads if K and V have the same float
    /// format, and then the last bits depend on the number of threads. With a different V format they do not.
    fn isolated_type_v(&self) -> KvType {
        let halves = self.options.type_k == KvType::F16 && self.options.type_v == KvType::F16;
        if halves && !self.model.uses_gpu() { KvType::F32 } else { self.options.type_v }
    }

    fn context(&mut self) -> Result<&mut Context, Error> {
        self.context.as_mut().ok_or(Error::Poisoned)
    }
}

impl Backend for LlamaBackend {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn decode(&mut self, rows: &[Row]) -> Result<(), Error> {
        self.resting = false;
        self.batch.clear();
        for row in rows {
            self.batch.push(row.token, position(row.position), llama_seq_id(row.seq_id), row.output)?;
        }
        self.context.as_mut().ok_or(Error::Poisoned)?.decode(&self.batch)
    }

    fn synchronize(&mut self) -> Result<(), Error> {
        self.context()?.synchronize()
    }

    fn contention(&self) -> Option<CpuContention> {
        self.context.as_ref()?.contention()
    }

    fn logits(&self, row: usize) -> Result<&[f32], Error> {
        self.context.as_ref().ok_or(Error::Poisoned)?.logits(row)
    }

    fn forget(&mut self, seq_id: usize) -> Result<(), Error> {
        self.context()?.seq_rm(llama_seq_id(seq_id), 0, None).map(drop)
    }

    fn share(&mut self, from: usize, to: usize, tokens: usize) -> Result<bool, Error> {
        let (from, to) = (llama_seq_id(from), llama_seq_id(to));
        let end = position(tokens);
        let whole = self.limits.reuse == Reuse::Whole;
        let context = self.context()?;
        context.seq_cp(from, to, 0, (!whole).then_some(end))?;
        // Not every model's memory can share a part, and some do not report a failure, so the result is checked.
        let starts = whole || context.seq_pos_min(to)? == Some(0);
        if starts && context.seq_pos_max(to)? == Some(end - 1) {
            return Ok(true);
        }
        context.seq_rm(to, 0, None)?;
        Ok(false)
    }

    fn save(&mut self, seq_id: usize, tokens: Range<usize>, limit: usize) -> Result<Option<Vec<u8>>, Error> {
        let (seq, scratch, whole) = (llama_seq_id(seq_id), self.scratch(), self.limits.reuse == Reuse::Whole);
        let context = self.context()?;
        if whole {
            return state(context, seq, limit);
        }
        context.seq_cp(seq, scratch, position(tokens.start), Some(position(tokens.end)))?;
        let saved = state(context, scratch, limit);
        context.seq_rm(scratch, 0, None)?;
        saved
    }

    fn restore(&mut self, seq_id: usize, tokens: Range<usize>, state: &[u8]) -> Result<bool, Error> {
        let (seq, scratch, end) = (llama_seq_id(seq_id), self.scratch(), position(tokens.end));
        let context = self.context()?;
        if tokens.start == 0 {
            context.state_seq_set(seq, state)?;
        } else {
            context.state_seq_set(scratch, state)?;
            context.seq_cp(scratch, seq, position(tokens.start), Some(end))?;
            context.seq_rm(scratch, 0, None)?;
        }
        Ok(context.seq_pos_max(seq)? == Some(end - 1))
    }

    fn truncate(&mut self, seq_id: usize, keep: usize, of: usize) -> Result<bool, Error> {
        let whole = self.limits.reuse == Reuse::Whole;
        let context = self.context()?;
        if whole && keep == of {
            return Ok(true);
        }
        // A saved state lacks the tokens that a sliding window has passed. Truncated, it would miss tokens that others
        // attend to.
        let cut = context.seq_rm(llama_seq_id(seq_id), position(keep), None)?;
        let (first, last) = (context.seq_pos_min(llama_seq_id(seq_id))?, context.seq_pos_max(llama_seq_id(seq_id))?);
        Ok(cut && first == Some(0) && last == Some(position(keep) - 1))
    }

    fn set_threads(&mut self, threads: u32) -> Result<(), Error> {
        if self.fixed_threads {
            return Ok(());
        }
        let (single, batch) = (self.options.n_threads, self.options.n_threads_batch);
        self.context()?.set_threads(threads.min(single), threads.min(batch))
    }

    fn isolated(&self, tokens: usize, rows: usize) -> Box<dyn FnOnce() -> Result<Self, Error> + Send> {
        let size = |tokens| u32::try_from(tokens).unwrap_or(u32::MAX);
        // One sequence more than is computed, through which parts of it are saved.
        let n_seq = 1 + u32::from(self.limits.reuse == Reuse::Parts);
        let options = ContextOptions {
            n_ctx: size(tokens),
            n_batch: size(rows),
            n_ubatch: size(rows),
            n_seq_max: n_seq,
            n_outputs_max: n_seq,
            type_v: self.isolated_type_v(),
            ..self.options.clone()
        };
        let float = matches!(options.type_k, KvType::F16 | KvType::F32);
        let fixed_threads = float && options.type_k == options.type_v;
        let limits = Limits { rows, cells: tokens, n_seq: 1, reuse: self.limits.reuse };
        let (model, abort) = (Arc::clone(&self.model), Arc::clone(&self.abort));
        Box::new(move || {
            let context = Context::with_abort_flag(&model, &options, Arc::clone(&abort))?;
            let (context, batch) = (Some(context), Batch::new(rows));
            Ok(Self { model, options, abort, context, batch, limits, resting: false, fixed_threads })
        })
    }

    fn rebuild(&mut self) -> Result<(), Error> {
        self.context = None;
        self.context = Some(Context::with_abort_flag(&self.model, &self.options, Arc::clone(&self.abort))?);
        Ok(())
    }

    fn pause_threads(&mut self) {
        if !std::mem::replace(&mut self.resting, true)
            && let Some(context) = &mut self.context
        {
            // A poisoned context has no threads to pause.
            let _ = context.pause_threads();
        }
    }
}
