//! A loaded model: its weights, its vocabulary, and the engines that run over it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use mullama_ffi::{Special, TokenId};

use crate::chat::Chat;
use crate::config::ContextParams;
use crate::config::ResolvedParams;
use crate::devices::warn_without_gpu;
use crate::engine::handle::EngineHandle;
use crate::engine::tokenizer_pool::{Lane, TokenizerPool};
use crate::error::{ModelLoadFailure, MullamaError, PromptFailure};
use crate::file_guard::FileGuard;
use crate::fork_guard::ForkGuard;
use crate::gguf;
use crate::kv::memory;
use crate::request::lane_of;
use crate::shutdown::Close;
use crate::text::vocabulary::{IsWanted, LlamaVocabulary, Vocabulary};

pub use mullama_ffi::ModelOptions;

/// Most token ids that are detokenized in one call: about as many as the longest text of 64 MiB has.
const MAX_DETOKENIZED: usize = 1 << 24;

/// A loaded model. The weights are shared: contexts and streams keep them alive.
#[derive(Debug)]
pub struct Model {
    /// The vocabulary, which owns the weights.
    vocabulary: Arc<LlamaVocabulary>,
    path: PathBuf,
    /// The files that the weights are mapped from.
    files: FileGuard,
    /// Maximum context length of a model with a learned position table.
    positions: Option<u32>,
    engines: Mutex<Engines>,
    fork_guard: ForkGuard,
}

/// Contexts with equal params share an engine, and the one used last stays loaded for the next context.
#[derive(Debug, Default)]
struct Engines {
    shared: Vec<(ResolvedParams, Weak<EngineHandle>)>,
    last: Option<Arc<EngineHandle>>,
    closed: bool,
}

impl Model {
    /// Loads a GGUF file with default options. Blocks while the weights are read.
    ///
    /// # Errors
    /// [`MullamaError::ModelNotFound`] if the path does not exist, [`MullamaError::ModelLoad`] with what is wrong and
    /// where.
    ///
    /// ```
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/mullama/models/demo.gguf");
    /// let model = mullama::Model::load(path)?;
    /// assert!(model.tokenize("Hello")?.len() > 1);
    /// # Ok::<(), mullama::MullamaError>(())
    /// ```
    pub fn load(path: impl AsRef<Path>) -> Result<Self, MullamaError> {
        Self::load_with(path, &ModelOptions::default(), None)
    }

