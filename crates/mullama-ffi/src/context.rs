//! Owns a context: the KV pool, the compute buffers and the threads of one engine, and decodes batches with them.

use std::cell::Cell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::batch::Batch;
use crate::error::{Error, check};
use crate::lookout::Lookout;
use crate::model::Model;
use crate::options::ContextOptions;
use crate::threads::Pools;
use crate::{log, sys};

/// How long dropping a poisoned context waits for it to go.
const BURIAL_TIME: Duration = Duration::from_secs(1);

/// A failure that [`Context::fail_next_decode`] brings about.
#[cfg(feature = "test-support")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// A C++ exception.
    Exception,
    /// A failed assertion that goes through llama.cpp's abort hook.
    Assertion,
    /// This status of `llama_decode`.
    Status(i32),
    /// It computes so many nodes of its graph, at least one, and is given up as if its threads had waited for cores.
    Crowded {
        /// How many.
        nodes: u32,
    },
}

/// What a context is made of, in the order in which it goes: no thread computes any more when the buffers are freed.
pub(crate) struct Parts {
    pub(crate) pools: Pools,
    /// Pools that were replaced: llama.cpp's CPU backend holds the last one it used until it uses another.
    pub(crate) replaced: Vec<Pools>,
    raw: RawContext,
    pub(crate) lookout: Arc<Lookout>,
    model: Arc<Model>,
}

struct RawContext(NonNull<sys::llama_context>);

// SAFETY: a llama_context is tied to no thread; whoever holds it is the only one to use it.
unsafe impl Send for RawContext {}

impl Drop for RawContext {
    fn drop(&mut self) {
        // SAFETY: freed once, here, and before the model. A failure leaves it allocated.
        let _ = unsafe { sys::mullama_context_free(self.0.as_ptr()) };
    }
}

/// A model at work: a KV pool for up to `n_seq_max` sequences, and the means to decode.
///
/// It moves between threads but is used by one at a time. Dropping it frees everything but the model.
pub struct Context {
    pub(crate) parts: ManuallyDrop<Parts>,
    pub(crate) facts: sys::ContextFacts,
    pub(crate) poll: u32,
    give_up_crowded: bool,
    n_outputs_max: u32,
    n_vocab: usize,
    /// Which rows of the last decode have logits.
    outputs: Vec<i8>,
    /// The next position of each sequence while a batch is checked; kept to save the allocation.
    expected: Vec<Option<i32>>,
    poisoned: Cell<bool>,
    #[cfg(feature = "test-support")]
    fail_next: Option<Failure>,
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
            bury(parts);
        }
    }
}

/// Frees a poisoned context on a thread of its own: if the failure left compute threads waiting for each other inside a
/// graph, joining them never ends, and only that thread should hang.
fn bury(parts: Parts) {
    let (gone, wait) = mpsc::sync_channel(1);
    let parts = ManuallyDrop::new(parts);
    let thread = thread::Builder::new().name("mullama-bury".to_owned()).spawn(move || {
        drop(ManuallyDrop::into_inner(parts));
        // Nobody may be waiting any more.
        let _ = gone.send(());
    });
    // Without a thread the context stays allocated: the lesser evil.
    if thread.is_err() || wait.recv_timeout(BURIAL_TIME).is_err() {
        tracing::error!("a failed context could not be freed");
    }
}

impl Context {
    /// Makes a context on a model.
    ///
    /// # Errors
    ///
    /// [`Error::ContextField`], [`Error::ModelUnsuited`], [`Error::ContextRefused`] with what llama.cpp said,
    /// [`Error::PoolRefused`], or what comes out of C++.
    pub fn new(model: &Arc<Model>, options: &ContextOptions) -> Result<Self, Error> {
        Self::with_abort_flag(model, options, Arc::default())
    }

