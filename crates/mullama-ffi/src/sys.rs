//! The Rust side of `shim/mullama_shim.h`, through which all calls of llama.cpp go.

use std::ffi::{CStr, c_char, c_void};

pub(crate) use llama_cpp_sys_2::{
    GGML_BACKEND_DEVICE_TYPE_ACCEL, GGML_BACKEND_DEVICE_TYPE_CPU, GGML_BACKEND_DEVICE_TYPE_GPU,
    GGML_BACKEND_DEVICE_TYPE_IGPU, GGML_TYPE_BF16, GGML_TYPE_F16, GGML_TYPE_F32, GGML_TYPE_IQ4_NL, GGML_TYPE_Q4_0,
    GGML_TYPE_Q4_1, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1, GGML_TYPE_Q8_0, ggml_threadpool, llama_context, llama_logit_bias,
    llama_model, llama_vocab,
};

pub(crate) const ML_OK: i32 = 0;
pub(crate) const ML_ASSERTION: i32 = 2;
pub(crate) const ML_OUT_OF_MEMORY: i32 = 3;
#[cfg(feature = "test-support")]
pub(crate) const ML_EXCEPTION: i32 = 1;

pub(crate) const ML_TEXT_DESC: i32 = 0;
pub(crate) const ML_TEXT_CHAT_TEMPLATE: i32 = 1;
pub(crate) const ML_TEXT_META_KEY: i32 = 2;
pub(crate) const ML_TEXT_META_VALUE: i32 = 3;

pub(crate) const ML_SEQ_REMOVE: i32 = 0;
pub(crate) const ML_SEQ_COPY: i32 = 1;
pub(crate) const ML_SEQ_SHIFT: i32 = 2;
pub(crate) const ML_SEQ_KEEP: i32 = 3;
pub(crate) const ML_SEQ_MIN: i32 = 4;
pub(crate) const ML_SEQ_MAX: i32 = 5;
pub(crate) const ML_SEQ_CLEAR: i32 = 6;

pub(crate) const ML_SAMPLED_TOKEN: i32 = 0;
pub(crate) const ML_SAMPLED_NON_FINITE: i32 = 1;

// llama_token_attr.
pub(crate) const ATTR_UNKNOWN: i32 = 1;
pub(crate) const ATTR_CONTROL: i32 = 1 << 3;
pub(crate) const ATTR_USER_DEFINED: i32 = 1 << 4;
pub(crate) const ATTR_LSTRIP: i32 = 1 << 7;
pub(crate) const ATTR_RSTRIP: i32 = 1 << 8;

pub(crate) const ML_ADD_SPECIAL: i32 = 1;
pub(crate) const ML_PARSE_SPECIAL: i32 = 2;

pub(crate) type Log = extern "C" fn(level: i32, text: *const c_char);
pub(crate) type Progress = unsafe extern "C" fn(fraction: f32, user_data: *mut c_void) -> bool;

#[repr(C)]
#[derive(Debug)]
pub(crate) struct ModelOptions {
    pub(crate) n_gpu_layers: i32,
    pub(crate) use_mmap: bool,
    pub(crate) use_mlock: bool,
    pub(crate) check_tensors: bool,
    pub(crate) vocab_only: bool,
}

#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct ModelFacts {
    pub(crate) n_params: u64,
    pub(crate) size: u64,
    pub(crate) n_ctx_train: i32,
    pub(crate) n_embd: i32,
    pub(crate) n_layer: i32,
    pub(crate) n_head: i32,
    pub(crate) n_head_kv: i32,
    pub(crate) n_swa: i32,
    pub(crate) n_metadata: i32,
    pub(crate) is_recurrent: bool,
    pub(crate) is_hybrid: bool,
    pub(crate) is_diffusion: bool,
    pub(crate) has_encoder: bool,
    pub(crate) has_decoder: bool,
}

#[repr(C)]
#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) name: [c_char; 64],
    pub(crate) description: [c_char; 128],
    pub(crate) memory_free: u64,
    pub(crate) memory_total: u64,
    pub(crate) kind: i32,
}

#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct VocabFacts {
    pub(crate) kind: i32,
    pub(crate) n_tokens: i32,
    pub(crate) bos: i32,
    pub(crate) eos: i32,
    pub(crate) eot: i32,
    pub(crate) nl: i32,
    pub(crate) pad: i32,
    pub(crate) add_bos: bool,
    pub(crate) add_eos: bool,
}

