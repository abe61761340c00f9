//! Owns a loaded model: its weights, its metadata and its vocabulary.

use std::any::Any;
use std::ffi::{CString, c_char, c_void};
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crate::devices::devices;
use crate::error::{Error, check};
use crate::token::TokenId;
use crate::vocab::{Vocab, VocabFacts};
use crate::{backend, log, sys};

/// Options for loading a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "llama.cpp's own switches")]
pub struct ModelOptions {
    /// Number of layers to offload to a GPU, if llama.cpp was built with GPU support; a negative number offloads all.
    pub n_gpu_layers: i32,
    /// Maps the file into memory instead of reading it; the pages are shared with other processes.
    pub use_mmap: bool,
    /// Locks the weights in RAM, as far as the system allows it.
    pub use_mlock: bool,
    /// Checks every weight for NaN and infinity while loading.
    pub check_tensors: bool,
    /// Loads only the vocabulary.
    pub vocab_only: bool,
}

impl Default for ModelOptions {
    fn default() -> Self {
        Self { n_gpu_layers: -1, use_mmap: true, use_mlock: false, check_tensors: false, vocab_only: false }
    }
}

/// A model in memory. Contexts hold it by `Arc`; the last one frees it.
pub struct Model {
    raw: NonNull<sys::llama_model>,
    facts: sys::ModelFacts,
    vocab: VocabFacts,
    vocab_only: bool,
    gpu_layers: u32,
}

// SAFETY: llama.cpp writes to a model only while loading and freeing it; neither happens while it is shared.
unsafe impl Send for Model {}
// SAFETY: as above: every call through `&Model` reads.
unsafe impl Sync for Model {}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: `raw` came from a load and is freed only here; contexts hold an `Arc`, so none is left.
        unsafe { sys::mullama_model_free(self.raw.as_ptr()) }
    }
}

/// A progress callback that is passed through C, with its result and any panic that it raised.
struct ProgressCall<'a> {
    report: &'a mut dyn FnMut(f32) -> bool,
    cancelled: bool,
    panic: Option<Box<dyn Any + Send>>,
}

