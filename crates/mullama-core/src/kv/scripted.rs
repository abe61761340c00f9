//! A backend whose logits a test provides; it is strict about everything that llama.cpp would assert.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mullama_ffi::{CpuContention, Error, Sampler, SamplerOptions, TokenId};

use crate::clock::Clock;
use crate::kv::backend::{Backend, Limits, Row};
use crate::kv::cells::Cells;
use crate::kv::prefix_cache::Reuse;
use crate::text::vocabulary::Vocabulary;

/// Writes the logits after a sequence of tokens.
pub type Logits = Arc<dyn Fn(&[TokenId], &mut [f32]) + Send + Sync>;

/// A clock that moves only when a test moves it.
#[derive(Debug, Default)]
pub struct VirtualClock(Mutex<Duration>);

impl VirtualClock {
    /// Advances the time.
    pub fn advance(&self, by: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Duration {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A vocabulary with one token per byte, and one that ends the text.
#[derive(Debug)]
pub struct ByteVocabulary;

impl ByteVocabulary {
    /// The token that ends the text.
    pub const END: TokenId = 256;
}

impl Vocabulary for ByteVocabulary {
    fn n_tokens(&self) -> usize {
        257
    }

    fn tokenize(&self, text: &str) -> Result<Vec<TokenId>, Error> {
        Ok(text.bytes().map(TokenId::from).collect())
    }

    fn piece(&self, token: TokenId, bytes: &mut Vec<u8>) -> Result<(), Error> {
        bytes.extend(u8::try_from(token).ok());
        Ok(())
    }

    fn end_tokens(&self) -> Vec<TokenId> {
        vec![Self::END]
    }

    fn sampler(&self, options: &SamplerOptions) -> Result<Sampler, Error> {
        Sampler::without_vocabulary(options, self.n_tokens())
    }
}

/// Failures that a test requests, each of which happens once.
#[derive(Debug, Default)]
pub struct Faults {
    /// The error of the next decode.
    pub decode: Option<Error>,
    /// The error of the next rebuild.
    pub rebuild: Option<Error>,
    /// The error of the next copy of KV to host memory.
    pub copy: Option<Error>,
    /// The error of the next context for deterministic streams.
    pub isolated: Option<Error>,
}

/// Work that costs time in addition to the rows of a decode; 0 by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Prices {
    /// Cost of a cell of a sequence without rows in a decode, for each row.
    pub idle_cell: Duration,
    /// Cost of a token whose KV is copied to host memory or back.
    pub copied_token: Duration,
}

/// What a test prescribes for a backend, and what it can observe afterwards.
#[derive(Clone)]
pub struct Script {
    /// The logits after each sequence.
    pub logits: Logits,
    /// The capacity of the backend.
    pub limits: Limits,
    /// The cost of a decode of this many rows on the virtual clock.
    pub cost: fn(usize) -> Duration,
    /// Whether a decode returns at once, as on a GPU; its cost is then added when its results are waited for.
    pub asynchronous: bool,
    /// The other costs on the virtual clock.
    pub prices: Arc<Mutex<Prices>>,
    /// The clock that all costs are added to.
    pub clock: Option<Arc<VirtualClock>>,
    /// The failures that happen next.
    pub faults: Arc<Mutex<Faults>>,
    /// Where the rows of every decode are recorded, if a test needs them.
    pub decodes: Option<Arc<Mutex<Vec<Vec<Row>>>>>,
}

impl Script {
    /// A script without costs, faults and records.
    pub fn new(logits: Logits, limits: Limits) -> Self {
        Self {
            logits,
            limits,
            cost: |_| Duration::ZERO,
            asynchronous: false,
            prices: Arc::default(),
            clock: None,
            faults: Arc::default(),
            decodes: None,
        }
    }
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Script").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The backend of a [`Script`].
#[derive(Debug)]
pub struct ScriptedBackend {
    script: Script,
    n_vocab: usize,
    /// The tokens whose cells each sequence holds.
    tokens: BTreeMap<usize, Vec<TokenId>>,
    cells: Cells,
    /// Logits of the last decode, by row.
    outputs: BTreeMap<usize, Vec<f32>>,
    /// A decode failed, so only a rebuild may follow.
    poisoned: bool,
    /// Cost of asynchronous decodes that have not been waited for.
    unpaid: Duration,
}

impl ScriptedBackend {
    /// Creates a backend over [`ByteVocabulary`].
    pub fn new(script: Script) -> Self {
        let n_vocab = ByteVocabulary.n_tokens();
        let cells = Cells::new(script.limits.cells, script.limits.n_seq);
        Self {
            script,
            n_vocab,
            tokens: BTreeMap::new(),
            cells,
            outputs: BTreeMap::new(),
            poisoned: false,
            unpaid: Duration::ZERO,
        }
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.script.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for asynchronous decodes.
    fn finish_work(&mut self) {
        if let Some(clock) = &self.script.clock {
            clock.advance(std::mem::take(&mut self.unpaid));
        }
    }

    fn prices(&self) -> Prices {
        *self.script.prices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cost_of_idle_cells(&self, rows: &[Row]) -> Duration {
        let computed: BTreeSet<usize> = rows.iter().map(|row| row.seq_id).collect();
        let held: usize = computed.into_iter().map(|seq_id| self.cells.of(seq_id)).sum();
        let idle = self.cells.used().saturating_sub(held) * rows.len();
        self.prices().idle_cell * u32::try_from(idle).unwrap_or(u32::MAX)
    }

    fn pay_for_copy(&self, tokens: usize) {
        if let Some(clock) = &self.script.clock {
            clock.advance(self.prices().copied_token * u32::try_from(tokens).unwrap_or(u32::MAX));
        }
    }

    fn put(&mut self, index: usize, row: &Row) {
        assert!(row.seq_id < self.script.limits.n_seq, "seq_id {} of {}", row.seq_id, self.script.limits.n_seq);
        let tokens = self.tokens.entry(row.seq_id).or_default();
        assert_eq!(row.position, tokens.len(), "positions of seq_id {} continue where its cells end", row.seq_id);
        tokens.push(row.token);
        self.cells.extend(row.seq_id, 1);
        if row.output {
            let mut logits = vec![0.0; self.n_vocab];
            (self.script.logits)(tokens, &mut logits);
            self.outputs.insert(index, logits);
        }
    }
}

impl Backend for ScriptedBackend {
    fn limits(&self) -> Limits {
        self.script.limits
    }

    fn decode(&mut self, rows: &[Row]) -> Result<(), Error> {
        let limits = self.script.limits;
        assert!(!self.poisoned, "a poisoned context must be rebuilt before the next decode");
        assert!(!rows.is_empty() && rows.len() <= limits.rows, "{} rows of {}", rows.len(), limits.rows);
        self.unpaid += (self.script.cost)(rows.len()) + self.cost_of_idle_cells(rows);
        if !self.script.asynchronous {
            self.finish_work();
        }
        let fault = self.faults().decode.take();
        if let Some(error) = fault {
            self.poisoned = error.poisons();
            return Err(error);
        }
        let held = self.cells.used();
        assert!(held + rows.len() <= limits.cells, "{held} cells and {} more of {}", rows.len(), limits.cells);
        self.outputs.clear();
        for (index, row) in rows.iter().enumerate() {
            self.put(index, row);
        }
        if let Some(decodes) = &self.script.decodes {
            decodes.lock().unwrap_or_else(PoisonError::into_inner).push(rows.to_vec());
        }
        Ok(())
    }

    fn synchronize(&mut self) -> Result<(), Error> {
        self.finish_work();
        Ok(())
    }

    fn contention(&self) -> Option<CpuContention> {
        None
    }

    fn logits(&self, row: usize) -> Result<&[f32], Error> {
        self.outputs.get(&row).map(Vec::as_slice).ok_or(Error::NoLogits { row })
    }

    fn forget(&mut self, seq_id: usize) -> Result<(), Error> {
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        self.tokens.remove(&seq_id);
        self.cells.truncate(seq_id, 0);
        Ok(())
    }

    fn share(&mut self, from: usize, to: usize, tokens: usize) -> Result<bool, Error> {
        let shared = self.tokens.get(&from).map_or(&[][..], Vec::as_slice);
        assert!(
            tokens <= shared.len() && !self.tokens.contains_key(&to),
            "a part of {from} for the empty sequence {to}"
        );
        if self.script.limits.reuse == Reuse::Whole && tokens < shared.len() {
            return Ok(false);
        }
        let shared = shared[..tokens].to_vec();
        self.tokens.insert(to, shared);
        self.cells.share(from, to, tokens);
        Ok(true)
    }

    fn save(&mut self, seq_id: usize, tokens: Range<usize>, limit: usize) -> Result<Option<Vec<u8>>, Error> {
        if let Some(error) = self.faults().copy.take() {
            return Err(error);
        }
        let held = self.tokens.get(&seq_id).map_or(&[][..], Vec::as_slice);
        assert!(
            self.script.limits.reuse == Reuse::Parts || tokens == (0..held.len()),
            "{tokens:?} requested from a state that is only reused whole"
        );
        let state: Vec<u8> = held[tokens.clone()].iter().flat_map(|token| token.to_le_bytes()).collect();
        if state.len() > limit {
            return Ok(None);
        }
        self.pay_for_copy(tokens.len());
        Ok(Some(state))
    }

    fn restore(&mut self, seq_id: usize, tokens: Range<usize>, state: &[u8]) -> Result<bool, Error> {
        self.pay_for_copy(tokens.len());
        let held = self.tokens.entry(seq_id).or_default();
        assert_eq!(held.len(), tokens.start, "a part must follow the tokens before it");
        held.extend(state.chunks_exact(4).map(|b| TokenId::from_le_bytes([b[0], b[1], b[2], b[3]])));
        assert_eq!(held.len(), tokens.end, "the state must hold the tokens of its range");
        assert!(self.cells.used() + tokens.len() <= self.script.limits.cells, "restoring must fit the pool");
        self.cells.extend(seq_id, tokens.len());
        Ok(true)
    }

    fn truncate(&mut self, seq_id: usize, keep: usize, of: usize) -> Result<bool, Error> {
        let tokens = self.tokens.entry(seq_id).or_default();
        assert_eq!(tokens.len(), of, "tokens of seq_id {seq_id}");
        tokens.truncate(keep);
        self.cells.truncate(seq_id, keep);
        Ok(keep == of || self.script.limits.reuse == Reuse::Parts)
    }

    fn set_threads(&mut self, _threads: u32) -> Result<(), Error> {
        Ok(())
    }

    fn isolated(&self, tokens: usize, rows: usize) -> Box<dyn FnOnce() -> Result<Self, Error> + Send> {
        let fault = self.faults().isolated.take();
        let limits = Limits { rows, cells: tokens, n_seq: 1, reuse: self.script.limits.reuse };
        let script = Script { limits, ..self.script.clone() };
        Box::new(move || fault.map_or_else(|| Ok(Self::new(script)), Err))
    }

    fn rebuild(&mut self) -> Result<(), Error> {
        if let Some(error) = self.faults().rebuild.take() {
            return Err(error);
        }
        self.poisoned = false;
        self.tokens.clear();
        self.cells = Cells::new(self.script.limits.cells, self.script.limits.n_seq);
        self.outputs.clear();
        Ok(())
    }

    fn pause_threads(&mut self) {}
}
