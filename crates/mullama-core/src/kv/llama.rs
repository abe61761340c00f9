//! llama.cpp as the engine's backend.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mullama_ffi::{Batch, Context, ContextOptions, CpuContention, Error, FlashAttn, KvType, Model};

use crate::config::{MAX_SEQUENCES, ResolvedParams};
use crate::kv::backend::{Backend, Limits, Row};
use crate::kv::prefix_cache::Reuse;

fn llama_seq_id(seq_id: usize) -> i32 {
    i32::try_from(seq_id).expect("a context has at most 256 sequences")
}

fn position(tokens: usize) -> i32 {
    i32::try_from(tokens).expect("n_ctx is an i32 in llama.cpp")
}

/// A llama.cpp context, which is rebuilt when it is lost.
#[derive(Debug)]
pub(crate) struct LlamaBackend {
    model: Arc<Model>,
    options: ContextOptions,
    abort: Arc<AtomicBool>,
    /// `None` only between a failure and the creation of the replacement: two contexts might not fit into memory.
    context: Option<Context>,
    batch: Batch,
    limits: Limits,
    resting: bool,
    /// Whether the number of threads must never change, because the bits depend on it.
    fixed_threads: bool,
}

impl LlamaBackend {
    /// Creates the context on the calling thread, which then owns it.
    pub(crate) fn new(model: Arc<Model>, params: &ResolvedParams, abort: Arc<AtomicBool>) -> Result<Self, Error> {
        let reuse = if model.is_recurrent() || model.is_hybrid() { Reuse::Whole } else { Reuse::Parts };
        let parts = reuse == Reuse::Parts;
        let n_seq = if parts { params.n_seq.min(MAX_SEQUENCES - 1) } else { params.n_seq };
        // One sequence more than the engine uses: parts of a prefix are saved and restored through it.
        let n_seq_max = n_seq + u32::from(parts);
        let options = ContextOptions { n_seq_max, ..params.options() };
        let context = Context::with_abort_flag(&model, &options, Arc::clone(&abort))?;
        let rows = context.n_batch() as usize;
        let limits = Limits { rows, cells: params.kv_cells as usize, n_seq: n_seq as usize, reuse };
        Ok(Self {
            model,
            options,
            abort,
            context: Some(context),
            batch: Batch::new(rows),
            limits,
            resting: false,
            fixed_threads: false,
        })
    }

    /// Makes the next decode fail in this way.
    #[cfg(feature = "test-support")]
    pub(crate) fn fail_next_decode(&mut self, failure: mullama_ffi::Failure) {
        if let Some(context) = &mut self.context {
            context.fail_next_decode(failure);
        }
    }
}

/// Saves the state of a sequence if it has at most `limit` bytes.
fn state(context: &mut Context, seq: i32, limit: usize) -> Result<Option<Vec<u8>>, Error> {
    if context.state_seq_size(seq)? > limit {
        return Ok(None);
    }
    context.state_seq_get(seq).map(Some)
}

impl LlamaBackend {
    /// The spare sequence, if the model's KV can be reused in parts. It is empty between two calls.
    fn scratch(&self) -> i32 {
        llama_seq_id(self.limits.n_seq)
    }

    /// Whether ggml's flash attention on the CPU divides the cells of a single row between the threads, so that the
    /// last bits depend on their number. It does so where K and V have the same float format, and llama.cpp converts
    /// caches in 32 bits to 16 bits before.
    fn divides_attention(&self) -> bool {
        let float = |kv_type| matches!(kv_type, KvType::F16 | KvType::F32);
        let flash = self.options.flash_attn != FlashAttn::Off;
        flash && float(self.options.type_k) && float(self.options.type_v)
    }

    fn context(&mut self) -> Result<&mut Context, Error> {
        self.context.as_mut().ok_or(Error::Poisoned)
    }
}

impl Backend for LlamaBackend {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn decode(&mut self, rows: &[Row]) -> Result<(), Error> {
        self.resting = false;
        self.batch.clear();
        for row in rows {
            self.batch.push(row.token, position(row.position), llama_seq_id(row.seq_id), row.output)?;
        }
        self.context.as_mut().ok_or(Error::Poisoned)?.decode(&self.batch)
    }

