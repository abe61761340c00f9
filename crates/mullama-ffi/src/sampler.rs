//! Samples tokens with llama.cpp's samplers, in llama.cpp's order, with the state of one stream.

use std::ffi::{CString, c_char};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crate::error::{Error, check};
use crate::model::Model;
use crate::sys;
use crate::token::TokenId;
use crate::vocab::check_token;

/// llama.cpp replaces this seed with a random one.
const ANY_SEED: u32 = u32::MAX;
/// Below this temperature the scaled logits overflow, and only the most likely token could be chosen anyway.
const GREEDY_BELOW: f32 = 1e-6;
/// Maximum window of penalties and DRY in tokens; memory for it is allocated.
const MAX_LAST_N: i32 = 1 << 20;
/// Maximum number of sequence breakers, and of bytes of each: llama.cpp ignores further bytes, and longer breakers are
/// compared with more tokens.
const MAX_BREAKERS: usize = 64;
const MAX_BREAKER_BYTES: usize = 40;

/// How tokens are sampled. The default samples from the model's own distribution.
///
/// Order: logit bias, penalties, DRY, top-n-sigma, top-k, typical, top-p, min-p, XTC, temperature, random choice.
/// Mirostat replaces everything from top-n-sigma to XTC and the random choice. At temperature 0 the most likely token
/// after bias, penalties and DRY is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerOptions {
    /// Divides the logits; 0 always chooses the most likely token.
    pub temperature: f32,
    /// How far the temperature moves with the entropy of the distribution; 0 is off.
    pub dynatemp_range: f32,
    /// Exponent that maps the entropy to a temperature.
    pub dynatemp_exponent: f32,
    /// Keeps this many of the most likely tokens; 0 is off.
    pub top_k: i32,
    /// Keeps the most likely tokens that together have this probability; 1 is off.
    pub top_p: f32,
    /// Keeps tokens with at least this fraction of the highest probability; 0 is off.
    pub min_p: f32,
    /// Keeps the most typical tokens that together have this probability; 1 is off.
    pub typical_p: f32,
    /// Keeps tokens within this many standard deviations of the largest logit; 0 is off.
    pub top_n_sigma: f32,
    /// Probability that the most likely tokens are removed; 0 is off.
    pub xtc_probability: f32,
    /// Probability above which XTC may remove a token.
    pub xtc_threshold: f32,
    /// Divides the logits of recent tokens; 1 is off.
    pub repeat_penalty: f32,
    /// Subtracted from a recent token's logit for each occurrence; 0 is off.
    pub frequency_penalty: f32,
    /// Subtracted once from a recent token's logit; 0 is off.
    pub presence_penalty: f32,
    /// Number of latest tokens that are penalised; 0 turns the penalties off.
    pub repeat_last_n: i32,
    /// Strength of the DRY penalty on repetitions; 0 is off.
    pub dry_multiplier: f32,
    /// Factor by which the DRY penalty grows with each token of the repetition.
    pub dry_base: f32,
    /// Longest repetition without a penalty, in tokens.
    pub dry_allowed_length: i32,
    /// Number of latest tokens that DRY searches for repetitions; 0 turns DRY off.
    pub dry_penalty_last_n: i32,
    /// Texts at which a repetition ends: at most 64, of at most 40 bytes each.
    pub dry_sequence_breakers: Vec<String>,
    /// Version of Mirostat, 1 or 2; 0 is off.
    pub mirostat: u8,
    /// Mirostat's target surprise, in bits per token.
    pub mirostat_tau: f32,
    /// Mirostat's learning rate.
    pub mirostat_eta: f32,
    /// Seed of the random choice: the same seed and the same logits give the same tokens.
    pub seed: u32,
    /// Added to the logits of these tokens; negative infinity forbids a token.
    pub logit_bias: Vec<(TokenId, f32)>,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            top_n_sigma: 0.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            repeat_last_n: 64,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_penalty_last_n: 1024,
            dry_sequence_breakers: ["\n", ":", "\"", "*"].map(str::to_owned).to_vec(),
            mirostat: 0,
            mirostat_tau: 5.0,
            mirostat_eta: 0.1,
            seed: 0,
            logit_bias: Vec::new(),
        }
    }
}

