//! [`ContextParams`] with every default filled in for one model and one machine.

use std::path::PathBuf;

use mullama_ffi::{ContextOptions, FlashAttn, KvType, Model};

use super::context_params::{ContextParams, MAX_SEQUENCES};
use crate::cores;
use crate::engine::fixed_chunk::{FixedChunks, Machine};
use crate::error::{ModelLoadFailure, MullamaError};
use crate::stream::admission::AdmissionLimits;

/// Context length if the caller sets none: more memory is only used when the user asks for it.
const DEFAULT_CONTEXT: u32 = 4096;

/// [`ContextParams`] with every default filled in for one model. Equal params share an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolvedParams {
    pub(crate) path: PathBuf,
    pub(crate) context_len: usize,
    pub(crate) slots: usize,
    pub(crate) n_seq: u32,
    pub(crate) admission: AdmissionLimits,
    pub(crate) prefix_cache_bytes: usize,
    pub(crate) n_threads: u32,
    pub(crate) kv_cells: u32,
    n_batch: u32,
    n_ubatch: u32,
    pub(crate) n_threads_batch: u32,
    flash_attn: FlashAttn,
    type_k: KvType,
    type_v: KvType,
    pub(crate) chunks: FixedChunks,
}

impl ResolvedParams {
    /// Checks the params and fills in defaults that depend on the model and the machine.
    ///
    /// `positions` is the length of the model's learned position table, if it has one: llama.cpp would read past its
    /// end.
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
        let admission = params.admission();
        // A recurrent state takes as much memory as a whole context, so only running sequences have one.
        let wanted = if model.is_recurrent() || model.is_hybrid() { params.n_parallel } else { admission.active };
        let n_seq = wanted.min(MAX_SEQUENCES);
        let (n_threads, n_threads_batch) = threads(params);
        Ok(Self {
            path,
            context_len: n_ctx as usize,
            slots: params.n_parallel as usize,
            n_seq,
            admission,
            prefix_cache_bytes: usize::try_from(params.prefix_cache_bytes).unwrap_or(usize::MAX),
            kv_cells: params.kv_cells.unwrap_or(n_ctx).max(n_ctx),
            n_batch: params.n_batch,
            n_ubatch: params.n_ubatch,
            n_threads,
            n_threads_batch,
            flash_attn: params.flash_attn,
            type_k: params.type_k,
            type_v: params.type_v,
            chunks: FixedChunks::of(machine(params, model, n_threads_batch)),
        })
    }

    /// The params of an engine whose backend a test provides.
    #[cfg(feature = "test-support")]
    pub(crate) fn scripted(
        slots: usize,
        admission: AdmissionLimits,
        context_len: usize,
        prefix_cache_bytes: usize,
    ) -> Self {
        Self {
            path: PathBuf::from("a script"),
            context_len,
            slots,
            n_seq: 0,
            admission,
            prefix_cache_bytes,
            kv_cells: 0,
            n_batch: 0,
            n_ubatch: 0,
            n_threads: 1,
            n_threads_batch: 1,
            flash_attn: FlashAttn::Auto,
            type_k: KvType::F16,
            type_v: KvType::F16,
            chunks: FixedChunks { alone: 512, deterministic: 64 },
        }
    }

    /// A load error for the model of these params.
    pub(crate) fn refused(&self, source: ModelLoadFailure) -> MullamaError {
        MullamaError::ModelLoad { path: self.path.clone(), source }
    }

    /// The data types of the K cache and the V cache.
    pub(crate) fn kv_types(&self) -> (KvType, KvType) {
        (self.type_k, self.type_v)
    }

    pub(crate) fn options(&self) -> ContextOptions {
        ContextOptions {
            n_ctx: self.kv_cells,
            // A batch has at least one row for each slot.
            n_batch: self.n_batch.max(u32::try_from(self.slots).unwrap_or(u32::MAX)),
            n_ubatch: self.n_ubatch,
            n_seq_max: self.n_seq,
            // One row of logits per sequence instead of n_ubatch × n_vocab.
            n_outputs_max: self.n_seq,
            n_threads: self.n_threads,
            n_threads_batch: self.n_threads_batch,
            flash_attn: self.flash_attn,
            type_k: self.type_k,
            type_v: self.type_v,
            ..ContextOptions::default()
        }
    }
}

/// The facts from which the fixed chunks of this engine are chosen.
fn machine(params: &ContextParams, model: &Model, threads: u32) -> Machine {
    let tiled = matches!(params.type_k, KvType::F16 | KvType::F32) && params.type_k == params.type_v;
    Machine {
        cpu_weights: model.cpu_weights(),
        threads,
        tiles: tiled && params.flash_attn != FlashAttn::Off,
        most: params.n_batch.min(params.n_ubatch) as usize,
    }
}

/// The two thread counts, `n_threads` and `n_threads_batch`. ggml's threads spin while they wait for each other, so
/// more threads than usable cores would make every step many times slower.
fn threads(params: &ContextParams) -> (u32, u32) {
    let cores = u32::try_from(cores::usable_cores()).unwrap_or(1).max(1);
    let at_most_cores = |field: &'static str, threads: u32| {
        if threads > cores {
            tracing::warn!(target: "mullama", "{field} is {threads}, but only {cores} cores are usable: using {cores}");
        }
        threads.min(cores)
    };
    let n_threads = params.n_threads.map_or(cores, |threads| at_most_cores("n_threads", threads));
    let n_threads_batch = params.n_threads_batch.map(|threads| at_most_cores("n_threads_batch", threads));
    (n_threads, n_threads_batch.unwrap_or(n_threads))
}
