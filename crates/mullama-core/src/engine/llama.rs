//! llama.cpp as the engine's backend.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mullama_ffi::{Batch, Context, ContextOptions, Crowding, Error, FlashAttn, KvType, Model};

use super::backend::{Backend, Limits, Row};
use crate::config::{ContextParams, MAX_SEQUENCES};
use crate::cores;
use crate::error::{ModelLoadFailure, MullamaError};
use crate::prefix::Reuse;

/// Context length where the caller names none: memory is the user's to spend.
const DEFAULT_CONTEXT: u32 = 4096;

/// [`ContextParams`] with every default filled in for one model. Equal layouts share an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) path: PathBuf,
    pub(crate) context_len: usize,
    pub(crate) places: usize,
    pub(crate) seats: u32,
    pub(crate) max_unfinished: usize,
    pub(crate) prefix_cache_bytes: usize,
    pub(crate) n_threads: u32,
    kv_cells: u32,
    n_batch: u32,
    n_ubatch: u32,
    pub(crate) n_threads_batch: u32,
    flash_attn: FlashAttn,
    type_k: KvType,
    type_v: KvType,
}

impl Layout {
    /// Checks the params and fills in what the model and the machine decide.
    ///
    /// `positions` is the length of the model's table of positions, if it learnt one: llama.cpp would read past its end.
    pub(crate) fn resolve(
        params: &ContextParams,
        model: &Model,
        path: PathBuf,
        positions: Option<u32>,
    ) -> Result<Self, MullamaError> {
        params.validate()?;
        let trained = model.n_ctx_train();
        let n_ctx = params.n_ctx.unwrap_or_else(|| trained.clamp(1, DEFAULT_CONTEXT));
        if let Some(positions) = positions.filter(|&positions| n_ctx > positions) {
            let range = format!("1 to {positions}, the positions that the model has learnt");
            return Err(MullamaError::invalid("n_ctx", n_ctx, range));
        }
        if n_ctx > trained {
            tracing::warn!(target: "mullama", n_ctx, trained, "the context is longer than the model was trained for");
        }
        let max_unfinished = params.max_unfinished();
        // A recurrent state is as large as a whole context, so only running sequences have one.
        let wanted =
            if model.is_recurrent() || model.is_hybrid() { params.n_parallel as usize } else { max_unfinished };
        let seats = u32::try_from(wanted).map_or(MAX_SEQUENCES, |seats| seats.min(MAX_SEQUENCES));
        let cores = u32::try_from(cores::usable_cores()).unwrap_or(1);
        let n_threads = params.n_threads.unwrap_or(cores);
        Ok(Self {
            path,
            context_len: n_ctx as usize,
            places: params.n_parallel as usize,
            seats,
            max_unfinished,
            prefix_cache_bytes: usize::try_from(params.prefix_cache_bytes).unwrap_or(usize::MAX),
            kv_cells: params.kv_cells.unwrap_or(n_ctx).max(n_ctx),
            n_batch: params.n_batch,
            n_ubatch: params.n_ubatch,
            n_threads,
            n_threads_batch: params.n_threads_batch.unwrap_or(n_threads),
            flash_attn: params.flash_attn,
            type_k: params.type_k,
            type_v: params.type_v,
        })
    }

    /// The layout of an engine whose backend is a test's.
    #[cfg(feature = "test-support")]
    pub(crate) fn scripted(places: usize, queue: usize, context_len: usize, prefix_cache_bytes: usize) -> Self {
        Self {
            path: PathBuf::from("a script"),
            context_len,
            places,
            seats: 0,
            max_unfinished: places + queue,
            prefix_cache_bytes,
            kv_cells: 0,
            n_batch: 0,
            n_ubatch: 0,
            n_threads: 1,
            n_threads_batch: 1,
            flash_attn: FlashAttn::Auto,
            type_k: KvType::F16,
            type_v: KvType::F16,
        }
    }

    /// An error of this layout's model.
    pub(crate) fn refused(&self, source: ModelLoadFailure) -> MullamaError {
        MullamaError::ModelLoad { path: self.path.clone(), source }
    }

    fn options(&self) -> ContextOptions {
        ContextOptions {
            n_ctx: self.kv_cells,
            // A batch holds at least a row for each place.
            n_batch: self.n_batch.max(u32::try_from(self.places).unwrap_or(u32::MAX)),
            n_ubatch: self.n_ubatch,
            n_seq_max: self.seats,
            // One logits row a sequence: never n_ubatch × n_vocab.
            n_outputs_max: self.seats,
            n_threads: self.n_threads,
            n_threads_batch: self.n_threads_batch,
            flash_attn: self.flash_attn,
            type_k: self.type_k,
            type_v: self.type_v,
            ..ContextOptions::default()
        }
    }
}

fn seat_id(seat: usize) -> i32 {
    i32::try_from(seat).expect("seats are at most 256")
}

fn position(tokens: usize) -> i32 {
    i32::try_from(tokens).expect("n_ctx is an i32 in llama.cpp")
}