impl SamplerOptions {
    /// Checks every field that does not depend on the model.
    ///
    /// # Errors
    ///
    /// [`Error::SamplerField`] for the first field that is out of range.
    pub fn check(&self) -> Result<(), Error> {
        let share = |value: f32| (0.0..=1.0).contains(&value);
        let not_negative = |value: f32| value.is_finite() && value >= 0.0;
        let floats = [
            ("temperature", self.temperature, not_negative(self.temperature), "0 or more"),
            ("dynatemp_range", self.dynatemp_range, not_negative(self.dynatemp_range), "0 or more"),
            ("dynatemp_exponent", self.dynatemp_exponent, not_negative(self.dynatemp_exponent), "0 or more"),
            ("top_p", self.top_p, share(self.top_p), "0 to 1"),
            ("min_p", self.min_p, share(self.min_p), "0 to 1"),
            ("typical_p", self.typical_p, share(self.typical_p), "0 to 1"),
            ("top_n_sigma", self.top_n_sigma, not_negative(self.top_n_sigma), "0 or more"),
            ("xtc_probability", self.xtc_probability, share(self.xtc_probability), "0 to 1"),
            ("xtc_threshold", self.xtc_threshold, share(self.xtc_threshold), "0 to 1"),
            (
                "repeat_penalty",
                self.repeat_penalty,
                self.repeat_penalty.is_normal() && self.repeat_penalty > 0.0,
                "above 0",
            ),
            ("frequency_penalty", self.frequency_penalty, self.frequency_penalty.is_finite(), "a finite number"),
            ("presence_penalty", self.presence_penalty, self.presence_penalty.is_finite(), "a finite number"),
            ("dry_multiplier", self.dry_multiplier, not_negative(self.dry_multiplier), "0 or more"),
            ("dry_base", self.dry_base, self.dry_base.is_finite() && self.dry_base >= 1.0, "1 or more"),
            ("mirostat_tau", self.mirostat_tau, not_negative(self.mirostat_tau), "0 or more"),
            ("mirostat_eta", self.mirostat_eta, not_negative(self.mirostat_eta), "0 or more"),
        ];
        for (field, value, in_range, range) in floats {
            if !in_range {
                return Err(Error::SamplerField { field, value: f64::from(value), range });
            }
        }
        self.check_counts()
    }

    fn check_counts(&self) -> Result<(), Error> {
        let counts = [
            ("top_k", self.top_k, 0..=i32::MAX, "0 or more"),
            ("repeat_last_n", self.repeat_last_n, 0..=MAX_LAST_N, "0 to 1048576"),
            ("dry_allowed_length", self.dry_allowed_length, 0..=MAX_LAST_N, "0 to 1048576"),
            ("dry_penalty_last_n", self.dry_penalty_last_n, 0..=MAX_LAST_N, "0 to 1048576"),
            ("mirostat", i32::from(self.mirostat), 0..=2, "0, 1 or 2"),
        ];
        for (field, value, allowed, range) in counts {
            if !allowed.contains(&value) {
                return Err(Error::SamplerField { field, value: f64::from(value), range });
            }
        }
        let longest = self.dry_sequence_breakers.iter().map(String::len).max().unwrap_or(0);
        for (value, most, range) in [
            (self.dry_sequence_breakers.len(), MAX_BREAKERS, "at most 64 texts"),
            (longest, MAX_BREAKER_BYTES, "texts of at most 40 bytes each"),
        ] {
            if value > most {
                let value = f64::from(u32::try_from(value).unwrap_or(u32::MAX));
                return Err(Error::SamplerField { field: "dry_sequence_breakers", value, range });
            }
        }
        for &(_, bias) in &self.logit_bias {
            if bias.is_nan() || bias == f32::INFINITY {
                let (field, range) = ("logit_bias", "a finite number or negative infinity");
                return Err(Error::SamplerField { field, value: f64::from(bias), range });
            }
        }
        Ok(())
    }