    /// Loads a GGUF file. `progress` is called with values from 0.0 to 1.0 and stops the load by returning `false`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with(
        path: impl AsRef<Path>,
        options: &ModelOptions,
        progress: Option<&mut dyn FnMut(f32) -> bool>,
    ) -> Result<Self, MullamaError> {
        let path = path.as_ref().to_owned();
        check_path(&path)?;
        let refused = |source| MullamaError::ModelLoad { path: path.clone(), source };
        if let Err(error) = std::fs::metadata(&path) {
            return Err(match error.kind() {
                std::io::ErrorKind::NotFound => MullamaError::ModelNotFound { path },
                _ => refused(ModelLoadFailure::Io(Arc::new(error))),
            });
        }
        let checked = gguf::check(&path).map_err(|error| refused(ModelLoadFailure::Gguf(Arc::new(error))))?;
        let files = FileGuard::open(checked.files(&path))?;
        let inner = mullama_ffi::Model::load(&path, options, progress).map_err(|error| match error {
            mullama_ffi::Error::ModelCancelled => refused(ModelLoadFailure::Cancelled),
            error => refused(ModelLoadFailure::LlamaCpp(Arc::new(error))),
        })?;
        files.check_paths()?;
        warn_without_gpu(*options, &inner);
        let is_mapped = options.use_mmap && !options.vocab_only;
        let files = if is_mapped { files } else { FileGuard::default() };
        let vocabulary = Arc::new(LlamaVocabulary::new(inner));
        Ok(Self {
            vocabulary,
            path,
            files,
            positions: checked.positions,
            engines: Mutex::default(),
            fork_guard: ForkGuard::new(),
        })
    }

    /// Checks that no file that the weights are mapped from was changed since it was loaded.
    ///
    /// Contexts check this for each request. The check cannot protect a running request: reading a page that was
    /// truncated away ends the process. Loading without [`ModelOptions::use_mmap`] avoids both problems.
    ///
    /// # Errors
    /// [`MullamaError::StreamingError`] with [`StreamFailure::ModelFileChanged`](crate::StreamFailure::ModelFileChanged).
    pub fn check_files(&self) -> Result<(), MullamaError> {
        self.files.check()
    }

    /// The path that the model was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tokenizes a text, with BOS and EOS as the model requires; control tokens in the text are parsed. Blocks until it
    /// is done.
    ///
    /// # Errors
    /// [`MullamaError::InvalidPrompt`] if the tokenizer refuses the text.
    pub fn tokenize(&self, text: &str) -> Result<Vec<TokenId>, MullamaError> {
        self.tokenize_with(text, true, true)
    }

    /// Tokenizes a text, with or without the tokens that the model adds; control tokens are either parsed or treated as
    /// plain text.
    ///
    /// # Errors
    /// As [`tokenize`](Self::tokenize).
    pub fn tokenize_with(
        &self,
        text: &str,
        add_special: bool,
        parse_special: bool,
    ) -> Result<Vec<TokenId>, MullamaError> {
        self.tokenize_job(text, Special { add: add_special, parse: parse_special }, None).map(Option::unwrap_or_default)
    }

    /// Like [`tokenize_with`](Self::tokenize_with), but can be cancelled: `go_on` is called about every 50 ms, and the
    /// work ends within tens of milliseconds after it returns `false`; then the result is `None`.
    ///
    /// # Errors
    /// As [`tokenize`](Self::tokenize).
    pub fn tokenize_while(
        &self,
        text: &str,
        add_special: bool,
        parse_special: bool,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<Option<Vec<TokenId>>, MullamaError> {
        self.tokenize_job(text, Special { add: add_special, parse: parse_special }, Some(&mut go_on))
    }

    fn tokenize_job(
        &self,
        text: &str,
        special: Special,
        go_on: Option<&mut dyn FnMut() -> bool>,
    ) -> Result<Option<Vec<TokenId>>, MullamaError> {
        self.fork_guard.check()?;
        let (vocabulary, text) = (Arc::clone(&self.vocabulary), text.to_owned());
        TokenizerPool::of_process().run_blocking(Lane::for_text(text.len()), go_on, move |is_wanted| {
            vocabulary.tokens(&text, special, &mut |_| is_wanted()).map_err(MullamaError::untokenizable)
        })
    }

    /// The text of the tokens, as bytes; control tokens have none.
    ///
    /// Tokenizers of the `SentencePiece` kind put a space before each text, which is removed again. If the tokens start
    /// in the middle of a text, the space at their start is removed as well, as with Hugging Face's tokenizers.
    ///
    /// # Errors
    /// [`MullamaError::InvalidPrompt`] names a token id that is not in the vocabulary, or the limit of
    /// [`check_detokenized`](Self::check_detokenized).
    pub fn detokenize(&self, tokens: &[TokenId]) -> Result<Vec<u8>, MullamaError> {
        Self::check_detokenized(tokens.len())?;
        let vocab = self.weights().vocab();
        let unknown = tokens.iter().position(|&token| vocab.check(token).is_err());
        if let Some(position) = unknown {
            let (token, n_vocab) = (tokens[position], vocab.n_tokens());
            return Err(MullamaError::InvalidPrompt(PromptFailure::UnknownToken { token, position, n_vocab }));
        }
        let bytes = vocab.detokenize(tokens);
        bytes.map_err(|error| MullamaError::InvalidPrompt(PromptFailure::Tokenizer(Arc::new(error))))
    }

    /// The bytes of one token, as in [`Token::bytes`](crate::Token::bytes); none if it is not in the vocabulary.
    pub fn token_bytes(&self, token: TokenId) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.vocabulary.piece(token, &mut bytes).map_or_else(|_| Vec::new(), |()| bytes)
    }

    /// One token as the vocabulary spells it, control tokens included; empty if it is not in the vocabulary.
    pub fn token_spelling(&self, token: TokenId) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.weights().vocab().piece(token, true, &mut bytes).map_or_else(|_| Vec::new(), |()| bytes)
    }

    /// Checks that this many tokens are no more than [`detokenize`](Self::detokenize) takes.
    ///
    /// # Errors
    /// [`MullamaError::InvalidPrompt`] names the limit.
    pub fn check_detokenized(tokens: usize) -> Result<(), MullamaError> {
        if tokens <= MAX_DETOKENIZED {
            return Ok(());
        }
        Err(MullamaError::InvalidPrompt(PromptFailure::TooManyTokens { tokens, limit: MAX_DETOKENIZED }))
    }

    /// Renders the messages with the model's template, or with the chat's own.
    ///
    /// The result is meant for display. If it is used as a text prompt, control tokens that a user typed are parsed; in
    /// a [`Chat`] that is used as a prompt they stay plain text.
    ///
    /// # Errors
    /// [`MullamaError::ChatTemplate`], also for a model without a template.
    pub fn apply_chat_template(&self, chat: &Chat) -> Result<String, MullamaError> {
        self.chat_job(chat, None, rendered).map(Option::unwrap_or_default)
    }

    /// As [`apply_chat_template`](Self::apply_chat_template), for a caller who may lose interest: see
    /// [`tokenize_while`](Self::tokenize_while).
    ///
    /// # Errors
    /// As [`apply_chat_template`](Self::apply_chat_template).
    pub fn apply_chat_template_while(
        &self,
        chat: &Chat,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<Option<String>, MullamaError> {
        self.chat_job(chat, Some(&mut go_on), rendered)
    }

    /// Tokenizes a chat as an engine does: control tokens inside messages are treated as plain text.
    ///
    /// # Errors
    /// As [`apply_chat_template`](Self::apply_chat_template), and [`MullamaError::InvalidPrompt`] if the tokenizer
    /// refuses the text.
    pub fn tokenize_chat(&self, chat: &Chat) -> Result<Vec<TokenId>, MullamaError> {
        self.chat_job(chat, None, tokens_of_chat).map(Option::unwrap_or_default)
    }

    /// Like [`tokenize_chat`](Self::tokenize_chat), but can be cancelled: see
    /// [`tokenize_while`](Self::tokenize_while).
    ///
    /// # Errors
    /// As [`tokenize_chat`](Self::tokenize_chat).
    pub fn tokenize_chat_while(
        &self,
        chat: &Chat,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<Option<Vec<TokenId>>, MullamaError> {
        self.chat_job(chat, Some(&mut go_on), tokens_of_chat)
    }

    fn chat_job<T: Send + 'static>(
        &self,
        chat: &Chat,
        go_on: Option<&mut dyn FnMut() -> bool>,
        work: impl FnOnce(&LlamaVocabulary, &Chat, &IsWanted) -> Result<T, MullamaError> + Send + 'static,
    ) -> Result<Option<T>, MullamaError> {
        self.fork_guard.check()?;
        let lane = lane_of(chat);
        let (vocabulary, chat) = (Arc::clone(&self.vocabulary), chat.clone());
        TokenizerPool::of_process().run_blocking(lane, go_on, move |is_wanted| work(&vocabulary, &chat, is_wanted))
    }

    /// The file's metadata as keys and values, both as text, in the order of the file.
    pub fn metadata(&self) -> Vec<(String, String)> {
        self.weights().metadata()
    }

    /// A short description: architecture, size and number format.
    pub fn description(&self) -> String {
        self.weights().desc()
    }

    /// Context length that the model was trained for, in tokens.
    pub fn n_ctx_train(&self) -> u32 {
        self.weights().n_ctx_train()
    }

    /// Width of an embedding.
    pub fn n_embd(&self) -> u32 {
        self.weights().n_embd()
    }

    /// Number of layers.
    pub fn n_layer(&self) -> u32 {
        self.weights().n_layer()
    }

    /// Number of layers on GPUs, out of [`n_layer`](Self::n_layer) plus one for the output; 0 if all are on the CPU.
    pub fn n_gpu_layers(&self) -> u32 {
        self.weights().gpu_layers()
    }

    /// Number of weights.
    pub fn n_params(&self) -> u64 {
        self.weights().n_params()
    }

    /// Size of all tensors in bytes.
    pub fn size(&self) -> u64 {
        self.weights().size()
    }

    /// Number of tokens in the vocabulary.
    pub fn n_vocab(&self) -> usize {
        self.weights().vocab().n_tokens()
    }

    /// The token at the start of a text (BOS), if the model has one.
    pub fn bos(&self) -> Option<TokenId> {
        self.weights().vocab().bos()
    }

    /// The token at the end of a text (EOS), if the model has one.
    pub fn eos(&self) -> Option<TokenId> {
        self.weights().vocab().eos()
    }

    /// All end-of-generation tokens.
    pub fn end_tokens(&self) -> Vec<TokenId> {
        self.weights().vocab().eog_tokens()
    }

    /// Ends all engines of this model; their streams end with [`MullamaError::Closed`]. The weights are freed with the
    /// last user.
    pub fn close(&self) {
        if self.fork_guard.is_forked() {
            return;
        }
        // Engines are closed outside the lock, because that waits for their threads.
        let (last, engines) = {
            let mut engines = self.lock();
            engines.closed = true;
            (engines.last.take(), std::mem::take(&mut engines.shared))
        };
        drop(last);
        engines.iter().filter_map(|(_, engine)| engine.upgrade()).for_each(|engine| engine.close());
    }

    /// The error of a closed engine, which names the model if that was closed.
    pub(crate) fn name_closed(&self, error: MullamaError) -> MullamaError {
        match error {
            MullamaError::Closed { what: "engine" } if self.lock().closed => MullamaError::Closed { what: "model" },
            other => other,
        }
    }

    /// The engine with these params: a running one, or a new one.
    pub(crate) fn engine(&self, params: &ContextParams) -> Result<Arc<EngineHandle>, MullamaError> {
        self.fork_guard.check()?;
        let params = ResolvedParams::resolve(params, self.weights(), self.path.clone(), self.positions)?;
        self.check_decoder()?;
        self.check_files()?;
        let mut engines = self.lock();
        if engines.closed {
            return Err(MullamaError::Closed { what: "model" });
        }
        // Handles that may be the last ones are dropped after the lock is released, because that waits for an engine's
        // thread.
        let known: Vec<_> = engines.shared.iter().map(|(params, engine)| (params.clone(), engine.upgrade())).collect();
        let alive = |engine: &Option<Arc<EngineHandle>>| engine.as_ref().is_some_and(|engine| !engine.is_closed());
        let mut lives = known.iter().map(|(_, engine)| alive(engine));
        // An engine whose thread has ended serves no requests any more.
        engines.shared.retain(|_| lives.next().unwrap_or(false));
        let running = known.iter().find(|(other, engine)| *other == params && alive(engine));
        let engine = if let Some(engine) = running.and_then(|(_, engine)| engine.clone()) {
            engine
        } else {
            // Engines are created one at a time, so that two concurrent calls do not create two pools.
            match memory::check(self.weights(), &params).and_then(|()| EngineHandle::start(&self.vocabulary, &params)) {
                Ok(engine) => {
                    engines.shared.push((params, Arc::downgrade(&engine)));
                    engine
                }
                Err(error) => {
                    drop(engines);
                    drop(known);
                    return Err(error);
                }
            }
        };
        let replaced = engines.last.replace(Arc::clone(&engine));
        drop(engines);
        drop((replaced, known));
        Ok(engine)
    }

    /// The resolved params, and the weights, for an engine that a test starts itself.
    #[cfg(feature = "test-support")]
    pub(crate) fn parts(
        &self,
        params: &ContextParams,
    ) -> Result<(ResolvedParams, Arc<mullama_ffi::Model>), MullamaError> {
        Ok((
            ResolvedParams::resolve(params, self.weights(), self.path.clone(), self.positions)?,
            Arc::clone(self.weights()),
        ))
    }

    fn weights(&self) -> &Arc<mullama_ffi::Model> {
        self.vocabulary.model()
    }

    fn check_decoder(&self) -> Result<(), MullamaError> {
        if self.weights().has_decoder() && !self.weights().is_diffusion() {
            return Ok(());
        }
        let key = |(key, value): (String, String)| (key == "general.architecture").then_some(value);
        let architecture = self.metadata().into_iter().find_map(key).unwrap_or_default();
        Err(MullamaError::ModelLoad { path: self.path.clone(), source: ModelLoadFailure::NoDecoder { architecture } })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Engines> {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses what cannot be the path of a file, which the system would report as a missing file or an invalid input.
fn check_path(path: &Path) -> Result<(), MullamaError> {
    let wanted = |value: &str, wanted: &str| Err(MullamaError::invalid("path", value, wanted));
    let bytes = path.as_os_str().as_encoded_bytes();
    match bytes {
        [] => wanted("empty", "the path of a GGUF file"),
        _ if bytes.contains(&0) => wanted(&format!("{:?}", path.to_string_lossy()), "a path without NUL characters"),
        _ => Ok(()),
    }
}

fn rendered(vocabulary: &LlamaVocabulary, chat: &Chat, is_wanted: &IsWanted) -> Result<String, MullamaError> {
    vocabulary.dialect()?.render(chat, is_wanted)
}

fn tokens_of_chat(
    vocabulary: &LlamaVocabulary,
    chat: &Chat,
    is_wanted: &IsWanted,
) -> Result<Vec<TokenId>, MullamaError> {
    vocabulary.tokenize_chat(chat, is_wanted, &mut |_| is_wanted())
}
