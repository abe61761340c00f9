//! Rows of logits with a sampler chain each, to sample on as many threads as a test or benchmark needs.

use mullama_ffi::{Error, Sampler, SamplerOptions, TokenId};

use crate::config::StreamConfig;
use crate::engine::sample_rows::{SampleJob, sample_rows, sampling_threads};
use crate::error::MullamaError;
use crate::text::sampler::SamplerChain;
use crate::text::vocabulary::Vocabulary;

/// A vocabulary of bare ids without texts.
#[derive(Debug)]
struct Ids(usize);

impl Vocabulary for Ids {
    fn n_tokens(&self) -> usize {
        self.0
    }

    fn tokenize(&self, _text: &str) -> Result<Vec<TokenId>, Error> {
        Err(Error::NoVocabulary)
    }

    fn piece(&self, _token: TokenId, _bytes: &mut Vec<u8>) -> Result<(), Error> {
        Err(Error::NoVocabulary)
    }

    fn end_tokens(&self) -> Vec<TokenId> {
        vec![0]
    }

    fn sampler(&self, options: &SamplerOptions) -> Result<Sampler, Error> {
        Sampler::without_vocabulary(options, self.0)
    }
}

/// The rows of a step.
#[derive(Debug)]
pub struct SamplingRows {
    n_vocab: usize,
    rows: Vec<(Vec<f32>, SamplerChain)>,
}

impl SamplingRows {
    /// Creates so many rows of `n_vocab` logits that resemble a model's, and a sampler chain with this config for each.
    ///
    /// # Errors
    /// The error of the sampler.
    pub fn new(rows: usize, n_vocab: usize, config: &StreamConfig) -> Result<Self, Error> {
        let vocabulary = Ids(n_vocab);
        let row = |seed: u32| Ok((logits(seed, n_vocab), SamplerChain::build(config, seed, n_vocab, &vocabulary)?));
        let rows = (1..).take(rows).map(row).collect::<Result<_, Error>>()?;
        Ok(Self { n_vocab, rows })
    }

    /// Samples a token from each row on this many threads, and reports its log-probability if the config asks for it.
    ///
    /// # Errors
    /// The error of the sampler.
    pub fn sample(&mut self, threads: usize) -> Result<Vec<(TokenId, Option<f32>)>, MullamaError> {
        let jobs = self
            .rows
            .iter_mut()
            .map(|(logits, sampler)| SampleJob { logits: Ok(logits.as_slice()), sampler })
            .collect();
        let results = sample_rows(jobs, threads).into_iter();
        results.map(|result| result.map(|sampled| (sampled.token, sampled.logprob))).collect()
    }

    /// The number of threads that the engine would use if it may use `most`.
    pub fn threads(&self, most: usize) -> usize {
        sampling_threads(self.rows.len(), self.n_vocab, most)
    }

    /// Reads every row once: the lower bound of the cost of sampling.
    pub fn read(&self) -> f32 {
        self.rows.iter().map(|(logits, _)| logits.iter().copied().fold(f32::NEG_INFINITY, f32::max)).sum()
    }
}

/// Normally distributed logits, with a few of them far above, as models have them.
fn logits(seed: u32, n_vocab: usize) -> Vec<f32> {
    let mut state = 0x9E37_79B9_u32.wrapping_add(seed.wrapping_mul(0x85EB_CA6B));
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        f32::from(u16::try_from(state >> 16).expect("16 bits")) / 65_536.0
    };
    (0..n_vocab).map(|_| 4.0 * (next() + next() + next() + next()) - 8.0).collect()
}
