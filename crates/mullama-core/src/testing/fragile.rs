//! A context over a real model in which a test can make the next decode fail as llama.cpp would.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use mullama_ffi::{CpuContention, Error};

use crate::config::{ContextParams, StreamConfig};
use crate::engine::handle::EngineHandle;
use crate::error::MullamaError;
use crate::kv::backend::{Backend, Limits, Row};
use crate::kv::llama::LlamaBackend;
use crate::model::Model;
use crate::request::Prompt;
use crate::stream::TokenStream;
use crate::stream::admission::WhenFull;
use crate::text::vocabulary::LlamaVocabulary;

pub use mullama_ffi::Failure;

/// A context with its own engine over a real model.
#[derive(Debug)]
pub struct FragileContext {
    engine: Arc<EngineHandle>,
    next: Arc<Mutex<Option<Failure>>>,
}

impl FragileContext {
    /// Starts an engine that no other context shares.
    ///
    /// # Errors
    /// As [`Context::new`](crate::Context::new).
    pub fn new(model: &Model, params: &ContextParams) -> Result<Self, MullamaError> {
        let (params, weights) = model.parts(params)?;
        let next = Arc::new(Mutex::new(None));
        let vocabulary = Arc::new(LlamaVocabulary::new(Arc::clone(&weights)));
        let (options, failure) = (params.clone(), Arc::clone(&next));
        let make = move |abort| {
            let inner = LlamaBackend::new(weights, &options, abort)?;
            Ok(Fragile { inner, next: failure })
        };
        Ok(Self { engine: EngineHandle::start_with(&params, vocabulary, make)?, next })
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// As [`Context::stream`](crate::Context::stream).
    pub fn stream(&self, prompt: impl Into<Prompt>, config: StreamConfig) -> Result<TokenStream, MullamaError> {
        let stream = self.engine.submit(prompt.into(), config, WhenFull::Refuse)?;
        Ok(stream.keep_alive(Arc::clone(&self.engine) as Arc<_>))
    }

    /// Number of streams that have not ended.
    pub fn unfinished(&self) -> usize {
        self.engine.unfinished()
    }

    /// Makes the next decode fail in this way.
    pub fn fail_next_decode(&self, failure: Failure) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }
}

/// llama.cpp as a backend that fails on request.
struct Fragile {
    inner: LlamaBackend,
    next: Arc<Mutex<Option<Failure>>>,
}

impl Backend for Fragile {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn decode(&mut self, rows: &[Row]) -> Result<(), Error> {
        if let Some(failure) = self.next.lock().unwrap_or_else(PoisonError::into_inner).take() {
            self.inner.fail_next_decode(failure);
        }
        self.inner.decode(rows)
    }

    fn synchronize(&mut self) -> Result<(), Error> {
        self.inner.synchronize()
    }

    fn contention(&self) -> Option<CpuContention> {
        self.inner.contention()
    }

    fn logits(&self, row: usize) -> Result<&[f32], Error> {
        self.inner.logits(row)
    }

    fn forget(&mut self, seq_id: usize) -> Result<(), Error> {
        self.inner.forget(seq_id)
    }

    fn share(&mut self, from: usize, to: usize, tokens: usize) -> Result<bool, Error> {
        self.inner.share(from, to, tokens)
    }

    fn save(&mut self, seq_id: usize, tokens: Range<usize>, limit: usize) -> Result<Option<Vec<u8>>, Error> {
        self.inner.save(seq_id, tokens, limit)
    }

    fn restore(&mut self, seq_id: usize, tokens: Range<usize>, state: &[u8]) -> Result<bool, Error> {
        self.inner.restore(seq_id, tokens, state)
    }

    fn truncate(&mut self, seq_id: usize, keep: usize, of: usize) -> Result<bool, Error> {
        self.inner.truncate(seq_id, keep, of)
    }

    fn set_threads(&mut self, threads: u32) -> Result<(), Error> {
        self.inner.set_threads(threads)
    }

    fn isolated(&self, tokens: usize, rows: usize) -> Box<dyn FnOnce() -> Result<Self, Error> + Send> {
        let (create, next) = (self.inner.isolated(tokens, rows), Arc::clone(&self.next));
        Box::new(move || Ok(Self { inner: create()?, next }))
    }

    fn rebuild(&mut self) -> Result<(), Error> {
        self.inner.rebuild()
    }

    fn pause_threads(&mut self) {
        self.inner.pause_threads();
    }
}