#[repr(C)]
#[derive(Debug)]
pub(crate) struct ContextOptions {
    pub(crate) n_ctx: u32,
    pub(crate) n_batch: u32,
    pub(crate) n_ubatch: u32,
    pub(crate) n_seq_max: u32,
    pub(crate) n_outputs_max: u32,
    pub(crate) n_threads: i32,
    pub(crate) n_threads_batch: i32,
    pub(crate) flash_attn: i32,
    pub(crate) type_k: i32,
    pub(crate) type_v: i32,
    pub(crate) should_abort: unsafe extern "C" fn(*mut c_void) -> bool,
    pub(crate) abort_flag: *const c_void,
}

#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct ContextFacts {
    pub(crate) n_ctx: u32,
    pub(crate) n_batch: u32,
    pub(crate) n_ubatch: u32,
    pub(crate) n_seq_max: u32,
    pub(crate) has_memory: bool,
    pub(crate) can_shift: bool,
    pub(crate) causal: bool,
}

#[repr(C)]
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) n_tokens: i32,
    pub(crate) tokens: *const i32,
    pub(crate) positions: *const i32,
    pub(crate) sequences: *const i32,
    pub(crate) outputs: *const i8,
}

#[repr(C)]
#[derive(Debug)]
pub(crate) struct Pools {
    pub(crate) single: *mut ggml_threadpool,
    pub(crate) batch: *mut ggml_threadpool,
    pub(crate) n_threads: i32,
    pub(crate) n_threads_batch: i32,
}

#[repr(C)]
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) seq: i32,
    pub(crate) from: i32,
    pub(crate) to: i32,
}

#[repr(C)]
#[derive(Debug)]
pub(crate) struct SamplerOptions {
    pub(crate) temperature: f32,
    pub(crate) dynatemp_range: f32,
    pub(crate) dynatemp_exponent: f32,
    pub(crate) top_k: i32,
    pub(crate) top_p: f32,
    pub(crate) min_p: f32,
    pub(crate) typical_p: f32,
    pub(crate) top_n_sigma: f32,
    pub(crate) xtc_probability: f32,
    pub(crate) xtc_threshold: f32,
    pub(crate) repeat_penalty: f32,
    pub(crate) frequency_penalty: f32,
    pub(crate) presence_penalty: f32,
    pub(crate) repeat_last_n: i32,
    pub(crate) dry_multiplier: f32,
    pub(crate) dry_base: f32,
    pub(crate) dry_allowed_length: i32,
    pub(crate) dry_penalty_last_n: i32,
    pub(crate) mirostat: i32,
    pub(crate) mirostat_tau: f32,
    pub(crate) mirostat_eta: f32,
    pub(crate) seed: u32,
    pub(crate) n_vocab: i32,
    pub(crate) greedy: bool,
    pub(crate) n_dry_breakers: usize,
    pub(crate) n_logit_bias: usize,
    pub(crate) dry_breakers: *const *const c_char,
    pub(crate) logit_bias: *const llama_logit_bias,
}

/// The shim's sampler, used only through a pointer.
#[repr(C)]
pub(crate) struct Sampler {
    opaque: [u8; 0],
}

