//! An engine that a test steps by hand, with scripted logits and a clock that moves only with the engine's work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use mullama_ffi::{Error, TokenId};

use crate::config::ResolvedParams;
use crate::config::StreamConfig;
use crate::engine::client::EngineClient;
use crate::engine::creation::{Work, Workers};
use crate::engine::fixed_chunk::FixedChunks;
use crate::engine::handle::EngineHandle;
use crate::engine::inbox::Inbox;
use crate::engine::{Engine, Parts};
use crate::error::MullamaError;
use crate::request::Prompt;
use crate::stats::Stats;
use crate::stream::TokenStream;
use crate::stream::admission::{AdmissionLimits, WhenFull};

mod fragile;
mod sampling;
mod tokenizer;

pub use fragile::{Failure, FragileContext};
pub use sampling::SamplingRows;
pub use tokenizer::ScriptedTokenizer;

pub use crate::clock::Clock;
pub use crate::engine::Step;
pub use crate::kv::backend::{Backend, Limits, Row};
pub use crate::kv::prefix_cache::Reuse;
pub use crate::kv::scripted::{ByteVocabulary, Faults, Logits, Prices, Script, ScriptedBackend, VirtualClock};
pub use crate::text::vocabulary::Vocabulary;
pub use mullama_ffi::beside_busy_threads;
#[cfg(unix)]
pub use mullama_ffi::in_forked_child;

/// The dimensions of a [`Stage`].
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Number of slots.
    pub slots: usize,
    /// Number of streams that may wait for a slot.
    pub queue: usize,
    /// Number of streams that may be unfinished, however many are paused: at least `slots + queue`.
    pub paused: usize,
    /// Maximum number of tokens of one sequence.
    pub context_len: usize,
    /// The capacity of the backend.
    pub limits: Limits,
    /// Maximum bytes of cached prefixes in host memory.
    pub prefix_cache_bytes: usize,
    /// Whether decodes return before they are computed, as on a GPU.
    pub asynchronous: bool,
    /// Prompt tokens that one step computes for a stream that runs alone.
    pub chunk: usize,
    /// The same for deterministic streams.
    pub deterministic_chunk: usize,
}

impl Default for Size {
    fn default() -> Self {
        let limits = Limits { rows: 512, cells: 1024, n_seq: 72, reuse: Reuse::Nothing };
        Self {
            slots: 8,
            queue: 64,
            paused: 1024,
            context_len: 1024,
            limits,
            prefix_cache_bytes: 0,
            asynchronous: false,
            chunk: 32,
            deterministic_chunk: 8,
        }
    }
}

impl Size {
    fn admission(&self) -> AdmissionLimits {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        AdmissionLimits { active: count(self.slots + self.queue), paused: count(self.paused) }
    }
}

/// An engine without a thread: it advances only when the test calls [`step`](Self::step).
pub struct Stage {
    engine: Engine<ScriptedBackend>,
    client: EngineClient,
    /// The engine's clock.
    pub clock: Arc<VirtualClock>,
    faults: Arc<Mutex<Faults>>,
    prices: Arc<Mutex<Prices>>,
    decodes: Arc<Mutex<Vec<Vec<Row>>>>,
    /// Work beside the engine that has not been done yet, if the test decides when it is.
    held_work: Arc<Mutex<Option<Vec<Work>>>>,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("clock", &self.clock).finish_non_exhaustive()
    }
}

impl Stage {
    /// Creates a stage on which a decode of `n` rows takes `cost(n)`.
    pub fn new(size: Size, logits: Logits, cost: fn(usize) -> Duration) -> Self {
        Self::with_vocabulary(size, logits, cost, Arc::new(ByteVocabulary))
    }

    /// Creates a stage with the test's own vocabulary, and with tokenizer threads that no other stage uses.
    pub fn with_vocabulary(
        size: Size,
        logits: Logits,
        cost: fn(usize) -> Duration,
        vocabulary: Arc<dyn Vocabulary>,
    ) -> Self {
        let clock = Arc::new(VirtualClock::default());
        let held_work: Arc<Mutex<Option<Vec<Work>>>> = Arc::default();
        let held = Arc::clone(&held_work);
        let workers = Workers::new(move |work| {
            match held.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                Some(held) => held.push(work),
                None => work(),
            }
            Ok(())
        });
        let parts = Parts {
            inbox: Arc::new(Inbox::new(Arc::new(AtomicBool::new(false)))),
            clock: clock.clone(),
            vocabulary,
            context_len: size.context_len,
            slots: size.slots,
            prefix_cache_bytes: size.prefix_cache_bytes,
            threads: 1,
            chunks: FixedChunks { alone: size.chunk, deterministic: size.deterministic_chunk },
            workers,
            stats: Arc::default(),
        };
        let (faults, prices) = (Arc::default(), Arc::default());
        let decodes: Arc<Mutex<Vec<Vec<Row>>>> = Arc::default();
        let script = Script {
            cost,
            asynchronous: size.asynchronous,
            prices: Arc::clone(&prices),
            clock: Some(Arc::clone(&clock)),
            faults: Arc::clone(&faults),
            decodes: Some(Arc::clone(&decodes)),
            ..Script::new(logits, size.limits)
        };
        let client = EngineClient::new(&parts, size.admission(), Arc::default());
        let engine = Engine::new(ScriptedBackend::new(script), parts);
        Self { engine, client, clock, faults, prices, decodes, held_work }
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// As [`Context::stream`](crate::Context::stream).
    pub fn open(&self, prompt: &[TokenId], config: StreamConfig) -> Result<TokenStream, MullamaError> {
        self.submit(prompt, config)
    }

