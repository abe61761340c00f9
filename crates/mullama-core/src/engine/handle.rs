//! Owns an engine's thread: starts it, hands it requests, ends it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::backend::Backend;
use super::clock::{Clock, SystemClock};
use super::desk::Desk;
use super::llama::{Layout, LlamaBackend};
use super::mailbox::Mailbox;
use super::{Engine, Parts, Step};
use crate::channel::Channel;
use crate::config::StreamConfig;
use crate::error::{ModelLoadFailure, MullamaError, StreamFailure};
use crate::origin::Origin;
use crate::request::Prompt;
use crate::shutdown;
use crate::stats::Stats;
use crate::vocabulary::{LlamaVocabulary, Vocabulary};

/// A running engine. Dropping the last handle ends its thread and frees the context there.
#[derive(Debug)]
pub(crate) struct EngineHandle {
    desk: Desk,
    /// Joined by `close`, once.
    thread: Mutex<Option<JoinHandle<()>>>,
    origin: Origin,
}

impl EngineHandle {
    /// Starts an engine with a llama.cpp context of this layout over the model.
    pub(crate) fn start(vocabulary: &Arc<LlamaVocabulary>, layout: &Layout) -> Result<Arc<Self>, MullamaError> {
        let vocabulary = Arc::clone(vocabulary);
        let (model, options) = (Arc::clone(vocabulary.model()), layout.clone());
        Self::start_with(layout, vocabulary, move |abort| LlamaBackend::new(model, &options, abort))
    }

    /// Starts an engine whose thread makes its own backend.
    pub(crate) fn start_with<B: Backend>(
        layout: &Layout,
        vocabulary: Arc<dyn Vocabulary>,
        make: impl FnOnce(Arc<AtomicBool>) -> Result<B, mullama_ffi::Error> + Send + 'static,
    ) -> Result<Arc<Self>, MullamaError> {
        let abort = Arc::new(AtomicBool::new(false));
        let mailbox = Arc::new(Mailbox::new(Arc::clone(&abort)));
        let parts = Parts {
            mailbox,
            clock: Arc::new(SystemClock::start()),
            vocabulary,
            context_len: layout.context_len,
            places: layout.places,
            prefix_cache_bytes: layout.prefix_cache_bytes,
            threads: layout.n_threads.max(layout.n_threads_batch),
            stats: Arc::default(),
        };
        let desk = Desk::new(&parts, layout.max_unfinished);
        let (report, ready) = sync_channel(1);
        let body = move || live(parts, move || make(abort), &report);
        let thread = std::thread::Builder::new().name("mullama-engine".into()).spawn(body);
        let thread = thread.map_err(|error| layout.refused(ModelLoadFailure::Thread(Arc::new(error))))?;
        match ready.recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(layout.refused(ModelLoadFailure::LlamaCpp(Arc::new(error)))),
            Err(_) => return Err(MullamaError::StreamingError(StreamFailure::EngineEnded)),
        }
        let engine = Arc::new(Self { desk, thread: Mutex::new(Some(thread)), origin: Origin::here() });
        shutdown::remember(&engine)?;
        Ok(engine)
    }

    /// Opens a stream. Never waits.
    pub(crate) fn submit(&self, prompt: Prompt, config: StreamConfig) -> Result<Arc<Channel>, MullamaError> {
        self.check_origin()?;
        self.desk.submit(prompt, config)
    }

    /// Streams that have not ended.
    pub(crate) fn unfinished(&self) -> usize {
        self.desk.unfinished()
    }

    /// What the engine did up to its newest step.
    pub(crate) fn stats(&self) -> Stats {
        self.desk.stats()
    }

    /// Most tokens of one sequence.
    pub(crate) fn context_len(&self) -> usize {
        self.desk.context_len()
    }

    /// Whether the engine takes no more requests.
    pub(crate) fn is_closed(&self) -> bool {
        self.desk.is_closed()
    }

    /// Refuses every use in a process that got its copy by a fork.
    pub(crate) fn check_origin(&self) -> Result<(), MullamaError> {
        self.origin.check()
    }

    /// Ends the engine: streams end with `Closed`, a running step is aborted, the thread is waited for.
    pub(crate) fn close(&self) {
        if self.origin.is_forked() {
            // There is no such thread in this process; waiting for it would never end.
            return;
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.desk.close();
        // A waker that owns the last stream drops it on the engine's own thread, which cannot wait for itself.
        let other = |thread: &JoinHandle<()>| thread.thread().id() != std::thread::current().id();
        if let Some(thread) = thread.filter(other) {
            // `live` catches panics, so there is nothing to pass on.
            let _ = thread.join();
        }
    }
}

impl Drop for EngineHandle {
    fn drop(&mut self) {
        self.close();
    }
}

/// The engine thread's whole life.
fn live<B: Backend>(
    parts: Parts,
    make: impl FnOnce() -> Result<B, mullama_ffi::Error>,
    report: &SyncSender<Result<(), mullama_ffi::Error>>,
) {
    let backend = match make() {
        Ok(backend) => backend,
        Err(error) => {
            // The starter waits for this word.
            let _ = report.send(Err(error));
            return;
        }
    };
    let _ = report.send(Ok(()));
    let (mailbox, clock) = (Arc::clone(&parts.mailbox), Arc::clone(&parts.clock));
    let mut engine = Engine::new(backend, parts);
    let run = AssertUnwindSafe(|| run(&mut engine, &mailbox, clock.as_ref()));
    let error = match catch_unwind(run) {
        Ok(()) => MullamaError::Closed { what: "engine" },
        Err(_) => MullamaError::StreamingError(StreamFailure::EngineEnded),
    };
    mailbox.close();
    engine.close(&error);
}

fn run<B: Backend>(engine: &mut Engine<B>, mailbox: &Mailbox, clock: &dyn Clock) {
    while !mailbox.is_closed() {
        if let Step::Idle { until } = engine.step() {
            mailbox.sleep(until.map(|until| until.saturating_sub(clock.now())));
        }
    }
}