    fn raw(&self, n_vocab: i32) -> sys::SamplerOptions {
        sys::SamplerOptions {
            temperature: self.temperature,
            dynatemp_range: self.dynatemp_range,
            dynatemp_exponent: self.dynatemp_exponent,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            top_n_sigma: self.top_n_sigma,
            xtc_probability: self.xtc_probability,
            xtc_threshold: self.xtc_threshold,
            repeat_penalty: self.repeat_penalty,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            repeat_last_n: self.repeat_last_n,
            dry_multiplier: self.dry_multiplier,
            dry_base: self.dry_base,
            dry_allowed_length: self.dry_allowed_length,
            dry_penalty_last_n: self.dry_penalty_last_n,
            mirostat: i32::from(self.mirostat),
            mirostat_tau: self.mirostat_tau,
            mirostat_eta: self.mirostat_eta,
            // llama.cpp would replace this seed with one from the clock.
            seed: if self.seed == ANY_SEED { ANY_SEED - 1 } else { self.seed },
            n_vocab,
            greedy: self.temperature < GREEDY_BELOW,
            n_dry_breakers: 0,
            n_logit_bias: 0,
            dry_breakers: ptr::null(),
            logit_bias: ptr::null(),
        }
    }
}

/// Samples the tokens of one stream, and remembers as many of them as the penalties need.
///
/// It can move to another thread between two calls, so the rows of one decode can be sampled on several threads.
pub struct Sampler {
    raw: NonNull<sys::Sampler>,
    n_vocab: usize,
    failed: bool,
    /// DRY reads the vocabulary while it samples; everything else only needs its size.
    _model: Option<Arc<Model>>,
}

// SAFETY: a sampler is a heap object that is tied to no thread; `&mut self` in every call makes its user the only one.
unsafe impl Send for Sampler {}

impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sampler").field("n_vocab", &self.n_vocab).finish_non_exhaustive()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        // SAFETY: freed once, here.
        unsafe { sys::mullama_sampler_free(self.raw.as_ptr()) }
    }
}

impl Sampler {
    /// Frees memory that only speeds up the next token. The next token is sampled as without it.
    pub fn trim(&mut self) {
        // SAFETY: the sampler is alive, and nobody else uses it.
        unsafe { sys::mullama_sampler_trim(self.raw.as_ptr()) }
    }

    /// Builds a sampler for a model's vocabulary.
    ///
    /// # Errors
    ///
    /// [`Error::SamplerField`], [`Error::TokenOutOfRange`] in the biases, [`Error::NoVocabulary`] for DRY,
    /// [`Error::NulByte`] in a sequence breaker, or an error from C++.
    pub fn new(options: &SamplerOptions, model: &Arc<Model>) -> Result<Self, Error> {
        if options.dry_multiplier > 0.0 && !model.vocab().has_vocabulary() {
            return Err(Error::NoVocabulary);
        }
        let n_vocab = model.vocab().n_tokens();
        Self::build(options, n_vocab, Some(Arc::clone(model)))
    }

    /// Builds a sampler for logits that do not belong to a model.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new); DRY always fails with [`Error::NoVocabulary`].
    pub fn without_vocabulary(options: &SamplerOptions, n_vocab: usize) -> Result<Self, Error> {
        if options.dry_multiplier > 0.0 {
            return Err(Error::NoVocabulary);
        }
        Self::build(options, n_vocab, None)
    }

