//! Owns an engine's thread: starts it, passes requests to it, ends it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, Weak};

use super::client::EngineClient;
use super::creation::Workers;
use super::inbox::Inbox;
use super::tokenizer_pool::TokenizerPool;
use super::{Engine, Parts, Step};
use crate::clock::{Clock, SystemClock};
use crate::config::ResolvedParams;
use crate::config::StreamConfig;
use crate::error::{ModelLoadFailure, MullamaError, StreamFailure};
use crate::fork_guard::ForkGuard;
use crate::in_flight::InFlightGuard;
use crate::kv::backend::Backend;
use crate::kv::llama::LlamaBackend;
use crate::request::Prompt;
use crate::shutdown::{self, Close};
use crate::stats::Stats;
use crate::stream::TokenStream;
use crate::stream::admission::WhenFull;
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Mutex, SyncSender, sync_channel};
use crate::text::vocabulary::{LlamaVocabulary, Vocabulary};

/// A running engine. Dropping the last handle ends its thread and frees the context there.
#[derive(Debug)]
pub(crate) struct EngineHandle {
    client: EngineClient,
    /// Joined by `close`, once.
    thread: Mutex<Option<JoinHandle<()>>>,
    fork_guard: ForkGuard,
}

impl EngineHandle {
    /// Starts an engine whose llama.cpp context over the model has these params.
    pub(crate) fn start(vocabulary: &Arc<LlamaVocabulary>, params: &ResolvedParams) -> Result<Arc<Self>, MullamaError> {
        let vocabulary = Arc::clone(vocabulary);
        let (model, options) = (Arc::clone(vocabulary.model()), params.clone());
        Self::start_with(params, vocabulary, move |abort| LlamaBackend::new(model, &options, abort))
    }

    /// Starts an engine whose thread creates its own backend.
    pub(crate) fn start_with<B: Backend>(
        params: &ResolvedParams,
        vocabulary: Arc<dyn Vocabulary>,
        make: impl FnOnce(Arc<AtomicBool>) -> Result<B, mullama_ffi::Error> + Send + 'static,
    ) -> Result<Arc<Self>, MullamaError> {
        let abort = Arc::new(AtomicBool::new(false));
        let inbox = Arc::new(Inbox::new(Arc::clone(&abort)));
        let parts = Parts {
            inbox,
            clock: Arc::new(SystemClock::start()),
            vocabulary,
            context_len: params.context_len,
            slots: params.slots,
            prefix_cache_bytes: params.prefix_cache_bytes,
            threads: params.n_threads.max(params.n_threads_batch),
            chunks: params.chunks,
            workers: Workers::threads(),
            stats: Arc::default(),
        };
        let client = EngineClient::new(&parts, params.admission, TokenizerPool::of_process());
        let (report, ready) = sync_channel(1);
        let body = move || engine_thread(parts, move || make(abort), &report);
        let thread = thread::Builder::new().name("mullama-engine".into()).spawn(body);
        let thread = thread.map_err(|error| params.refused(ModelLoadFailure::Thread(Arc::new(error))))?;
        match ready.recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(params.refused(ModelLoadFailure::LlamaCpp(Arc::new(error)))),
            Err(_) => return Err(MullamaError::StreamingError(StreamFailure::EngineEnded)),
        }
        let engine = Arc::new(Self { client, thread: Mutex::new(Some(thread)), fork_guard: ForkGuard::new() });
        let registered: Weak<dyn Close> = Arc::downgrade(&(Arc::clone(&engine) as Arc<dyn Close>));
        shutdown::register(registered)?;
        Ok(engine)
    }

    /// Opens a stream. Never waits.
    pub(crate) fn submit(
        &self,
        prompt: Prompt,
        config: StreamConfig,
        when_full: WhenFull,
    ) -> Result<TokenStream, MullamaError> {
        self.check_fork()?;
        self.client.submit(prompt, config, when_full)
    }

    /// Number of streams that have not ended.
    pub(crate) fn unfinished(&self) -> usize {
        self.client.unfinished()
    }

    /// Statistics of the engine as of its latest step.
    pub(crate) fn stats(&self) -> Stats {
        self.client.stats()
    }

    /// Maximum number of tokens of one sequence.
    pub(crate) fn context_len(&self) -> usize {
        self.client.context_len()
    }

    /// Whether the engine rejects new requests.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Refuses use in a forked child process, which has a copy of the handle but no engine thread.
    pub(crate) fn check_fork(&self) -> Result<(), MullamaError> {
        self.fork_guard.check()
    }
}

impl Close for EngineHandle {
    /// Ends the engine: its streams end with `Closed`, a running step is aborted, and this call waits for the thread.
    fn close(&self) {
        if self.fork_guard.is_forked() {
            // The thread does not exist in this process, so waiting for it would never end.
            return;
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.client.close();
        // A waker that owns the last stream drops it on the engine's own thread, which cannot wait for itself.
        let other = |thread: &JoinHandle<()>| thread.thread().id() != thread::current().id();
        if let Some(thread) = thread.filter(other) {
            // `engine_thread` catches panics, so the result carries no error.
            let _ = thread.join();
        }
    }
}

impl Drop for EngineHandle {
    fn drop(&mut self) {
        self.close();
    }
}

/// The body of the engine thread, from the backend's creation to the end.
fn engine_thread<B: Backend>(
    parts: Parts,
    make: impl FnOnce() -> Result<B, mullama_ffi::Error>,
    report: &SyncSender<Result<(), mullama_ffi::Error>>,
) {
    // `shutdown` waits for the thread even if it no longer finds the handle, which is being dropped elsewhere.
    let _in_flight = InFlightGuard::begin();
    let backend = match make() {
        Ok(backend) => backend,
        Err(error) => {
            // `start_with` is waiting for this report.
            let _ = report.send(Err(error));
            return;
        }
    };
    let _ = report.send(Ok(()));
    let (inbox, clock) = (Arc::clone(&parts.inbox), Arc::clone(&parts.clock));
    let mut engine = Engine::new(backend, parts);
    let run = AssertUnwindSafe(|| run(&mut engine, &inbox, clock.as_ref()));
    let error = match catch_unwind(run) {
        // Streams keep the engine, so only closing the model or the process ends it before them.
        Ok(()) => MullamaError::Closed { what: "model" },
        Err(_) => MullamaError::StreamingError(StreamFailure::EngineEnded),
    };
    inbox.close();
    engine.close(&error);
}

fn run<B: Backend>(engine: &mut Engine<B>, inbox: &Inbox, clock: &dyn Clock) {
    while !inbox.is_closed() {
        if let Step::Idle { until } = engine.step() {
            inbox.sleep(until.map(|until| until.saturating_sub(clock.now())));
        }
    }
}
