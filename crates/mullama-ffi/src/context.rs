//! Owns a context: the KV pool, the compute buffers and the threads of one engine, which decode batches.

use std::cell::Cell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::contention::CpuContention;
use crate::error::{Error, check};
#[cfg(feature = "test-support")]
use crate::failure::Failure;
use crate::model::Model;
use crate::options::{ContextOptions, check_threads};
use crate::threads::Pools;
use crate::{log, sys};

/// How long dropping a poisoned context waits until it is freed.
const FREE_TIME_LIMIT: Duration = Duration::from_secs(1);

/// The parts of a context, in the order in which they are freed: the threads must end before the buffers are freed.
pub(crate) struct Parts {
    pub(crate) pools: Pools,
    /// Replaced pools: llama.cpp's CPU backend keeps using the last one until it uses another.
    pub(crate) replaced: Vec<Pools>,
    raw: RawContext,
    abort: Arc<AtomicBool>,
    model: Arc<Model>,
}

struct RawContext(NonNull<sys::llama_context>);

// SAFETY: a llama_context is tied to no thread; only its holder uses it.
unsafe impl Send for RawContext {}

impl Drop for RawContext {
    fn drop(&mut self) {
        // SAFETY: freed once, here, and before the model. A failure leaves it allocated.
        let _ = unsafe { sys::mullama_context_free(self.0.as_ptr()) };
    }
}

/// A llama.cpp context: a KV pool for up to `n_seq_max` sequences, compute buffers and threads.
///
/// It can move between threads, but only one thread uses it at a time. Dropping it frees everything except the model.
pub struct Context {
    pub(crate) parts: ManuallyDrop<Parts>,
    pub(crate) facts: sys::ContextFacts,
    poll: u32,
    pub(crate) n_outputs_max: u32,
    pub(crate) n_vocab: usize,
    /// Which rows of the last decode have logits.
    pub(crate) outputs: Vec<i8>,
    /// The next position of each sequence while a batch is checked; kept to avoid an allocation.
    pub(crate) expected: Vec<Option<i32>>,
    poisoned: Cell<bool>,
    #[cfg(feature = "test-support")]
    pub(crate) fail_next: Option<Failure>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("facts", &self.facts).field("poisoned", &self.poisoned).finish_non_exhaustive()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: taken once, and nothing uses it after.
        let parts = unsafe { ManuallyDrop::take(&mut self.parts) };
        if self.poisoned.get() {
            free_detached(parts);
        }
    }
}

/// Frees a poisoned context on a separate thread: if the failure left compute threads waiting for each other inside a
/// graph, joining them never ends, and then only that thread should hang.
fn free_detached(parts: Parts) {
    let (freed, wait) = mpsc::sync_channel(1);
    let parts = ManuallyDrop::new(parts);
    let thread = thread::Builder::new().name("mullama-free".to_owned()).spawn(move || {
        drop(ManuallyDrop::into_inner(parts));
        // The caller may have stopped waiting.
        let _ = freed.send(());
    });
    // Without a thread the context stays allocated, which is better than blocking the caller forever.
    if thread.is_err() || wait.recv_timeout(FREE_TIME_LIMIT).is_err() {
        tracing::error!("a failed context could not be freed");
    }
}

impl Context {
    /// Creates a context for a model.
    ///
    /// # Errors
    ///
    /// [`Error::ContextField`], [`Error::ModelUnsuited`], [`Error::ContextRefused`] with what llama.cpp logged,
    /// [`Error::PoolRefused`], or an error from C++.
    pub fn new(model: &Arc<Model>, options: &ContextOptions) -> Result<Self, Error> {
        Self::with_abort_flag(model, options, Arc::default())
    }

