//! An engine that a test steps by hand, over scripted logits and a clock that stands still.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use mullama_ffi::{Error, TokenId};

use crate::config::ResolvedParams;
use crate::config::StreamConfig;
use crate::engine::client::EngineClient;
use crate::engine::fixed_chunk::FixedChunks;
use crate::engine::handle::EngineHandle;
use crate::engine::inbox::Inbox;
use crate::engine::{Engine, Parts};
use crate::error::MullamaError;
use crate::request::Prompt;
use crate::stats::Stats;
use crate::stream::TokenStream;

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

/// The size of a stage.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Sequences computed at once.
    pub slots: usize,
    /// Streams that may wait.
    pub queue: usize,
    /// Most tokens of one sequence.
    pub context_len: usize,
    /// What the backend holds.
    pub limits: Limits,
    /// Most bytes of cached prefixes in host memory.
    pub prefix_cache_bytes: usize,
    /// Whether decodes return before they are computed, as on a GPU.
    pub asynchronous: bool,
    /// Tokens of a prompt that a stream alone computes in one step.
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
            context_len: 1024,
            limits,
            prefix_cache_bytes: 0,
            asynchronous: false,
            chunk: 32,
            deterministic_chunk: 8,
        }
    }
}

/// An engine without a thread: it moves when the test calls [`step`](Self::step).
pub struct Stage {
    engine: Engine<ScriptedBackend>,
    client: EngineClient,
    /// The engine's clock.
    pub clock: Arc<VirtualClock>,
    faults: Arc<Mutex<Faults>>,
    prices: Arc<Mutex<Prices>>,
    decodes: Arc<Mutex<Vec<Vec<Row>>>>,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("clock", &self.clock).finish_non_exhaustive()
    }
}

impl Stage {
    /// A stage on which a decode of `n` rows takes `cost(n)`.
    pub fn new(size: Size, logits: Logits, cost: fn(usize) -> Duration) -> Self {
        Self::with_vocabulary(size, logits, cost, Arc::new(ByteVocabulary))
    }

