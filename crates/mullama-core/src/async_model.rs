//! A model and its engine for async programs, on any executor.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use futures_core::Stream;
use tokio::sync::oneshot;

use crate::config::{ContextParams, StreamConfig};
use crate::context::Context;
use crate::error::{ModelLoadFailure, MullamaError, StreamFailure};
use crate::model::Model;
use crate::request::Prompt;
use crate::stream::TokenStream;
use crate::stream::completion::Completion;

/// A model with a context, for async programs.
///
/// ```
/// use futures_util::StreamExt;
/// use mullama::{AsyncModel, StreamConfig};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/mullama/models/demo.gguf");
/// let model = AsyncModel::load(path).await?;
/// let config = StreamConfig::new().max_tokens(20).temperature(0.7).stop_sequences(vec!["END".into()]);
/// let mut stream = model.generate_stream("Tell me about Rust:", config).await?;
/// while let Some(token) = stream.next().await {
///     print!("{}", token?.text);
/// }
/// assert!(stream.tokens_generated() > 0);
/// # Ok::<(), mullama::MullamaError>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct AsyncModel {
    context: Context,
}

impl AsyncModel {
    /// Loads a GGUF file on a separate thread and starts an engine with default params.
    ///
    /// # Errors
    /// Those of [`Model::load`] and [`Context::new`].
    pub async fn load(path: impl AsRef<Path>) -> Result<Self, MullamaError> {
        Self::load_with(path, ContextParams::default()).await
    }

    /// Loads a GGUF file on a separate thread and starts an engine with these params.
    ///
    /// # Errors
    /// Those of [`Model::load`] and [`Context::new`].
    pub async fn load_with(path: impl AsRef<Path>, params: ContextParams) -> Result<Self, MullamaError> {
        let path = path.as_ref().to_owned();
        let (done, loaded) = oneshot::channel();
        let load = {
            let path = path.clone();
            move || {
                let model = Model::load(path).and_then(|model| Self::new(Arc::new(model), params));
                // The receiver is gone if the load was abandoned; the model is dropped then.
                let _ = done.send(model);
            }
        };
        let thread = std::thread::Builder::new().name("mullama-load".into()).spawn(load);
        thread.map_err(|error| {
            let source = ModelLoadFailure::Thread(Arc::new(error));
            MullamaError::ModelLoad { path, source }
        })?;
        loaded.await.unwrap_or(Err(MullamaError::StreamingError(StreamFailure::EngineEnded)))
    }

    /// Uses a loaded model. Blocks while llama.cpp allocates its buffers, unless an engine with these params is
    /// running.
    ///
    /// # Errors
    /// Those of [`Context::new`].
    pub fn new(model: Arc<Model>, params: ContextParams) -> Result<Self, MullamaError> {
        Ok(Self { context: Context::new(model, params)? })
    }

    /// The context, for its statistics and its context length.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        self.context.model()
    }

    /// Opens a stream without waiting for its first token.
    ///
    /// # Errors
    /// Those of [`Context::stream`].
    #[expect(clippy::unused_async, reason = "a remote model will have to wait here, and callers then need no change")]
    pub async fn generate_stream(
        &self,
        prompt: impl Into<Prompt>,
        config: StreamConfig,
    ) -> Result<TokenStream, MullamaError> {
        self.context.stream(prompt, config)
    }

    /// Generates a whole answer: opens a stream and reads it to the end.
    ///
    /// # Errors
    /// Those of [`Context::stream`], and the error that ended the stream.
    pub async fn generate(&self, prompt: impl Into<Prompt>, config: StreamConfig) -> Result<Completion, MullamaError> {
        let mut stream = self.context.stream(prompt, config)?;
        let mut tokens = Vec::new();
        while let Some(token) = std::future::poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await {
            tokens.push(token?);
        }
        Ok(Completion::of(&stream, tokens))
    }

    /// Releases the engine. Open streams continue; new calls fail with [`MullamaError::Closed`].
    pub fn close(&self) {
        self.context.close();
    }
}