    /// Like [`new`](Self::new), with an abort flag that outlives the context, so that an owner that replaces a failed
    /// context can keep the same flag.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_abort_flag(
        model: &Arc<Model>,
        options: &ContextOptions,
        abort: Arc<AtomicBool>,
    ) -> Result<Self, Error> {
        options.check()?;
        check_model(model)?;
        let n_outputs_max = options.n_outputs_max.max(options.n_seq_max);
        let pools = Pools::new(options.n_threads, options.n_threads_batch, options.poll)?;
        let raw = make(model, options, n_outputs_max, &abort)?;
        let parts = Parts { pools, replaced: Vec::new(), raw, abort, model: Arc::clone(model) };
        parts.pools.attach(parts.raw.0.as_ptr())?;
        let mut facts = sys::ContextFacts::default();
        // SAFETY: the context is alive.
        let status = unsafe { sys::mullama_context_facts(parts.raw.0.as_ptr(), &raw mut facts) };
        check("llama_n_ctx", status)?;
        if !facts.has_memory {
            return Err(Error::ModelUnsuited { reason: "it has no KV cache or recurrent state" });
        }
        if !facts.causal {
            // Without a causal mask, all tokens attend to each other and must be in one part of the batch.
            facts.n_batch = facts.n_batch.min(facts.n_ubatch);
        }
        Ok(Self {
            n_outputs_max,
            n_vocab: model.vocab().n_tokens(),
            outputs: Vec::with_capacity(facts.n_batch as usize),
            expected: vec![None; facts.n_seq_max as usize],
            poisoned: Cell::new(false),
            poll: options.poll,
            facts,
            parts: ManuallyDrop::new(parts),
            #[cfg(feature = "test-support")]
            fail_next: None,
        })
    }

    pub(crate) fn raw(&self) -> *mut sys::llama_context {
        self.parts.raw.0.as_ptr()
    }

    /// Refuses a context that has failed.
    pub(crate) fn usable(&self) -> Result<(), Error> {
        if self.poisoned.get() { Err(Error::Poisoned) } else { Ok(()) }
    }

    /// Returns the result, after marking the context as poisoned if the error leaves it in an unknown state.
    pub(crate) fn poisoned_by<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if result.as_ref().is_err_and(Error::poisons) {
            self.poisoned.set(true);
        }
        result
    }

    /// Waits until everything that was decoded has been computed. On a GPU [`decode`](Self::decode) may return earlier.
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`], or an error from C++.
    pub fn synchronize(&mut self) -> Result<(), Error> {
        self.usable()?;
        // SAFETY: the context is alive, and `&mut self` excludes other calls.
        let status = unsafe { sys::mullama_synchronize(self.raw()) };
        self.poisoned_by(check("llama_synchronize", status))
    }

    /// Sets the number of compute threads for later decodes: `n_threads` for a single token, `n_threads_batch` for
    /// several.
    ///
    /// # Errors
    ///
    /// [`Error::ContextField`], [`Error::PoolRefused`], [`Error::Poisoned`], or an error from C++.
    pub fn set_threads(&mut self, n_threads: u32, n_threads_batch: u32) -> Result<(), Error> {
        self.usable()?;
        check_threads(n_threads, n_threads_batch)?;
        if self.parts.pools.sizes() == (n_threads, n_threads_batch) {
            return Ok(());
        }
        let pools = Pools::new(n_threads, n_threads_batch, self.poll)?;
        let attached = pools.attach(self.raw());
        self.poisoned_by(attached)?;
        let mut replaced = std::mem::replace(&mut self.parts.pools, pools);
        let slept = replaced.sleep();
        self.parts.replaced.push(replaced);
        self.poisoned_by(slept)
    }

    /// How many compute threads waited for a core, if the last decode completed a reading: a reading covers at least 16
    /// ms, which may take many short decodes. Always `None` on systems other than Linux.
    pub fn contention(&self) -> Option<CpuContention> {
        self.parts.pools.contention()
    }

    /// Puts the compute threads to sleep at once, instead of letting them poll for more work for a while. The next
    /// decode wakes them. This costs nothing if they are already asleep.
    ///
    /// # Errors
    ///
    /// [`Error::Poisoned`], or an error from C++.
    pub fn pause_threads(&mut self) -> Result<(), Error> {
        self.usable()?;
        let slept = self.parts.pools.sleep();
        self.poisoned_by(slept)
    }

    /// Makes the next decode fail with this failure.
    #[cfg(feature = "test-support")]
    pub fn fail_next_decode(&mut self, failure: Failure) {
        self.fail_next = Some(failure);
    }

    /// The abort flag: while it is set, from any thread, the running decode ends early, and so does every later one.
    /// The context itself never changes it.
    pub fn abort_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.parts.abort)
    }

    /// The model of this context.
    pub fn model(&self) -> &Arc<Model> {
        &self.parts.model
    }

    /// Number of cells in the KV pool.
    pub fn n_ctx(&self) -> u32 {
        self.facts.n_ctx
    }

    /// Maximum number of tokens of one decode.
    pub fn n_batch(&self) -> u32 {
        self.facts.n_batch
    }

    /// Maximum number of tokens computed at once inside a decode.
    pub fn n_ubatch(&self) -> u32 {
        self.facts.n_ubatch
    }

    /// Number of sequences.
    pub fn n_seq_max(&self) -> u32 {
        self.facts.n_seq_max
    }

    /// Maximum number of rows of logits of one decode.
    pub fn n_outputs_max(&self) -> u32 {
        self.n_outputs_max
    }

    /// Number of tokens in the vocabulary, which is the length of a row of logits.
    pub fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    /// Whether an earlier failure left the context in an unknown state.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.get()
    }
}

fn check_model(model: &Model) -> Result<(), Error> {
    let reason = if model.is_vocab_only() {
        "only its vocabulary was loaded"
    } else if !model.has_decoder() {
        "it has no decoder"
    } else if model.has_encoder() {
        "it reads its input with an encoder"
    } else if model.vocab().n_tokens() == 0 {
        "it has no tokens"
    } else {
        return Ok(());
    };
    Err(Error::ModelUnsuited { reason })
}

fn make(
    model: &Arc<Model>,
    options: &ContextOptions,
    n_outputs_max: u32,
    abort: &Arc<AtomicBool>,
) -> Result<RawContext, Error> {
    let raw_options = options.raw(n_outputs_max, abort);
    log::forget_said();
    let mut raw = ptr::null_mut();
    // SAFETY: the model is alive and stays so by the `Arc` in the context, and so does the abort flag.
    let status = unsafe { sys::mullama_context_new(model.raw(), &raw const raw_options, &raw mut raw) };
    check("llama_init_from_model", status)?;
    let raw = NonNull::new(raw).ok_or_else(|| Error::ContextRefused { said: log::take_said() })?;
    Ok(RawContext(raw))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::batch::Batch;
    use crate::model::ModelOptions;

    fn demo() -> Arc<Model> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../python/mullama/models/demo.gguf");
        Model::load(&path, &ModelOptions::default(), None).expect("the demo loads")
    }

    fn context(model: &Arc<Model>) -> Context {
        let options =
            ContextOptions { n_ctx: 256, n_batch: 64, n_threads: 2, n_threads_batch: 2, ..ContextOptions::default() };
        Context::new(model, &options).expect("a context")
    }

    fn batch(tokens: i32, seq: i32) -> Batch {
        let mut batch = Batch::new(256);
        for position in 0..tokens {
            batch.push(1, position, seq, false).expect("room");
        }
        batch
    }

    #[test]
    fn an_assertion_of_llama_cpp_behind_the_checks_is_an_error() {
        let model = demo();
        let mut broken = context(&model);
        broken.decode(&batch(1, 0)).expect("its threads are awake");
        broken.clear().expect("cleared");
        broken.facts.n_batch = 1000;
        let error = broken.decode(&batch(65, 0)).expect_err("llama.cpp asserts n_tokens <= n_batch");
        assert!(matches!(&error, Error::Assertion { text, .. } if text.contains("n_batch")), "{error:?}");
        assert!(broken.is_poisoned());
        drop(broken);

        let mut broken = context(&model);
        broken.facts.n_seq_max = 1000;
        let error = broken.seq_rm(999, 0, None).expect_err("llama.cpp asserts the sequence");
        assert!(matches!(&error, Error::Assertion { text, .. } if text.contains("seq_id")), "{error:?}");
        drop(broken);
        context(&model).decode(&batch(64, 0)).expect("another context works");
    }

    #[test]
    fn an_exception_of_llama_cpp_behind_the_checks_is_an_error() {
        let model = demo();
        let (mut length, mut bytes) = (0, [0; 8]);
        // SAFETY: the id is out of range, for which llama.cpp throws before it writes.
        let status = unsafe {
            sys::mullama_vocab_piece(model.vocab().raw(), 1 << 30, true, bytes.as_mut_ptr(), 8, &raw mut length)
        };
        let error = check("llama_token_to_piece", status).expect_err("it throws");
        assert!(matches!(error, Error::Exception { call: "llama_token_to_piece", .. }), "{error:?}");
    }
}