    /// A stage with a vocabulary of the test's own, and with tokenizer threads that no other stage uses.
    pub fn with_vocabulary(
        size: Size,
        logits: Logits,
        cost: fn(usize) -> Duration,
        vocabulary: Arc<dyn Vocabulary>,
    ) -> Self {
        let clock = Arc::new(VirtualClock::default());
        let parts = Parts {
            inbox: Arc::new(Inbox::new(Arc::new(AtomicBool::new(false)))),
            clock: clock.clone(),
            vocabulary,
            context_len: size.context_len,
            slots: size.slots,
            prefix_cache_bytes: size.prefix_cache_bytes,
            threads: 1,
            chunks: FixedChunks { alone: size.chunk, deterministic: size.deterministic_chunk },
            stats: Arc::default(),
        };
        let (faults, prices) = (Arc::default(), Arc::default());
        let decodes: Arc<Mutex<Vec<Vec<Row>>>> = Arc::default();
        let script = Script {
            logits,
            limits: size.limits,
            cost,
            asynchronous: size.asynchronous,
            prices: Arc::clone(&prices),
            clock: Some(Arc::clone(&clock)),
            faults: Arc::clone(&faults),
            decodes: Some(Arc::clone(&decodes)),
        };
        let client = EngineClient::new(&parts, size.slots + size.queue, Arc::default());
        Self { engine: Engine::new(ScriptedBackend::new(script), parts), client, clock, faults, prices, decodes }
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// As [`Context::stream`](crate::Context::stream).
    pub fn open(&self, prompt: &[TokenId], config: StreamConfig) -> Result<TokenStream, MullamaError> {
        self.submit(prompt, config)
    }

    /// Opens a stream with a prompt of any kind; text is tokenized on other threads, whatever the stage does.
    ///
    /// # Errors
    /// As [`Context::stream`](crate::Context::stream).
    pub fn submit(&self, prompt: impl Into<Prompt>, config: StreamConfig) -> Result<TokenStream, MullamaError> {
        self.client.submit(prompt.into(), config)
    }

    /// One step of the engine.
    pub fn step(&mut self) -> Step {
        self.engine.step()
    }

    /// Steps until nothing is left to do; the number of steps that worked.
    ///
    /// # Panics
    /// If the engine works without end.
    pub fn settle(&mut self) -> usize {
        let mut worked = 0;
        while self.step() == Step::Worked {
            worked += 1;
            assert!(worked < 1_000_000, "the engine works without end");
        }
        worked
    }

    /// Has the next decode fail.
    pub fn fail_next_decode(&self, error: Error) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).decode = Some(error);
    }

    /// Has the next attempt to make the context anew fail.
    pub fn fail_next_rebuild(&self, error: Error) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).rebuild = Some(error);
    }

    /// Has idle cells and copies cost time from now on.
    pub fn set_prices(&self, prices: Prices) {
        *self.prices.lock().unwrap_or_else(PoisonError::into_inner) = prices;
    }

    /// The rows of each decode since the last call.
    pub fn decodes(&self) -> Vec<Vec<Row>> {
        std::mem::take(&mut *self.decodes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the engine did up to its newest step.
    pub fn stats(&self) -> Stats {
        self.client.stats()
    }

    /// Streams that have not ended.
    pub fn unfinished(&self) -> usize {
        self.client.unfinished()
    }
}

/// An engine with a thread of its own over scripted logits, to measure what the engine itself costs.
#[derive(Debug)]
pub struct ScriptedContext {
    engine: Arc<EngineHandle>,
    /// What tells llama.cpp to stop a running step.
    abort: Arc<AtomicBool>,
}

impl ScriptedContext {
    /// Starts the thread.
    ///
    /// # Errors
    /// If no thread can be had.
    pub fn start(size: Size, logits: Logits) -> Result<Self, MullamaError> {
        let params = ResolvedParams::scripted(size.slots, size.queue, size.context_len, size.prefix_cache_bytes);
        let flag: Arc<OnceLock<Arc<AtomicBool>>> = Arc::default();
        let told = Arc::clone(&flag);
        let make = move |abort| {
            told.get_or_init(|| abort);
            Ok(ScriptedBackend::new(Script {
                logits,
                limits: size.limits,
                cost: |_| Duration::ZERO,
                asynchronous: false,
                prices: Arc::default(),
                clock: None,
                faults: Arc::default(),
                decodes: None,
            }))
        };
        let engine = EngineHandle::start_with(&params, Arc::new(ByteVocabulary), make)?;
        let abort = flag.get().map(Arc::clone).unwrap_or_default();
        Ok(Self { engine, abort })
    }

    /// Whether the running step is told to stop, because nobody is left to read what it computes.
    pub fn is_aborting(&self) -> bool {
        self.abort.load(Ordering::Acquire)
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// As [`Context::stream`](crate::Context::stream).
    pub fn stream(&self, prompt: impl Into<Prompt>, config: StreamConfig) -> Result<TokenStream, MullamaError> {
        let stream = self.engine.submit(prompt.into(), config)?;
        Ok(stream.keep_alive(Arc::clone(&self.engine) as Arc<_>))
    }

    /// What the engine did up to its newest step.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Streams that have not ended.
    pub fn unfinished(&self) -> usize {
        self.engine.unfinished()
    }
}

/// Logits under which greedy sampling takes `next(tokens)`.
///
/// # Panics
/// When asked for logits, if `next` names a token that the vocabulary does not have.
pub fn always(next: impl Fn(&[TokenId]) -> TokenId + Send + Sync + 'static) -> Logits {
    Arc::new(move |tokens, logits| {
        let token = usize::try_from(next(tokens)).expect("a script names tokens of the vocabulary");
        logits[token] = 10.0;
    })
}
