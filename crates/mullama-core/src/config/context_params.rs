//! The settings of an engine: context length, slots, KV pool and threads.

use super::dynamic::{DynamicValue, Field, Setting};
use super::range::{Limits, Range};
use crate::error::MullamaError;
use crate::stream::admission::AdmissionLimits;

/// The settings of an engine. Contexts with equal params over one model share one engine and one KV pool.
///
/// ```
/// use mullama::ContextParams;
///
/// let params = ContextParams { n_ctx: Some(2048), n_parallel: 4, ..ContextParams::default() };
/// # assert_eq!(params.n_batch, 2048);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextParams {
    /// Maximum number of tokens of one sequence. `None`: what the model was trained for, but at most 4096.
    pub n_ctx: Option<u32>,
    /// Slots: the number of streams that run at once.
    pub n_parallel: u32,
    /// Number of cells in the KV pool that all sequences share. `None`: `n_ctx`. A smaller number is raised to `n_ctx`.
    pub kv_cells: Option<u32>,
    /// Maximum number of tokens of one decode call.
    pub n_batch: u32,
    /// Maximum number of tokens of one pass through the graph.
    pub n_ubatch: u32,
    /// Threads for decode steps. `None`: the physical cores that this process may use, which is also the maximum.
    pub n_threads: Option<u32>,
    /// Threads for steps that prefill. `None`: the same as `n_threads`.
    pub n_threads_batch: Option<u32>,
    /// Whether flash attention is used.
    pub flash_attn: FlashAttn,
    /// Number format of the K cache.
    pub type_k: KvType,
    /// Number format of the V cache.
    pub type_v: KvType,
    /// Maximum bytes of host memory for offloaded KV: cached prefixes, preempted streams, and deterministic streams that
    /// gave way to others, which go before cached prefixes. 0 disables offloading.
    pub prefix_cache_bytes: u64,
    /// Number of streams that may wait for a slot. A call is refused while `n_parallel + max_queue` streams run or wait
    /// for their first slot; paused ones do not count.
    pub max_queue: u32,
    /// Number of streams that may be paused, because their readers do not read or because they gave their slots to
    /// others. Any stream may be paused later, so a call is refused while as many streams run, wait or are paused. A
    /// number smaller than `n_parallel + max_queue` is raised to that. The engine keeps the tokens and samplers of paused
    /// streams, and their KV cells only while nobody else needs them.
    pub max_paused: u32,
}

pub use mullama_ffi::{FlashAttn, KvType};

/// Enough for a few thousand tokens of a model with a few billion weights.
const DEFAULT_PREFIX_CACHE: u64 = 512 << 20;

impl Default for ContextParams {
    fn default() -> Self {
        Self {
            n_ctx: None,
            n_parallel: 8,
            kv_cells: None,
            n_batch: 2048,
            n_ubatch: 512,
            n_threads: None,
            n_threads_batch: None,
            flash_attn: FlashAttn::Auto,
            type_k: KvType::F16,
            type_v: KvType::F16,
            prefix_cache_bytes: DEFAULT_PREFIX_CACHE,
            max_queue: 64,
            max_paused: 1024,
        }
    }
}

/// Maximum number of sequences of one llama.cpp context (`LLAMA_MAX_SEQ`).
pub(crate) const MAX_SEQUENCES: u32 = 256;
/// Maximum number of threads that ggml accepts (`GGML_MAX_N_THREADS`).
const MAX_THREADS: u32 = 512;
/// Far above any model's context; keeps products of sizes within 64 bits.
const MAX_CELLS: u32 = 1 << 28;

const CELLS: Range<u32> = Range::new(1, MAX_CELLS, "1 to 268435456");
const OPTIONAL_CELLS: Range<u32> = Range::new(1, MAX_CELLS, "None or 1 to 268435456");
const OPTIONAL_THREADS: Range<u32> = Range::new(1, MAX_THREADS, "None or 1 to 512");
const SLOTS: Range<u32> = Range::new(1, MAX_SEQUENCES, "1 to 256");
const PAUSED: Range<u32> = Range::new(1, 1 << 20, "1 to 1048576");
const QUEUE: Range<u32> = Range::new(0, 1 << 20, "0 to 1048576");

