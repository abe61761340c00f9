//! Common parts of all tests of this crate: the demo model and a bare greedy loop.
#![allow(dead_code, reason = "each test file uses the part it needs")]

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use mullama_ffi::{Batch, Context, ContextOptions, Error, Model, ModelOptions, TokenId};

/// The demo model's file.
pub(crate) fn demo_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../python/mullama/models/demo.gguf")
}

/// The demo model, loaded once per test program.
pub(crate) fn demo() -> Arc<Model> {
    static DEMO: OnceLock<Arc<Model>> = OnceLock::new();
    let load = || Model::load(&demo_path(), &ModelOptions::default(), None).expect("the demo loads");
    Arc::clone(DEMO.get_or_init(load))
}

/// Small options for one thread, because tests run concurrently, and ggml's threads spin while they wait for each
/// other.
pub(crate) fn options() -> ContextOptions {
    ContextOptions {
        n_ctx: 512,
        n_batch: 64,
        n_ubatch: 32,
        n_seq_max: 4,
        n_threads: 1,
        n_threads_batch: 1,
        ..ContextOptions::default()
    }
}

/// A context with [`options`] on the demo model.
pub(crate) fn context() -> Context {
    Context::new(&demo(), &options()).expect("a context")
}

/// Adds tokens at consecutive positions of a sequence, and requests logits for the last one.
pub(crate) fn feed(context: &mut Context, seq: i32, tokens: &[TokenId]) -> Result<usize, Error> {
    let from = context.seq_pos_max(seq)?.map_or(0, |last| last + 1);
    let mut batch = Batch::new(tokens.len());
    for (position, &token) in (from..).zip(tokens) {
        let last = batch.len() + 1 == tokens.len();
        batch.push(token, position, seq, last)?;
    }
    context.decode(&batch)?;
    Ok(batch.len() - 1)
}

/// The most likely token.
pub(crate) fn argmax(logits: &[f32]) -> TokenId {
    let mut best = 0;
    for (index, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = index;
        }
    }
    TokenId::try_from(best).expect("a vocabulary fits")
}

/// The text that the model generates greedily after a prompt.
pub(crate) fn write(context: &mut Context, seq: i32, prompt: &str, max_tokens: usize) -> Result<String, Error> {
    let model = Arc::clone(context.model());
    let vocab = model.vocab();
    let mut row = feed(context, seq, &vocab.tokenize(prompt, true, true)?)?;
    let mut bytes = Vec::new();
    for _ in 0..max_tokens {
        let token = argmax(context.logits(row)?);
        if vocab.is_eog(token) {
            break;
        }
        vocab.piece(token, false, &mut bytes)?;
        row = feed(context, seq, &[token])?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