unsafe extern "C" {
    fn mullama_last_error() -> *const c_char;
    pub(crate) fn mullama_init(log: Log, variant: *const c_char) -> i32;
    #[cfg(feature = "portable")]
    pub(crate) fn mullama_library_path(out: *mut c_char, capacity: usize) -> i32;
    #[cfg(feature = "portable")]
    pub(crate) fn mullama_plugin_load(path: *const c_char, devices: *mut i64) -> i32;
    pub(crate) fn mullama_system_info() -> *const c_char;
    #[cfg(test)]
    fn mullama_size_of(which: i32) -> usize;
    #[cfg(feature = "test-support")]
    pub(crate) fn mullama_fail(status: i32) -> i32;
    pub(crate) fn mullama_devices(out: *mut Device, capacity: usize, count: *mut usize) -> i32;

    pub(crate) fn mullama_model_load(
        path: *const c_char,
        options: *const ModelOptions,
        progress: Option<Progress>,
        user_data: *mut c_void,
        out: *mut *mut llama_model,
    ) -> i32;
    pub(crate) fn mullama_model_free(model: *mut llama_model);
    pub(crate) fn mullama_model_facts(model: *const llama_model, vocab_only: bool, out: *mut ModelFacts) -> i32;
    pub(crate) fn mullama_model_text(
        model: *const llama_model,
        which: i32,
        index: i32,
        out: *mut c_char,
        capacity: usize,
        length: *mut i64,
    ) -> i32;

    pub(crate) fn mullama_vocab_facts(
        model: *const llama_model,
        vocab: *mut *const llama_vocab,
        out: *mut VocabFacts,
    ) -> i32;
    pub(crate) fn mullama_vocab_adds_space(vocab: *const llama_vocab, out: *mut bool) -> i32;
    pub(crate) fn mullama_vocab_eog(
        vocab: *const llama_vocab,
        out: *mut i32,
        capacity: usize,
        count: *mut usize,
    ) -> i32;
    pub(crate) fn mullama_keep_statics_at_exit();
    pub(crate) fn mullama_vocab_is_control(vocab: *const llama_vocab, token: i32, out: *mut bool) -> i32;
    pub(crate) fn mullama_vocab_attr(vocab: *const llama_vocab, token: i32, out: *mut i32) -> i32;
    pub(crate) fn mullama_vocab_text(vocab: *const llama_vocab, token: i32, out: *mut *const c_char) -> i32;
    pub(crate) fn mullama_vocab_piece(
        vocab: *const llama_vocab,
        token: i32,
        special: bool,
        out: *mut c_char,
        capacity: i32,
        length: *mut i32,
    ) -> i32;
    pub(crate) fn mullama_tokenize(
        vocab: *const llama_vocab,
        text: *const c_char,
        bytes: i32,
        out: *mut i32,
        capacity: i32,
        flags: i32,
        count: *mut i32,
    ) -> i32;

    pub(crate) fn mullama_context_new(
        model: *mut llama_model,
        options: *const ContextOptions,
        out: *mut *mut llama_context,
    ) -> i32;
    pub(crate) fn mullama_context_free(context: *mut llama_context) -> i32;
    pub(crate) fn mullama_context_facts(context: *mut llama_context, out: *mut ContextFacts) -> i32;
    pub(crate) fn mullama_decode(context: *mut llama_context, batch: *const Batch, result: *mut i32) -> i32;
    pub(crate) fn mullama_synchronize(context: *mut llama_context) -> i32;
    pub(crate) fn mullama_logits(context: *mut llama_context, row: i32, out: *mut *const f32) -> i32;
    pub(crate) fn mullama_seq(
        context: *mut llama_context,
        op: i32,
        span: *const Span,
        argument: i32,
        result: *mut i32,
    ) -> i32;
    pub(crate) fn mullama_state_size(context: *mut llama_context, seq: i32, out: *mut usize) -> i32;
    pub(crate) fn mullama_state_get(
        context: *mut llama_context,
        seq: i32,
        out: *mut u8,
        capacity: usize,
        written: *mut usize,
    ) -> i32;
    pub(crate) fn mullama_state_set(
        context: *mut llama_context,
        seq: i32,
        bytes: *const u8,
        size: usize,
        read: *mut usize,
    ) -> i32;

    pub(crate) fn mullama_pool_new(n_threads: i32, poll: u32, out: *mut *mut ggml_threadpool) -> i32;
    pub(crate) fn mullama_pool_free(pool: *mut ggml_threadpool) -> i32;
    pub(crate) fn mullama_pool_pause(pool: *mut ggml_threadpool) -> i32;
    pub(crate) fn mullama_pool_attach(context: *mut llama_context, pools: *const Pools) -> i32;

    pub(crate) fn mullama_sampler_new(
        vocab: *const llama_vocab,
        options: *const SamplerOptions,
        out: *mut *mut Sampler,
    ) -> i32;
    pub(crate) fn mullama_sampler_free(sampler: *mut Sampler);
    pub(crate) fn mullama_sampler_trim(sampler: *mut Sampler);
    pub(crate) fn mullama_sampler_sample(
        sampler: *mut Sampler,
        logits: *const f32,
        token: *mut i32,
        sampled: *mut i32,
    ) -> i32;
    pub(crate) fn mullama_sampler_accept(sampler: *mut Sampler, token: i32) -> i32;
    pub(crate) fn mullama_sampler_reset(sampler: *mut Sampler) -> i32;
}

/// The error text of the last failed shim call on this thread.
pub(crate) fn last_error() -> String {
    // SAFETY: the shim returns a thread-local buffer that always ends in NUL, and nothing else writes it meanwhile.
    let text = unsafe { CStr::from_ptr(mullama_last_error()) };
    text.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shim_and_rust_agree_on_the_size_of_every_struct() {
        let rust = [
            size_of::<llama_cpp_sys_2::llama_model_params>(),
            size_of::<llama_cpp_sys_2::llama_context_params>(),
            size_of::<llama_logit_bias>(),
            size_of::<llama_cpp_sys_2::llama_batch>(),
            size_of::<ModelOptions>(),
            size_of::<ModelFacts>(),
            size_of::<VocabFacts>(),
            size_of::<ContextOptions>(),
            size_of::<ContextFacts>(),
            size_of::<Batch>(),
            size_of::<SamplerOptions>(),
            size_of::<Span>(),
            size_of::<Pools>(),
            size_of::<Device>(),
        ];
        for (which, size) in (0..).zip(rust) {
            // SAFETY: the function only looks a number up.
            assert_eq!(unsafe { mullama_size_of(which) }, size, "struct {which}");
        }
    }
}