/// The range of a field; `None` if every value of its type is allowed.
fn range_of(field: &str) -> Option<Range<u32>> {
    match field {
        "n_ctx" | "kv_cells" => Some(OPTIONAL_CELLS),
        "n_parallel" => Some(SLOTS),
        "n_batch" | "n_ubatch" => Some(CELLS),
        "n_threads" | "n_threads_batch" => Some(OPTIONAL_THREADS),
        "max_queue" => Some(QUEUE),
        "max_paused" => Some(PAUSED),
        _ => None,
    }
}

macro_rules! read_fields {
    ($($name:ident)*) => {
        impl ContextParams {
            /// The names of all fields.
            pub const FIELDS: &[&str] = &[$(stringify!($name)),*];

            /// Reads params from another language, whose value of each field `field` returns.
            ///
            /// # Errors
            /// What `field` returns, and for the first value that is not valid what [`Setting::take`] does.
            pub fn read<V: DynamicValue>(
                field: impl Fn(&'static str) -> Result<V, V::Error>,
            ) -> Result<Self, V::Error> {
                $(let name = stringify!($name);
                let $name = Setting::take(&field(name)?, Field::new(name, Self::range))?;)*
                // Without one of the fields this does not build.
                Ok(Self { $($name),* })
            }

            /// Sets one field from a value of another language. Returns `false` if there is no field of this name.
            ///
            /// # Errors
            /// As [`Setting::take`]. The range is checked by [`validate`](Self::validate).
            pub fn set<V: DynamicValue>(&mut self, name: &str, value: &V) -> Result<bool, V::Error> {
                $(if name == stringify!($name) {
                    self.$name = Setting::take(value, Field::new(stringify!($name), Self::range))?;
                    return Ok(true);
                })*
                Ok(false)
            }
        }
    };
}

read_fields! {
    n_ctx n_parallel kv_cells n_batch n_ubatch n_threads n_threads_batch flash_attn type_k type_v prefix_cache_bytes max_queue
    max_paused
}

impl ContextParams {
    /// Checks every field and refuses the first value that is out of its range.
    ///
    /// # Errors
    /// [`MullamaError::InvalidConfig`] names the field, the value and the range.
    pub fn validate(&self) -> Result<(), MullamaError> {
        OPTIONAL_CELLS.check("n_ctx", self.n_ctx)?;
        SLOTS.check("n_parallel", self.n_parallel)?;
        OPTIONAL_CELLS.check("kv_cells", self.kv_cells)?;
        CELLS.check("n_batch", self.n_batch)?;
        CELLS.check("n_ubatch", self.n_ubatch)?;
        OPTIONAL_THREADS.check("n_threads", self.n_threads)?;
        OPTIONAL_THREADS.check("n_threads_batch", self.n_threads_batch)?;
        QUEUE.check("max_queue", self.max_queue)?;
        PAUSED.check("max_paused", self.max_paused)
    }

    /// The limits of every numeric field by name, for schemas in other languages.
    pub fn limits() -> Vec<(&'static str, Limits)> {
        let limits = |name| Some((name, Limits::from(range_of(name)?)));
        Self::FIELDS.iter().filter_map(|name| limits(*name)).collect()
    }

    /// The allowed values of a numeric field as text, for a value that the field cannot hold.
    fn range(field: &str) -> Option<&'static str> {
        range_of(field).map(|range| range.words())
    }

    /// How many streams may run or wait at once, and how many may run, wait or be paused.
    pub(crate) fn admission(&self) -> AdmissionLimits {
        AdmissionLimits { active: self.n_parallel.saturating_add(self.max_queue), paused: self.max_paused }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_slots_are_refused_by_name() {
        let params = ContextParams { n_parallel: 0, ..ContextParams::default() };
        let error = params.validate().unwrap_err();
        assert_eq!(error.to_string(), "n_parallel is 0, but must be 1 to 256");
        assert_eq!(error.code(), "INVALID_CONFIG");
    }
}
