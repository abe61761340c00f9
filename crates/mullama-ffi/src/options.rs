//! The options of a context: the size of its KV pool, its threads and its number formats.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use crate::abort::should_abort;
use crate::error::Error;
use crate::sys;

/// Maximum number of sequences of one context (`LLAMA_MAX_SEQ`).
const MAX_SEQUENCES: u32 = 256;
/// Far above what any model needs, and far below the sizes at which llama.cpp's padding would overflow.
const MAX_CELLS: u32 = 1 << 30;
/// Maximum number of threads of one pool (ggml's `GGML_MAX_N_THREADS`).
const MAX_THREADS: u32 = 512;
/// llama.cpp's default between never polling (0) and always (100).
const POLL_DEFAULT: u32 = 50;

/// Whether flash attention is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FlashAttn {
    /// If the model and the backend support it.
    #[default]
    Auto,
    /// Always; a quantised V cache requires it.
    On,
    /// Never.
    Off,
}

/// The number format of the K or the V cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    #[default]
    F16,
    /// 16-bit brain floats.
    Bf16,
    /// 8 bits and a scale for each 32 numbers.
    Q8_0,
    /// 5 bits, a scale and an offset.
    Q5_1,
    /// 5 bits and a scale.
    Q5_0,
    /// 4 bits, a scale and an offset.
    Q4_1,
    /// 4 bits and a scale.
    Q4_0,
    /// 4 bits into a table of unequal steps.
    Iq4Nl,
}

impl FlashAttn {
    /// All formats, under their names in every language.
    pub const NAMED: [(&'static str, Self); 3] = [("auto", Self::Auto), ("on", Self::On), ("off", Self::Off)];
}

impl KvType {
    /// All formats, under llama.cpp's names.
    pub const NAMED: [(&'static str, Self); 9] = [
        ("f32", Self::F32),
        ("f16", Self::F16),
        ("bf16", Self::Bf16),
        ("q8_0", Self::Q8_0),
        ("q5_1", Self::Q5_1),
        ("q5_0", Self::Q5_0),
        ("q4_1", Self::Q4_1),
        ("q4_0", Self::Q4_0),
        ("iq4_nl", Self::Iq4Nl),
    ];

    fn raw(self) -> i32 {
        let raw = match self {
            Self::F32 => sys::GGML_TYPE_F32,
            Self::F16 => sys::GGML_TYPE_F16,
            Self::Bf16 => sys::GGML_TYPE_BF16,
            Self::Q8_0 => sys::GGML_TYPE_Q8_0,
            Self::Q5_1 => sys::GGML_TYPE_Q5_1,
            Self::Q5_0 => sys::GGML_TYPE_Q5_0,
            Self::Q4_1 => sys::GGML_TYPE_Q4_1,
            Self::Q4_0 => sys::GGML_TYPE_Q4_0,
            Self::Iq4Nl => sys::GGML_TYPE_IQ4_NL,
        };
        raw.cast_signed()
    }
}

/// The options of a context. All sequences share one KV pool, and sliding attention windows keep all their cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextOptions {
    /// Number of cells of the KV pool, rounded up to a multiple of 256; 0 means as many tokens as the model was trained
    /// for.
    pub n_ctx: u32,
    /// Maximum number of tokens of one decode, limited to the cells of the pool.
    pub n_batch: u32,
    /// Maximum number of tokens computed at once inside a decode.
    pub n_ubatch: u32,
    /// Number of sequences, 1 to 256.
    pub n_seq_max: u32,
    /// Maximum number of rows of logits of one decode, at least `n_seq_max`; 0 means `n_seq_max`.
    pub n_outputs_max: u32,
    /// Number of threads that decode a single token.
    pub n_threads: u32,
    /// Number of threads that decode several tokens.
    pub n_threads_batch: u32,
    /// How long idle threads poll for work before they sleep: from 0 (not at all) to 100 (longest).
    pub poll: u32,
    /// Whether flash attention is used.
    pub flash_attn: FlashAttn,
    /// The format of the K cache.
    pub type_k: KvType,
    /// The format of the V cache.
    pub type_v: KvType,
}

impl Default for ContextOptions {
    fn default() -> Self {
        let threads = thread::available_parallelism()
            .map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX).min(MAX_THREADS));
        Self {
            n_ctx: 4096,
            n_batch: 2048,
            n_ubatch: 512,
            n_seq_max: 1,
            n_outputs_max: 0,
            n_threads: threads,
            n_threads_batch: threads,
            poll: POLL_DEFAULT,
            flash_attn: FlashAttn::Auto,
            type_k: KvType::F16,
            type_v: KvType::F16,
        }
    }
}

impl ContextOptions {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let fields = [
            ("n_ctx", self.n_ctx, 0..=MAX_CELLS, "0 to 1073741824"),
            ("n_batch", self.n_batch, 1..=MAX_CELLS, "1 to 1073741824"),
            ("n_ubatch", self.n_ubatch, 1..=MAX_CELLS, "1 to 1073741824"),
            ("n_seq_max", self.n_seq_max, 1..=MAX_SEQUENCES, "1 to 256"),
            ("n_outputs_max", self.n_outputs_max, 0..=MAX_CELLS, "0 to 1073741824"),
            ("poll", self.poll, 0..=100, "0 to 100"),
        ];
        for (field, value, allowed, range) in fields {
            if !allowed.contains(&value) {
                return Err(Error::ContextField { field, value, range });
            }
        }
        check_threads(self.n_threads, self.n_threads_batch)
    }

    pub(crate) fn raw(&self, n_outputs_max: u32, abort: &Arc<AtomicBool>) -> sys::ContextOptions {
        sys::ContextOptions {
            n_ctx: self.n_ctx,
            n_batch: self.n_batch,
            n_ubatch: self.n_ubatch,
            n_seq_max: self.n_seq_max,
            n_outputs_max,
            n_threads: self.n_threads.cast_signed(),
            n_threads_batch: self.n_threads_batch.cast_signed(),
            flash_attn: match self.flash_attn {
                FlashAttn::Auto => -1,
                FlashAttn::Off => 0,
                FlashAttn::On => 1,
            },
            type_k: self.type_k.raw(),
            type_v: self.type_v.raw(),
            should_abort,
            abort_flag: Arc::as_ptr(abort).cast(),
        }
    }
}

/// Checks both thread counts against what ggml can start.
pub(crate) fn check_threads(n_threads: u32, n_threads_batch: u32) -> Result<(), Error> {
    for (field, value) in [("n_threads", n_threads), ("n_threads_batch", n_threads_batch)] {
        if !(1..=MAX_THREADS).contains(&value) {
            return Err(Error::ContextField { field, value, range: "1 to 512" });
        }
    }
    Ok(())
}