    /// Opens a stream with a prompt of any kind; text is tokenized on other threads, independently of the stage's
    /// steps.
    ///
    /// # Errors
    /// As [`Context::stream`](crate::Context::stream).
    pub fn submit(&self, prompt: impl Into<Prompt>, config: StreamConfig) -> Result<TokenStream, MullamaError> {
        self.client.submit(prompt.into(), config, WhenFull::Refuse)
    }

    /// Opens a stream; at the limit of paused streams, the one that has been paused longest ends instead.
    ///
    /// # Errors
    /// As [`Context::stream_displacing`](crate::Context::stream_displacing).
    pub fn open_displacing(&self, prompt: &[TokenId], config: StreamConfig) -> Result<TokenStream, MullamaError> {
        self.client.submit(prompt.to_vec().into(), config, WhenFull::Displace)
    }

    /// Runs one step of the engine.
    pub fn step(&mut self) -> Step {
        self.engine.step()
    }

    /// Steps until there is nothing left to do; returns the number of steps that did work.
    ///
    /// # Panics
    /// If the engine does not stop working.
    pub fn settle(&mut self) -> usize {
        let mut worked = 0;
        while self.step() == Step::Worked {
            worked += 1;
            assert!(worked < 1_000_000, "the engine does not stop working");
        }
        worked
    }

    /// Makes the next decode fail.
    pub fn fail_next_decode(&self, error: Error) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).decode = Some(error);
    }

    /// Makes the next attempt to rebuild the context fail.
    pub fn fail_next_rebuild(&self, error: Error) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).rebuild = Some(error);
    }

    /// Makes the next copy of KV to host memory fail.
    pub fn fail_next_copy(&self, error: Error) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).copy = Some(error);
    }

    /// Makes the next attempt to create a context for deterministic streams fail.
    pub fn fail_next_isolated(&self, error: Error) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).isolated = Some(error);
    }

    /// Holds back what the engine has done on other threads from now on, until [`do_held_work`](Self::do_held_work).
    pub fn hold_work(&self) {
        *self.held_work.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
    }

    /// Does the work that was held back; returns how many pieces that were.
    pub fn do_held_work(&self) -> usize {
        let held = self.held_work.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
        held.into_iter().map(|work| work()).count()
    }

    /// Makes idle cells and copies cost time from now on.
    pub fn set_prices(&self, prices: Prices) {
        *self.prices.lock().unwrap_or_else(PoisonError::into_inner) = prices;
    }

    /// The rows of each decode since the last call.
    pub fn decodes(&self) -> Vec<Vec<Row>> {
        std::mem::take(&mut *self.decodes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Statistics of the engine as of its latest step.
    pub fn stats(&self) -> Stats {
        self.client.stats()
    }

    /// Number of streams that have not ended.
    pub fn unfinished(&self) -> usize {
        self.client.unfinished()
    }
}

/// An engine with its own thread and scripted logits, to measure the cost of the engine itself.
#[derive(Debug)]
pub struct ScriptedContext {
    engine: Arc<EngineHandle>,
    /// The flag that makes llama.cpp stop a running step.
    abort: Arc<AtomicBool>,
}

impl ScriptedContext {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(size: Size, logits: Logits) -> Result<Self, MullamaError> {
        let params = ResolvedParams::scripted(size.slots, size.admission(), size.context_len, size.prefix_cache_bytes);
        let flag: Arc<OnceLock<Arc<AtomicBool>>> = Arc::default();
        let abort_flag = Arc::clone(&flag);
        let make = move |abort| {
            abort_flag.get_or_init(|| abort);
            Ok(ScriptedBackend::new(Script::new(logits, size.limits)))
        };
        let engine = EngineHandle::start_with(&params, Arc::new(ByteVocabulary), make)?;
        let abort = flag.get().map(Arc::clone).unwrap_or_default();
        Ok(Self { engine, abort })
    }

    /// Whether the running step is being stopped, because no reader is left for what it computes.
    pub fn is_aborting(&self) -> bool {
        self.abort.load(Ordering::Acquire)
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// As [`Context::stream`](crate::Context::stream).
    pub fn stream(&self, prompt: impl Into<Prompt>, config: StreamConfig) -> Result<TokenStream, MullamaError> {
        let stream = self.engine.submit(prompt.into(), config, WhenFull::Refuse)?;
        Ok(stream.keep_alive(Arc::clone(&self.engine) as Arc<_>))
    }

    /// Statistics of the engine as of its latest step.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Number of streams that have not ended.
    pub fn unfinished(&self) -> usize {
        self.engine.unfinished()
    }
}

/// Logits for which greedy sampling takes `next(tokens)`.
///
/// # Panics
/// When asked for logits, if `next` returns a token that is not in the vocabulary.
pub fn always(next: impl Fn(&[TokenId]) -> TokenId + Send + Sync + 'static) -> Logits {
    Arc::new(move |tokens, logits| {
        let token = usize::try_from(next(tokens)).expect("a script names tokens of the vocabulary");
        logits[token] = 10.0;
    })
}