unsafe extern "C" fn on_progress(fraction: f32, user_data: *mut c_void) -> bool {
    // SAFETY: `load` passes a `ProgressCall` that outlives the load and that nothing else touches meanwhile.
    let call = unsafe { &mut *user_data.cast::<ProgressCall<'_>>() };
    if call.cancelled {
        return false;
    }
    let go_on = panic::catch_unwind(AssertUnwindSafe(|| (call.report)(fraction)));
    call.cancelled = !matches!(go_on, Ok(true));
    call.panic = go_on.err();
    !call.cancelled
}

impl Model {
    /// Loads a GGUF file. `progress` receives the loaded fraction, from 0 to 1, and stops the load by returning
    /// `false`.
    ///
    /// Blocks until the weights are loaded. llama.cpp trusts the file to some extent, so check its structure first. If
    /// a mapped file is truncated later, the process ends (SIGBUS).
    ///
    /// # Errors
    ///
    /// [`Error::ModelRefused`] with what llama.cpp logged, [`Error::ModelCancelled`], [`Error::NulByte`] in the path,
    /// or an error from C++.
    ///
    /// # Panics
    ///
    /// If `progress` panics.
    pub fn load(
        path: &Path,
        options: &ModelOptions,
        progress: Option<&mut dyn FnMut(f32) -> bool>,
    ) -> Result<Arc<Self>, Error> {
        backend::init()?;
        let path = CString::new(path.as_os_str().as_encoded_bytes())
            .map_err(|_| Error::NulByte { what: "the model's path" })?;
        let mut call = progress.map(|report| ProgressCall { report, cancelled: false, panic: None });
        log::forget_said();
        let loaded = Self::load_raw(&path, options, call.as_mut());
        if let Some(call) = call {
            if let Some(payload) = call.panic {
                panic::resume_unwind(payload);
            }
            if call.cancelled && loaded.is_err() {
                return Err(Error::ModelCancelled);
            }
        }
        loaded.map(Arc::new)
    }

    fn load_raw(path: &CString, options: &ModelOptions, call: Option<&mut ProgressCall<'_>>) -> Result<Self, Error> {
        let raw_options = sys::ModelOptions {
            n_gpu_layers: options.n_gpu_layers,
            use_mmap: options.use_mmap,
            use_mlock: options.use_mlock,
            check_tensors: options.check_tensors,
            vocab_only: options.vocab_only,
        };
        let progress = call.is_some().then_some(on_progress as sys::Progress);
        let user_data = call.map_or(ptr::null_mut(), |call| ptr::from_mut(call).cast());
        let mut raw = ptr::null_mut();
        // SAFETY: path and options live across the call; `user_data` is what `on_progress` expects, or unused.
        let status = unsafe {
            sys::mullama_model_load(path.as_ptr(), &raw const raw_options, progress, user_data, &raw mut raw)
        };
        check("llama_model_load_from_file", status)?;
        let raw = NonNull::new(raw).ok_or_else(|| Error::ModelRefused { said: log::take_said() })?;
        // From here on `Drop` frees the model, even if reading its metadata fails.
        let mut model = Self {
            raw,
            facts: sys::ModelFacts::default(),
            vocab: VocabFacts::default(),
            vocab_only: options.vocab_only,
            gpu_layers: 0,
        };
        // SAFETY: `raw` is a loaded model.
        let status = unsafe { sys::mullama_model_facts(raw.as_ptr(), options.vocab_only, &raw mut model.facts) };
        check("llama_model_n_params", status)?;
        model.vocab = VocabFacts::of(&model)?;
        if !options.vocab_only && options.n_gpu_layers != 0 {
            let has_gpu = devices()?.iter().any(|device| device.kind.holds_layers());
            model.gpu_layers = offloaded_layers(options.n_gpu_layers, model.n_layer(), has_gpu);
        }
        Ok(model)
    }

    pub(crate) fn raw(&self) -> *mut sys::llama_model {
        self.raw.as_ptr()
    }

    pub(crate) fn is_vocab_only(&self) -> bool {
        self.vocab_only
    }

    pub(crate) fn vocab_facts(&self) -> &VocabFacts {
        &self.vocab
    }

    /// The model's vocabulary.
    pub fn vocab(&self) -> Vocab<'_> {
        Vocab::new(self)
    }

    /// Context length that the model was trained for, in tokens.
    pub fn n_ctx_train(&self) -> u32 {
        self.facts.n_ctx_train.max(0).cast_unsigned()
    }

    /// Dimension of the embeddings.
    pub fn n_embd(&self) -> u32 {
        self.facts.n_embd.max(0).cast_unsigned()
    }

    /// Number of layers.
    pub fn n_layer(&self) -> u32 {
        self.facts.n_layer.max(0).cast_unsigned()
    }

    /// Number of layers on GPUs, out of [`n_layer`](Self::n_layer) plus one for the output; 0 without a GPU.
    pub fn gpu_layers(&self) -> u32 {
        self.gpu_layers
    }

    /// Number of attention heads in the first layer.
    pub fn n_head(&self) -> u32 {
        self.facts.n_head.max(0).cast_unsigned()
    }

    /// Number of key and value heads in the first layer.
    pub fn n_head_kv(&self) -> u32 {
        self.facts.n_head_kv.max(0).cast_unsigned()
    }

    /// Width of the sliding attention window; 0 if the model has none.
    pub fn n_swa(&self) -> u32 {
        self.facts.n_swa.max(0).cast_unsigned()
    }

    /// Number of weights.
    pub fn n_params(&self) -> u64 {
        self.facts.n_params
    }

    /// Whether the load requested layers on a GPU, and there is one.
    pub fn uses_gpu(&self) -> bool {
        self.gpu_layers != 0
    }

    /// Weights that the CPU multiplies per token, estimated from the share of layers that were not requested on a GPU.
    pub fn cpu_weights(&self) -> u64 {
        let layers = u64::from(self.n_layer()).max(1);
        let on_gpu = u64::from(self.gpu_layers).min(layers);
        self.n_params() / layers * (layers - on_gpu)
    }

    /// Size of all weights in bytes.
    pub fn size(&self) -> u64 {
        self.facts.size
    }

    /// Whether all of the model's memory is a recurrent state, as in Mamba: it cannot be truncated.
    pub fn is_recurrent(&self) -> bool {
        self.facts.is_recurrent
    }

    /// Whether part of the model's memory is a recurrent state.
    pub fn is_hybrid(&self) -> bool {
        self.facts.is_hybrid
    }

    /// Whether the model generates text by diffusion instead of token by token.
    pub fn is_diffusion(&self) -> bool {
        self.facts.is_diffusion
    }

    /// Whether the model processes its input with an encoder first.
    pub fn has_encoder(&self) -> bool {
        self.facts.has_encoder
    }

    /// Whether the model has a decoder.
    pub fn has_decoder(&self) -> bool {
        self.facts.has_decoder
    }

    /// A short description: architecture, size and quantisation.
    pub fn desc(&self) -> String {
        self.text(sys::ML_TEXT_DESC, 0).unwrap_or_default()
    }

    /// The Jinja chat template in the file.
    pub fn chat_template(&self) -> Option<String> {
        self.text(sys::ML_TEXT_CHAT_TEMPLATE, 0)
    }

    /// Metadata keys and values of the file, without arrays, in the order of llama.cpp's map.
    pub fn metadata(&self) -> Vec<(String, String)> {
        (0..self.facts.n_metadata)
            .filter_map(|index| {
                let key = self.text(sys::ML_TEXT_META_KEY, index)?;
                Some((key, self.text(sys::ML_TEXT_META_VALUE, index)?))
            })
            .collect()
    }

    /// Reads a text, a second time if it does not fit the first buffer; `None` if llama.cpp does not have it.
    fn text(&self, which: i32, index: i32) -> Option<String> {
        let mut buffer = vec![0u8; 1024];
        loop {
            let mut length = -1i64;
            // SAFETY: the model is loaded, and the shim writes at most `buffer.len()` bytes.
            let status = unsafe {
                sys::mullama_model_text(
                    self.raw.as_ptr(),
                    which,
                    index,
                    buffer.as_mut_ptr().cast::<c_char>(),
                    buffer.len(),
                    &raw mut length,
                )
            };
            check("llama_model_text", status).ok()?;
            let length = usize::try_from(length).ok()?;
            // One byte more than the text, because most of these calls append a NUL.
            if length < buffer.len() {
                buffer.truncate(length);
                return Some(String::from_utf8_lossy(&buffer).into_owned());
            }
            buffer.resize(length + 1, 0);
        }
    }
}

/// llama.cpp's own rule, which no public function exposes (`load_tensors` in `llama-model.cpp`): a negative number
/// means all layers, and the output counts as one more.
fn offloaded_layers(wanted: i32, n_layer: u32, has_gpu: bool) -> u32 {
    let all = if has_gpu { n_layer + 1 } else { 0 };
    u32::try_from(wanted).map_or(all, |wanted| wanted.min(all))
}

/// llama.cpp uses negative token ids for "none".
pub(crate) fn some_token(token: TokenId) -> Option<TokenId> {
    (token >= 0).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::offloaded_layers;

    #[test]
    fn layers_are_offloaded_up_to_the_output_and_only_to_a_gpu() {
        assert_eq!([-1, 0, 5, 33, 99].map(|wanted| offloaded_layers(wanted, 32, true)), [33, 0, 5, 33, 33]);
        assert_eq!([-1, 0, 5, 33, 99].map(|wanted| offloaded_layers(wanted, 32, false)), [0; 5]);
    }
}