/// A llama.cpp context, made anew when it is lost.
#[derive(Debug)]
pub(crate) struct LlamaBackend {
    model: Arc<Model>,
    options: ContextOptions,
    abort: Arc<AtomicBool>,
    /// `None` only between a failure and the context that replaces it: two of them might not fit.
    context: Option<Context>,
    batch: Batch,
    limits: Limits,
    resting: bool,
}

impl LlamaBackend {
    /// Makes the context on the calling thread, which then owns it.
    pub(crate) fn new(model: Arc<Model>, layout: &Layout, abort: Arc<AtomicBool>) -> Result<Self, Error> {
        let reuse = if model.is_recurrent() || model.is_hybrid() { Reuse::Whole } else { Reuse::Parts };
        // A state that cannot be cut cannot be taken back either: all would be computed again.
        let options = ContextOptions { give_up_crowded: reuse == Reuse::Parts, ..layout.options() };
        let context = Context::with_abort_flag(&model, &options, Arc::clone(&abort))?;
        let rows = context.n_batch() as usize;
        let limits = Limits { rows, cells: layout.kv_cells as usize, seats: layout.seats as usize, reuse };
        Ok(Self { model, options, abort, context: Some(context), batch: Batch::new(rows), limits, resting: false })
    }

    /// Makes the next decode fail in this way.
    #[cfg(feature = "test-support")]
    pub(crate) fn fail_next_decode(&mut self, failure: mullama_ffi::Failure) {
        if let Some(context) = &mut self.context {
            context.fail_next_decode(failure);
        }
    }
}

/// Takes back what a decode that was given up has computed of these rows.
fn undo(context: &mut Context, rows: &[Row]) -> Error {
    for share in rows.chunk_by(|one, next| one.seat == next.seat) {
        match context.seq_rm(seat_id(share[0].seat), position(share[0].position), None) {
            Ok(true) => {}
            // Nothing that may be given up refuses; if it did, all would be computed again.
            Ok(false) => return Error::Aborted,
            Err(error) => return error,
        }
    }
    Error::Crowded
}

impl LlamaBackend {
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
            self.batch.push(row.token, position(row.position), seat_id(row.seat), row.output)?;
        }
        let context = self.context.as_mut().ok_or(Error::Poisoned)?;
        match context.decode(&self.batch) {
            Err(Error::Crowded) => Err(undo(context, rows)),
            done => done,
        }
    }

    fn crowding(&self) -> Option<Crowding> {
        self.context.as_ref()?.crowding()
    }

    fn logits(&mut self, row: usize) -> Result<&[f32], Error> {
        self.context()?.logits(row)
    }

    fn forget(&mut self, seat: usize) -> Result<(), Error> {
        self.context()?.seq_rm(seat_id(seat), 0, None).map(drop)
    }

    fn share(&mut self, from: usize, to: usize, tokens: usize) -> Result<bool, Error> {
        let (from, to) = (seat_id(from), seat_id(to));
        let end = position(tokens);
        let whole = self.limits.reuse == Reuse::Whole;
        let context = self.context()?;
        context.seq_cp(from, to, 0, (!whole).then_some(end))?;
        // What a model's memory makes of a part is its own affair: only what really begins alike counts.
        let begins = whole || context.seq_pos_min(to)? == Some(0);
        if begins && context.seq_pos_max(to)? == Some(end - 1) {
            return Ok(true);
        }
        context.seq_rm(to, 0, None)?;
        Ok(false)
    }

    fn save(&mut self, seat: usize, limit: usize) -> Result<Option<Vec<u8>>, Error> {
        let context = self.context()?;
        if context.state_seq_size(seat_id(seat))? > limit {
            return Ok(None);
        }
        context.state_seq_get(seat_id(seat)).map(Some)
    }

    fn restore(&mut self, seat: usize, state: &[u8]) -> Result<(), Error> {
        self.context()?.state_seq_set(seat_id(seat), state)
    }

    fn truncate(&mut self, seat: usize, keep: usize, of: usize) -> Result<bool, Error> {
        if keep == of {
            return Ok(true);
        }
        let context = self.context()?;
        // A saved state leaves out what a sliding window had passed: cut, it would have a hole where others look.
        let cut = context.seq_rm(seat_id(seat), position(keep), None)?;
        let (first, last) = (context.seq_pos_min(seat_id(seat))?, context.seq_pos_max(seat_id(seat))?);
        Ok(cut && first == Some(0) && last == Some(position(keep) - 1))
    }

    fn set_threads(&mut self, threads: u32) -> Result<(), Error> {
        let (single, batch) = (self.options.n_threads, self.options.n_threads_batch);
        self.context()?.set_threads(threads.min(single), threads.min(batch))
    }

    fn rebuild(&mut self) -> Result<(), Error> {
        self.context = None;
        self.context = Some(Context::with_abort_flag(&self.model, &self.options, Arc::clone(&self.abort))?);
        Ok(())
    }

    fn rest(&mut self) {
        if !std::mem::replace(&mut self.resting, true)
            && let Some(context) = &mut self.context
        {
            // A poisoned context has no threads to pause.
            let _ = context.pause_threads();
        }
    }
}