    fn synchronize(&mut self) -> Result<(), Error> {
        self.context()?.synchronize()
    }

    fn contention(&self) -> Option<CpuContention> {
        self.context.as_ref()?.contention()
    }

    fn logits(&self, row: usize) -> Result<&[f32], Error> {
        self.context.as_ref().ok_or(Error::Poisoned)?.logits(row)
    }

    fn forget(&mut self, seq_id: usize) -> Result<(), Error> {
        self.context()?.seq_rm(llama_seq_id(seq_id), 0, None).map(drop)
    }

    fn share(&mut self, from: usize, to: usize, tokens: usize) -> Result<bool, Error> {
        let (from, to) = (llama_seq_id(from), llama_seq_id(to));
        let end = position(tokens);
        let whole = self.limits.reuse == Reuse::Whole;
        let context = self.context()?;
        context.seq_cp(from, to, 0, (!whole).then_some(end))?;
        // Not every model's memory can share a part, and some do not report a failure, so the result is checked.
        let starts = whole || context.seq_pos_min(to)? == Some(0);
        if starts && context.seq_pos_max(to)? == Some(end - 1) {
            return Ok(true);
        }
        context.seq_rm(to, 0, None)?;
        Ok(false)
    }

    fn save(&mut self, seq_id: usize, tokens: Range<usize>, limit: usize) -> Result<Option<Vec<u8>>, Error> {
        let (seq, scratch, whole) = (llama_seq_id(seq_id), self.scratch(), self.limits.reuse == Reuse::Whole);
        let context = self.context()?;
        if whole {
            return state(context, seq, limit);
        }
        context.seq_cp(seq, scratch, position(tokens.start), Some(position(tokens.end)))?;
        let saved = state(context, scratch, limit);
        context.seq_rm(scratch, 0, None)?;
        saved
    }

    fn restore(&mut self, seq_id: usize, tokens: Range<usize>, state: &[u8]) -> Result<bool, Error> {
        let (seq, scratch, end) = (llama_seq_id(seq_id), self.scratch(), position(tokens.end));
        let context = self.context()?;
        if tokens.start == 0 {
            context.state_seq_set(seq, state)?;
        } else {
            context.state_seq_set(scratch, state)?;
            context.seq_cp(scratch, seq, position(tokens.start), Some(end))?;
            context.seq_rm(scratch, 0, None)?;
        }
        Ok(context.seq_pos_max(seq)? == Some(end - 1))
    }

    fn truncate(&mut self, seq_id: usize, keep: usize, of: usize) -> Result<bool, Error> {
        let whole = self.limits.reuse == Reuse::Whole;
        let context = self.context()?;
        if whole && keep == of {
            return Ok(true);
        }
        // A saved state lacks the tokens that a sliding window has passed. Truncated, it would miss tokens that others
        // attend to.
        let cut = context.seq_rm(llama_seq_id(seq_id), position(keep), None)?;
        let (first, last) = (context.seq_pos_min(llama_seq_id(seq_id))?, context.seq_pos_max(llama_seq_id(seq_id))?);
        Ok(cut && first == Some(0) && last == Some(position(keep) - 1))
    }

    fn set_threads(&mut self, threads: u32) -> Result<(), Error> {
        if self.fixed_threads {
            return Ok(());
        }
        let (single, batch) = (self.options.n_threads, self.options.n_threads_batch);
        self.context()?.set_threads(threads.min(single), threads.min(batch))
    }

