//! A lightweight handle to an engine, on which streams are opened.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{ContextParams, StreamConfig};
use crate::engine::handle::EngineHandle;
use crate::error::MullamaError;
use crate::fork_guard::ForkGuard;
use crate::model::Model;
use crate::request::Prompt;
use crate::stats::Stats;
use crate::stream::TokenStream;
use crate::stream::admission::WhenFull;
use crate::stream::completion::Completion;

/// Opens streams on an engine. Contexts with equal params over one model share an engine and its KV pool, so another
/// one is cheap.
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
    /// Attaches to the running engine with these params, or starts it. Blocks while llama.cpp allocates its buffers.
    ///
    /// # Errors
    /// [`MullamaError::InvalidConfig`], [`MullamaError::Closed`] if the model is closed, or
    /// [`MullamaError::ModelLoad`] if llama.cpp cannot create a context.
    pub fn new(model: Arc<Model>, params: ContextParams) -> Result<Self, MullamaError> {
        let engine = model.engine(&params)?;
        Ok(Self { model, params, engine: Mutex::new(Some(engine)), fork_guard: ForkGuard::new() })
    }

    /// The model of this context.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The params as they were passed to [`new`](Self::new).
    pub fn params(&self) -> &ContextParams {
        &self.params
    }

    /// Maximum number of tokens of one sequence, prompt and completion together.
    ///
    /// # Errors
    /// [`MullamaError::Closed`] after [`close`](Self::close).
    pub fn context_len(&self) -> Result<usize, MullamaError> {
        Ok(self.engine()?.context_len())
    }

    /// Number of streams of the engine that run, wait or are paused, including those of other contexts that share it.
    ///
    /// # Errors
    /// [`MullamaError::Closed`] after [`close`](Self::close).
    pub fn unfinished(&self) -> Result<usize, MullamaError> {
        Ok(self.engine()?.unfinished())
    }

    /// Statistics of the engine since it started.
    ///
    /// # Errors
    /// [`MullamaError::Closed`] after [`close`](Self::close).
    pub fn stats(&self) -> Result<Stats, MullamaError> {
        Ok(self.engine()?.stats())
    }

    /// Opens a stream without waiting for its first token.
    ///
    /// # Errors
    /// [`MullamaError::InvalidConfig`], [`MullamaError::Overloaded`] if too many streams run or wait,
    /// [`MullamaError::PausedOverloaded`] if too many run, wait or are paused, [`MullamaError::PromptsOverloaded`] or
    /// [`MullamaError::Closed`]. Errors of the prompt are returned by the first read.
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
        self.open(prompt.into(), config, WhenFull::Refuse)
    }

    /// As [`stream`](Self::stream), for servers whose readers are strangers: where it would return
    /// [`MullamaError::PausedOverloaded`], the stream of the engine that has been paused longest ends instead, so that
    /// readers that do not read cannot shut others out. Its reader gets [`MullamaError::Displaced`] after everything
    /// that was produced.
    ///
    /// # Errors
    /// As [`stream`](Self::stream).
    pub fn stream_displacing(
        &self,
        prompt: impl Into<Prompt>,
        config: StreamConfig,
    ) -> Result<TokenStream, MullamaError> {
        self.open(prompt.into(), config, WhenFull::Displace)
    }

    fn open(&self, prompt: Prompt, config: StreamConfig, when_full: WhenFull) -> Result<TokenStream, MullamaError> {
        let engine = self.engine()?;
        self.model.check_files()?;
        let stream = engine.submit(prompt, config, when_full).map_err(|error| self.model.name_closed(error))?;
        Ok(stream.keep_alive(engine))
    }

    /// Generates a whole answer: opens a stream and reads it to the end.
    ///
    /// # Errors
    /// Those of [`stream`](Self::stream), and the error that ended the stream.
    pub fn generate(&self, prompt: impl Into<Prompt>, config: StreamConfig) -> Result<Completion, MullamaError> {
        self.stream(prompt, config)?.into_completion()
    }

    /// Passes each piece of text to `on_text` as soon as it is generated; the generation stops when it returns `false`.
    ///
    /// # Errors
    /// Those of [`stream`](Self::stream), and the error that ended the stream.
    pub fn generate_streaming(
        &mut self,
        prompt: impl Into<Prompt>,
        max_tokens: u32,
        on_text: impl FnMut(&str) -> bool,
    ) -> Result<Completion, MullamaError> {
        self.generate_streaming_with(prompt, StreamConfig::new().max_tokens(max_tokens), on_text)
    }

    /// Like [`generate_streaming`](Self::generate_streaming), with a full configuration.
    ///
    /// # Errors
    /// Those of [`stream`](Self::stream), and the error that ended the stream.
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

    /// Releases the engine. Open streams continue; new calls fail with [`MullamaError::Closed`].
    pub fn close(&self) {
        if self.fork_guard.is_forked() {
            return;
        }
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(engine);
    }

    fn engine(&self) -> Result<Arc<EngineHandle>, MullamaError> {
        // The check comes before the lock, which may be held forever in a forked child.
        self.fork_guard.check()?;
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        engine.clone().ok_or(MullamaError::Closed { what: "context" })
    }
}
