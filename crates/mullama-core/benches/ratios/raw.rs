//! The bare loop: only decode and the same sampler chain.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::error::Error;
use std::io::stdin;
use std::sync::Arc;
use std::time::Instant;

use mullama_ffi::{Batch, Context, ContextOptions, Model, ModelOptions, Sampler, SamplerOptions};

use crate::args::Args;

/// The prompt of every stream of every case.
pub(crate) const PROMPT: &str = "Once upon a time";
/// Number of cells of the pool, for the bare loop and for mullama.
pub(crate) const CELLS: u32 = 4096;

/// A bare llama.cpp context.
pub(crate) struct Raw {
    model: Arc<Model>,
    context: Context,
    batch: Batch,
    streams: usize,
}

impl Raw {
    /// Creates a context with a unified pool for this many sequences.
    pub(crate) fn new(args: &Args, streams: usize) -> Result<Self, mullama_ffi::Error> {
        Self::with_threads(args, streams, args.threads)
    }

    /// Like [`new`](Self::new), with this number of threads.
    pub(crate) fn with_threads(args: &Args, streams: usize, threads: u32) -> Result<Self, mullama_ffi::Error> {
        let model = Model::load(&args.model, &ModelOptions::default(), None)?;
        let options = ContextOptions {
            n_ctx: CELLS,
            n_seq_max: u32::try_from(streams).unwrap_or(1),
            n_threads: threads,
            n_threads_batch: threads,
            ..ContextOptions::default()
        };
        let context = Context::new(&model, &options)?;
        Ok(Self { model, context, batch: Batch::new(512), streams })
    }

    /// Tokens per second of all sequences together, including the prompt; each is `tokens` long.
    pub(crate) fn run(&mut self, tokens: u32) -> Result<f64, mullama_ffi::Error> {
        let streams = self.streams;
        let options = SamplerOptions {
            top_k: 40,
            top_p: 0.9,
            logit_bias: self.model.vocab().eog_tokens().into_iter().map(|token| (token, f32::NEG_INFINITY)).collect(),
            seed: 1,
            ..SamplerOptions::default()
        };
        let mut samplers = (0..streams).map(|_| Sampler::new(&options, &self.model)).collect::<Result<Vec<_>, _>>()?;
        let prompt = self.model.vocab().tokenize(PROMPT, true, true)?;
        let began = Instant::now();
        let mut rows = Vec::new();
        self.batch.clear();
        for seq in 0..i32::try_from(streams).unwrap_or(0) {
            for (position, &token) in (0..).zip(&prompt) {
                let last = usize::try_from(position).is_ok_and(|position| position + 1 == prompt.len());
                let row = self.batch.push(token, position, seq, last)?;
                if last {
                    rows.push(row);
                }
            }
        }
        let first = i32::try_from(prompt.len()).unwrap_or(0);
        for position in (first..).take(tokens as usize) {
            self.context.decode(&self.batch)?;
            self.batch.clear();
            for ((seq, sampler), row) in (0..).zip(&mut samplers).zip(&mut rows) {
                let token = sampler.sample(self.context.logits(*row)?)?;
                *row = self.batch.push(token, position, seq, true)?;
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        for seq in 0..i32::try_from(streams).unwrap_or(0) {
            self.context.seq_rm(seq, 0, None)?;
        }
        // The threads are paused, because they would spin beside the next measurement.
        self.context.pause_threads()?;
        #[expect(clippy::cast_precision_loss, reason = "a count of streams")]
        Ok(f64::from(tokens) * streams as f64 / seconds)
    }
}

/// Reads a number of streams from each line of stdin, and answers with the tokens per second of one run.
pub(crate) fn serve(args: &Args) -> Result<(), Box<dyn Error>> {
    let mut loops = BTreeMap::new();
    for line in stdin().lines() {
        let streams: usize = line?.trim().parse()?;
        let raw = match loops.entry(streams) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(slot) => slot.insert(Raw::new(args, streams)?),
        };
        crate::table::say(&raw.run(args.tokens)?.to_string());
    }
    Ok(())
}