    fn build(options: &SamplerOptions, n_vocab: usize, model: Option<Arc<Model>>) -> Result<Self, Error> {
        options.check()?;
        for &(token, _) in &options.logit_bias {
            check_token(token, n_vocab)?;
        }
        let mut raw_options = options.raw(i32::try_from(n_vocab).unwrap_or(i32::MAX));
        let biases: Vec<_> =
            options.logit_bias.iter().map(|&(token, bias)| sys::llama_logit_bias { token, bias }).collect();
        raw_options.n_logit_bias = biases.len();
        raw_options.logit_bias = biases.as_ptr();
        let breakers = breakers(options)?;
        let breaker_ptrs: Vec<*const c_char> = breakers.iter().map(|text| text.as_ptr()).collect();
        raw_options.n_dry_breakers = breaker_ptrs.len();
        raw_options.dry_breakers = breaker_ptrs.as_ptr();

        let vocab = model.as_ref().map_or(ptr::null(), |model| model.vocab().raw());
        let mut raw = ptr::null_mut();
        // SAFETY: the vocabulary is alive, or null, and then DRY is off; biases and breakers live across the call,
        // which copies them.
        let status = unsafe { sys::mullama_sampler_new(vocab, &raw const raw_options, &raw mut raw) };
        check("llama_sampler_init", status)?;
        let raw = NonNull::new(raw).ok_or(Error::SamplerFailed)?;
        Ok(Self { raw, n_vocab, failed: false, _model: model })
    }

    /// Samples a token and accepts it.
    ///
    /// # Errors
    ///
    /// [`Error::NonFiniteLogits`], after which nothing is accepted; [`Error::LogitsLength`]; [`Error::SamplerFailed`]
    /// or an error from C++, after which every call fails.
    pub fn sample(&mut self, logits: &[f32]) -> Result<TokenId, Error> {
        self.usable()?;
        if logits.len() != self.n_vocab || logits.is_empty() {
            return Err(Error::LogitsLength { logits: logits.len(), n_vocab: self.n_vocab });
        }
        let (mut token, mut sampled) = (0, 0);
        // SAFETY: the sampler is alive, and reads as many logits as its vocabulary has tokens.
        let status = unsafe {
            sys::mullama_sampler_sample(self.raw.as_ptr(), logits.as_ptr(), &raw mut token, &raw mut sampled)
        };
        self.failed_by(check("llama_sampler_apply", status))?;
        match sampled {
            sys::ML_SAMPLED_TOKEN => Ok(token),
            sys::ML_SAMPLED_NON_FINITE => Err(Error::NonFiniteLogits),
            _ => self.failed_by(Err(Error::SamplerFailed)),
        }
    }

    /// Accepts a token that was not sampled, such as one of the prompt, so that penalties and DRY see it.
    ///
    /// # Errors
    ///
    /// [`Error::TokenOutOfRange`], [`Error::SamplerFailed`], or an error from C++.
    pub fn accept(&mut self, token: TokenId) -> Result<(), Error> {
        self.usable()?;
        check_token(token, self.n_vocab)?;
        // SAFETY: the sampler is alive, and the token is in range.
        let status = unsafe { sys::mullama_sampler_accept(self.raw.as_ptr(), token) };
        self.failed_by(check("llama_sampler_accept", status))
    }

    /// Forgets every token and restarts the random choice from the seed.
    ///
    /// # Errors
    ///
    /// [`Error::SamplerFailed`], or an error from C++.
    pub fn reset(&mut self) -> Result<(), Error> {
        self.usable()?;
        // SAFETY: the sampler is alive.
        let status = unsafe { sys::mullama_sampler_reset(self.raw.as_ptr()) };
        self.failed_by(check("llama_sampler_reset", status))
    }

    fn usable(&self) -> Result<(), Error> {
        if self.failed { Err(Error::SamplerFailed) } else { Ok(()) }
    }

    fn failed_by<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        self.failed |= result.is_err();
        result
    }
}

/// The sequence breakers as C strings; empty ones have no effect and are omitted.
fn breakers(options: &SamplerOptions) -> Result<Vec<CString>, Error> {
    options
        .dry_sequence_breakers
        .iter()
        .filter(|text| !text.is_empty())
        .map(|text| CString::new(text.as_str()).map_err(|_| Error::NulByte { what: "a DRY sequence breaker" }))
        .collect()
}