    /// As [`new`](Self::new), with the flag of an owner who makes several contexts, one after the other.
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
        let lookout = Arc::new(Lookout::new(abort));
        let raw = make(model, options, n_outputs_max, &lookout)?;
        let parts = Parts { pools, replaced: Vec::new(), raw, lookout, model: Arc::clone(model) };
        parts.pools.attach(parts.raw.0.as_ptr())?;
        let mut facts = sys::ContextFacts::default();
        // SAFETY: the context is alive.
        let status = unsafe { sys::mullama_context_facts(parts.raw.0.as_ptr(), &raw mut facts) };
        check("llama_n_ctx", status)?;
        if !facts.has_memory {
            return Err(Error::ModelUnsuited { reason: "it keeps no memory of what it read" });
        }
        if !facts.causal {
            // llama.cpp wants all that attends to each other in one piece.
            facts.n_batch = facts.n_batch.min(facts.n_ubatch);
        }
        Ok(Self {
            n_outputs_max,
            n_vocab: model.vocab().n_tokens(),
            outputs: Vec::with_capacity(facts.n_batch as usize),
            expected: vec![None; facts.n_seq_max as usize],
            poisoned: Cell::new(false),
            poll: options.poll,
            give_up_crowded: options.give_up_crowded,
            facts,
            parts: ManuallyDrop::new(parts),
            #[cfg(feature = "test-support")]
            fail_next: None,
        })
    }

    pub(crate) fn raw(&self) -> *mut sys::llama_context {
        self.parts.raw.0.as_ptr()
    }

    /// Refuses a context that failed before.
    pub(crate) fn usable(&self) -> Result<(), Error> {
        if self.poisoned.get() { Err(Error::Poisoned) } else { Ok(()) }
    }

    /// Passes a result on, and remembers if it means that the context is in an unknown state.
    pub(crate) fn poisoned_by<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if result.as_ref().is_err_and(Error::poisons) {
            self.poisoned.set(true);
        }
        result
    }

    /// Computes the batch: its tokens enter the KV pool, and the logits of the rows that asked for them can be read.
    ///
    /// Blocks until it is computed, the abort flag ends it, or it is given up because its threads wait for cores. After
    /// [`Error::Aborted`], [`Error::Crowded`] and [`Error::DecodeFailed`] a part of the batch may have entered the pool:
    /// ask [`seq_pos_max`](Self::seq_pos_max). After other errors that do not [poison](Error::poisons) the pool is as it
    /// was.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyBatch`], [`Error::BatchTooLarge`], [`Error::TooManyOutputs`], [`Error::TokenOutOfRange`],
    /// [`Error::SequenceOutOfRange`], [`Error::PositionOutOfRange`] and [`Error::PositionGap`] before anything is
    /// computed; then [`Error::NoKvSlot`], [`Error::Aborted`], [`Error::Crowded`], [`Error::InvalidBatch`],
    /// [`Error::DecodeFailed`], or what comes out of C++.
    pub fn decode(&mut self, batch: &Batch) -> Result<(), Error> {
        self.usable()?;
        self.parts.lookout.begin(self.parts.pools.told(batch.len()), self.may_give_up(batch.len()));
        self.check_batch(batch)?;
        self.outputs.clear();
        #[cfg(feature = "test-support")]
        match self.fail_next.take() {
            Some(Failure::Crowded { nodes }) => self.parts.lookout.give_up_after(nodes),
            Some(failure) => return self.poisoned_by(failure.happen()),
            None => {}
        }
        log::forget_said();
        self.parts.pools.wake();
        log::hold();
        let raw_batch = batch.raw();
        let mut result = 0;
        // SAFETY: the batch outlives the call, and everything in it is in range.
        let status = unsafe { sys::mullama_decode(self.raw(), &raw const raw_batch, &raw mut result) };
        let done = check("llama_decode", status).and_then(|()| outcome(result));
        let early = matches!(done, Err(Error::Aborted));
        log::release(early);
        let done = if early && self.parts.lookout.gave_up() { Err(Error::Crowded) } else { done };
        if matches!(done, Ok(()) | Err(Error::Crowded)) {
            // A graph ran with the pools of today.
            self.parts.replaced.clear();
        }
        self.poisoned_by(done)?;
        self.outputs.extend_from_slice(batch.wanted());
        Ok(())
    }

    /// Whether a decode of so many rows may be given up: what it has computed must be possible to take back. In a batch of
    /// several parts, a later one may lie where an earlier one had pushed tokens out of a sliding window, which the first
    /// row still needs.
    fn may_give_up(&self, rows: usize) -> bool {
        self.give_up_crowded && (self.parts.model.n_swa() == 0 || rows <= self.facts.n_ubatch as usize)
    }

    fn check_batch(&mut self, batch: &Batch) -> Result<(), Error> {
        let tokens = batch.len();
        if tokens == 0 {
            return Err(Error::EmptyBatch);
        }
        if tokens > self.facts.n_batch as usize {
            return Err(Error::BatchTooLarge { tokens, n_batch: self.facts.n_batch });
        }
        if batch.outputs() > self.n_outputs_max as usize {
            return Err(Error::TooManyOutputs { outputs: batch.outputs(), max: self.n_outputs_max });
        }
        self.expected.fill(None);
        for (token, position, seq) in batch.rows() {
            if usize::try_from(token).map_or(true, |index| index >= self.n_vocab) {
                return Err(Error::TokenOutOfRange { token, n_vocab: self.n_vocab });
            }
            self.check_position(seq, position)?;
        }
        Ok(())
    }

    /// A sequence that the pool holds goes on where it ends; an empty one may begin anywhere.
    fn check_position(&mut self, seq: i32, position: i32) -> Result<(), Error> {
        let index = self.check_seq(seq)?;
        if position < 0 || position == i32::MAX {
            return Err(Error::PositionOutOfRange { position });
        }
        let expected = match self.expected[index] {
            Some(expected) => expected,
            None => self.seq_pos_max(seq)?.map_or(position, |last| last.saturating_add(1)),
        };
        if position != expected {
            return Err(Error::PositionGap { seq, position, expected });
        }
        self.expected[index] = Some(position + 1);
        Ok(())
    }

    /// The logits of a row of the last decode, one for each token of the vocabulary. Nothing is copied.
    ///
    /// # Errors
    ///
    /// [`Error::NoLogits`] if the row was not pushed with `output`, or the last decode failed.
    pub fn logits(&self, row: usize) -> Result<&[f32], Error> {
        self.usable()?;
        let index = i32::try_from(row).map_err(|_| Error::NoLogits { row })?;
        if self.outputs.get(row).is_none_or(|&wanted| wanted == 0) {
            return Err(Error::NoLogits { row });
        }
        let mut logits = ptr::null();
        // SAFETY: the row has logits.
        let status = unsafe { sys::mullama_logits(self.raw(), index, &raw mut logits) };
        self.poisoned_by(check("llama_get_logits_ith", status))?;
        if logits.is_null() {
            return Err(Error::NoLogits { row });
        }
        // SAFETY: llama.cpp points at a row of `n_vocab` floats that stays until the next decode, which needs `&mut self`.
        Ok(unsafe { slice::from_raw_parts(logits, self.n_vocab) })
    }

    /// Makes the next decode fail in this way.
    #[cfg(feature = "test-support")]
    pub fn fail_next_decode(&mut self, failure: Failure) {
        self.fail_next = Some(failure);
    }

    /// Ends the running decode when set, from any thread; every later one too, until it is cleared. The context only
    /// reads it.
    pub fn abort_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(self.parts.lookout.abort_flag())
    }

    /// The model underneath.
    pub fn model(&self) -> &Arc<Model> {
        &self.parts.model
    }

    /// Cells of the KV pool.
    pub fn n_ctx(&self) -> u32 {
        self.facts.n_ctx
    }

    /// Most tokens of one decode.
    pub fn n_batch(&self) -> u32 {
        self.facts.n_batch
    }

    /// Most tokens computed at once inside a decode.
    pub fn n_ubatch(&self) -> u32 {
        self.facts.n_ubatch
    }

    /// Sequences.
    pub fn n_seq_max(&self) -> u32 {
        self.facts.n_seq_max
    }

    /// Most rows of logits of one decode.
    pub fn n_outputs_max(&self) -> u32 {
        self.n_outputs_max
    }

    /// Tokens of the vocabulary, which is the length of a row of logits.
    pub fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    /// Whether it failed in a way that leaves it in an unknown state.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.get()
    }
}