    fn isolated(&self, tokens: usize, rows: usize) -> Box<dyn FnOnce() -> Result<Self, Error> + Send> {
        let size = |tokens| u32::try_from(tokens).unwrap_or(u32::MAX);
        // One sequence more than is computed, through which parts of it are saved.
        let n_seq = 1 + u32::from(self.limits.reuse == Reuse::Parts);
        let on_gpu = self.model.uses_gpu();
        let options = ContextOptions {
            n_ctx: size(tokens),
            n_batch: size(rows),
            n_ubatch: size(rows),
            n_seq_max: n_seq,
            n_outputs_max: n_seq,
            // Without flash attention each sum is computed by one thread, so their number may change.
            flash_attn: if self.divides_attention() && !on_gpu { FlashAttn::Off } else { self.options.flash_attn },
            ..self.options.clone()
        };
        let fixed_threads = self.divides_attention() && on_gpu;
        let limits = Limits { rows, cells: tokens, n_seq: 1, reuse: self.limits.reuse };
        let (model, abort) = (Arc::clone(&self.model), Arc::clone(&self.abort));
        Box::new(move || {
            let context = Context::with_abort_flag(&model, &options, Arc::clone(&abort))?;
            let (context, batch) = (Some(context), Batch::new(rows));
            Ok(Self { model, options, abort, context, batch, limits, resting: false, fixed_threads })
        })
    }

    fn rebuild(&mut self) -> Result<(), Error> {
        self.context = None;
        self.context = Some(Context::with_abort_flag(&self.model, &self.options, Arc::clone(&self.abort))?);
        Ok(())
    }

    fn pause_threads(&mut self) {
        if !std::mem::replace(&mut self.resting, true)
            && let Some(context) = &mut self.context
        {
            // A poisoned context has no threads to pause.
            let _ = context.pause_threads();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use mullama_ffi::{ModelOptions, TokenId};

    use super::*;
    use crate::config::ContextParams;

    const PROMPT: usize = 800;
    const CHUNK: usize = 64;

    fn most_likely(logits: &[f32]) -> TokenId {
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).expect("a vocabulary");
        TokenId::try_from(best).expect("a vocabulary fits")
    }

    /// The bits of the logits of 24 greedy tokens after a long prompt, computed in the context of deterministic streams
    /// with this number of threads for each step.
    fn bits(params: &ContextParams, threads: impl Fn(usize) -> u32) -> Vec<Vec<u32>> {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../python/mullama/models/demo.gguf"));
        let model = Model::load(path, &ModelOptions::default(), None).expect("the demo loads");
        let params = ResolvedParams::resolve(params, &model, PathBuf::from("demo"), None).expect("good params");
        let pool = LlamaBackend::new(model, &params, Arc::new(AtomicBool::new(false))).expect("a context");
        let mut backend = pool.isolated(1024, CHUNK)().expect("a context");
        let tokens: Vec<TokenId> = (0..PROMPT).map(|at| TokenId::try_from(3 + at * at % 97).expect("small")).collect();
        let row = |token, position, output| Row { token, position, seq_id: 0, output };
        for (chunk, tokens) in tokens[..PROMPT - 1].chunks(CHUNK).enumerate() {
            let rows = tokens.iter().zip(chunk * CHUNK..).map(|(&token, position)| row(token, position, false));
            backend.decode(&rows.collect::<Vec<Row>>()).expect("computed");
        }
        let mut token = tokens[PROMPT - 1];
        let step = |step: usize| {
            backend.set_threads(threads(step)).expect("threads");
            backend.decode(&[row(token, PROMPT - 1 + step, true)]).expect("computed");
            let logits = backend.logits(0).expect("logits");
            token = most_likely(logits);
            logits.iter().map(|logit| logit.to_bits()).collect()
        };
        (0..24).map(step).collect()
    }

    #[test]
    fn the_bits_of_deterministic_streams_do_not_depend_on_how_many_threads_the_tuner_picks() {
        use KvType::{F16, F32, Q8_0};
        for (type_k, type_v) in [(F16, F16), (F16, F32), (F32, F32), (Q8_0, F16), (F16, Q8_0)] {
            let params = ContextParams { n_threads: Some(3), type_k, type_v, ..ContextParams::default() };
            let one = bits(&params, |_| 1);
            let changing = bits(&params, |step| 1 + u32::try_from(step / 2 % 3).expect("small"));
            let first_difference = one.iter().zip(&changing).position(|(one, changing)| one != changing);
            assert_eq!(first_difference, None, "{type_k:?} {type_v:?}");
        }
    }
}
