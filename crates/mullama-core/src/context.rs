//! A light handle on an engine: where streams are asked for.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{ContextParams, StreamConfig};
use crate::engine::handle::EngineHandle;
use crate::error::MullamaError;
use crate::fork_guard::ForkGuard;
use crate::model::Model;
use crate::request::Prompt;
use crate::stats::Stats;
use crate::stream::TokenStream;
use crate::stream::completion::Completion;

/// Where streams are asked for. Light: contexts of equal params over one model share an engine and its KV pool.
///
/// ```
/// use std::sync::Arc;
/// use mullama::{Context, ContextParams, Model};
///
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/mullama/models/demo.gguf");
/// let model = Arc::new(Model::load(path)?);
/// let mut context = Context::new(model, ContextParams::default())?;
/// let mut poem = String::new();
/// context.generate_streaming("Write a poem:", 20, |token| {
///     poem.push_str(token);
///     true
/// })?;
/// assert!(!poem.is_empty());
/// # Ok::<(), mullama::MullamaError>(())
/// ```
#[derive(Debug)]
pub struct Context {
    model: Arc<Model>,
    params: ContextParams,
    /// `None` once the context is closed.
    engine: Mutex<Option<Arc<EngineHandle>>>,
    fork_guard: ForkGuard,
}

impl Context {
    /// Joins the engine of these params, or starts it. Blocks while llama.cpp makes its buffers.
    ///
    /// # Errors
    /// [`MullamaError::InvalidConfig`], [`MullamaError::Closed`] over a closed model, or
    /// [`MullamaError::ModelLoad`] if llama.cpp cannot make a context.
    pub fn new(model: Arc<Model>, params: ContextParams) -> Result<Self, MullamaError> {
        let engine = model.engine(&params)?;
        Ok(Self { model, params, engine: Mutex::new(Some(engine)), fork_guard: ForkGuard::new() })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The params as they were given.
    pub fn params(&self) -> &ContextParams {
        &self.params
    }

    /// Most tokens of one sequence.
    ///
    /// # Errors
    /// [`MullamaError::Closed`] after [`close`](Self::close).
    pub fn context_len(&self) -> Result<usize, MullamaError> {
        Ok(self.engine()?.context_len())
    }

    /// Streams of the engine that have not ended, those of other contexts included.
    ///
    /// # Errors
    /// [`MullamaError::Closed`] after [`close`](Self::close).
    pub fn unfinished(&self) -> Result<usize, MullamaError> {
        Ok(self.engine()?.unfinished())
    }

    /// What the engine is doing, and has done since it began.
    ///
    /// # Errors
    /// [`MullamaError::Closed`] after [`close`](Self::close).
    pub fn stats(&self) -> Result<Stats, MullamaError> {
        Ok(self.engine()?.stats())
    }

    /// Opens a stream. Never waits.
    ///
    /// # Errors
    /// [`MullamaError::InvalidConfig`], [`MullamaError::Overloaded`] or [`MullamaError::Closed`]. What is wrong with
    /// the prompt is told by the first read.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// use mullama::{Context, ContextParams, Model, StreamConfig};
    ///
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/mullama/models/demo.gguf");
    /// let context = Context::new(Arc::new(Model::load(path)?), ContextParams::default())?;
    /// let mut stream = context.stream("Count: 1, 2, 3", StreamConfig::new().temperature(0.0).max_tokens(8))?;
    /// for token in &mut stream {
    ///     print!("{}", token?);
    /// }
    /// assert!(stream.text().starts_with(", 4"));
    /// # Ok::<(), mullama::MullamaError>(())
    /// ```
    pub fn stream(&self, prompt: impl Into<Prompt>, config: StreamConfig) -> Result<TokenStream, MullamaError> {
        let engine = self.engine()?;
        self.model.check_files()?;
        let stream = engine.submit(prompt.into(), config)?;
        Ok(stream.keep_alive(engine))
    }

    /// Generates a whole answer: a stream, read to its end.
    ///
    /// # Errors
    /// Those of [`stream`](Self::stream), and what ended the stream.
    pub fn generate(&self, prompt: impl Into<Prompt>, config: StreamConfig) -> Result<Completion, MullamaError> {
        self.stream(prompt, config)?.into_completion()
    }

    /// Hands each piece of text to `on_text` as soon as it exists; returning `false` stops the generation.
    ///
    /// # Errors
    /// Those of [`stream`](Self::stream), and what ended the stream.
    pub fn generate_streaming(
        &mut self,
        prompt: impl Into<Prompt>,
        max_tokens: u32,
        on_text: impl FnMut(&str) -> bool,
    ) -> Result<Completion, MullamaError> {
        self.generate_streaming_with(prompt, StreamConfig::new().max_tokens(max_tokens), on_text)
    }

    /// As [`generate_streaming`](Self::generate_streaming), with every setting.
    ///
    /// # Errors
    /// Those of [`stream`](Self::stream), and what ended the stream.
    pub fn generate_streaming_with(
        &mut self,
        prompt: impl Into<Prompt>,
        config: StreamConfig,
        mut on_text: impl FnMut(&str) -> bool,
    ) -> Result<Completion, MullamaError> {
        let mut stream = self.stream(prompt, config)?;
        let mut tokens = Vec::new();
        while let Some(token) = stream.next_blocking() {
            let token = token?;
            let goes_on = token.text.is_empty() || on_text(&token.text);
            tokens.push(token);
            if !goes_on {
                stream.close();
                break;
            }
        }
        Ok(Completion::of(&stream, tokens))
    }

    /// Lets go of the engine. Streams that are open go on; new calls are [`MullamaError::Closed`].
    pub fn close(&self) {
        if self.fork_guard.is_forked() {
            return;
        }
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(engine);
    }

    fn engine(&self) -> Result<Arc<EngineHandle>, MullamaError> {
        // Before the lock, which may be held for ever in a forked child.
        self.fork_guard.check()?;
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        engine.clone().ok_or(MullamaError::Closed { what: "context" })
    }
}
