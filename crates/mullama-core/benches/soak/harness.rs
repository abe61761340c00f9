//! The engine under test, and an undisturbed one to compare with.

use std::error::Error;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mullama::testing::{Limits, Logits, Reuse, ScriptedContext, Size};
use mullama::{Context, ContextParams, Model, MullamaError, Stats, StreamConfig, TokenId, TokenStream};

/// Maximum number of tokens of a sequence; prompts and answers together stay below.
pub(crate) const CONTEXT: usize = 160;
/// Enough cells for about three whole sequences, so that every stream is preempted now and then.
const CELLS: usize = 512;

/// The engine under test.
pub(crate) enum Harness {
    /// An engine with too few cells over scripted logits, and an undisturbed one with enough cells.
    Scripted { contended: ScriptedContext, undisturbed: ScriptedContext },
    /// A real model with a small pool.
    Real(Context),
}

impl Harness {
    pub(crate) fn open(model: Option<PathBuf>) -> Result<Self, Box<dyn Error>> {
        let Some(path) = model else {
            let limits = Limits { rows: 64, cells: CELLS, n_seq: 12, reuse: Reuse::Parts };
            let size = Size {
                slots: 4,
                queue: 8,
                context_len: CONTEXT,
                limits,
                prefix_cache_bytes: 8 << 10,
                ..Size::default()
            };
            let contended = ScriptedContext::start(size, spread())?;
            let undisturbed = Limits { rows: 512, cells: 1 << 16, n_seq: 72, reuse: Reuse::Nothing };
            let undisturbed = ScriptedContext::start(
                Size { limits: undisturbed, context_len: CONTEXT, ..Size::default() },
                spread(),
            )?;
            return Ok(Self::Scripted { contended, undisturbed });
        };
        let cells = u32::try_from(CELLS)?;
        let params = ContextParams {
            n_ctx: Some(u32::try_from(CONTEXT)?),
            n_parallel: 4,
            kv_cells: Some(cells),
            max_queue: 8,
            prefix_cache_bytes: 1 << 20,
            ..ContextParams::default()
        };
        Ok(Self::Real(Context::new(Arc::new(Model::load(path)?), params)?))
    }

    pub(crate) fn stream(&self, prompt: Vec<TokenId>, config: StreamConfig) -> Result<TokenStream, MullamaError> {
        match self {
            Self::Scripted { contended, .. } => contended.stream(prompt, config),
            Self::Real(context) => context.stream(prompt, config),
        }
    }

    /// The text of a request in the undisturbed engine; `None` for a real model, whose last bits may differ.
    pub(crate) fn alone(&self, prompt: Vec<TokenId>, config: StreamConfig) -> Result<Option<String>, MullamaError> {
        match self {
            Self::Scripted { undisturbed, .. } => Ok(Some(undisturbed.stream(prompt, config)?.into_completion()?.text)),
            Self::Real(_) => Ok(None),
        }
    }

    pub(crate) fn stats(&self) -> Result<Stats, MullamaError> {
        match self {
            Self::Scripted { contended, .. } => Ok(contended.stats()),
            Self::Real(context) => context.stats(),
        }
    }

    fn unfinished(&self) -> Result<usize, MullamaError> {
        match self {
            Self::Scripted { contended, .. } => Ok(contended.unfinished()),
            Self::Real(context) => context.unfinished(),
        }
    }

    /// Whether all streams have ended, and only cached prefixes hold cells.
    pub(crate) fn check_empty(&self) -> Result<(), Box<dyn Error>> {
        let patience = Instant::now() + Duration::from_secs(10);
        loop {
            let (stats, unfinished) = (self.stats()?, self.unfinished()?);
            let gone = unfinished == 0 && stats.queued + stats.running + stats.paused == 0;
            if gone && stats.cells_used <= stats.cells_cached {
                return Ok(());
            }
            if Instant::now() > patience {
                return Err(format!("something is left: {unfinished} unfinished, {stats:?}").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Logits that depend on all previous tokens and give every letter a chance to be sampled.
fn spread() -> Logits {
    Arc::new(|tokens, logits| {
        for (letter, logit) in logits.iter_mut().enumerate().take(123).skip(97) {
            let mut hasher = DefaultHasher::new();
            (tokens, letter).hash(&mut hasher);
            #[expect(clippy::cast_precision_loss, reason = "a logit needs no more than 24 bits")]
            let spread = (hasher.finish() % 1000) as f32 / 200.0;
            *logit = 10.0 + spread;
        }
    })
}