#[cfg(feature = "test-support")]
impl Failure {
    fn happen(self) -> Result<(), Error> {
        let status = match self {
            Self::Exception => sys::ML_EXCEPTION,
            Self::Assertion => sys::ML_ASSERTION,
            Self::Status(result) => return outcome(result),
            Self::Crowded { .. } => unreachable!("a decode that is given up computes first"),
        };
        // SAFETY: the function only fails, inside its guard.
        check("llama_decode", unsafe { sys::mullama_fail(status) })
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
    lookout: &Arc<Lookout>,
) -> Result<RawContext, Error> {
    let raw_options = options.raw(n_outputs_max, lookout);
    log::forget_said();
    let mut raw = ptr::null_mut();
    // SAFETY: the model is alive and stays so by the `Arc` in the context, and so does the lookout.
    let status = unsafe { sys::mullama_context_new(model.raw(), &raw const raw_options, &raw mut raw) };
    check("llama_init_from_model", status)?;
    let raw = NonNull::new(raw).ok_or_else(|| Error::ContextRefused { said: log::take_said() })?;
    Ok(RawContext(raw))
}

/// What a return code of `llama_decode` means.
fn outcome(result: i32) -> Result<(), Error> {
    match result {
        0 => Ok(()),
        1 => Err(Error::NoKvSlot),
        2 => Err(Error::Aborted),
        -1 => Err(Error::InvalidBatch { said: log::take_said() }),
        status => Err(Error::DecodeFailed { status, said: log::take_said() }),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
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
    fn an_assertion_of_llama_cpp_that_no_check_caught_is_an_error() {
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
    fn an_exception_of_llama_cpp_that_no_check_caught_is_an_error() {
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
