//! How a stream is generated and delivered: defines every field once, with its default and its range.

use super::dynamic::{DynamicValue, Field, Setting};
use super::range::{Limits, Range};
use crate::error::MullamaError;
use mullama_ffi::TokenId;

/// Calls `$callback!` with the whole table of [`StreamConfig`], one line per field:
/// doc comment, name, type, setter argument type, default, range (or `-`; for a list its maximum length in brackets).
///
/// The table is written only here; the struct, its setters, its check and
/// the bindings of other languages are generated from it.
#[macro_export]
macro_rules! stream_config_table {
    ($callback:ident) => {
        $callback! {
            /// Maximum number of tokens to generate, at most as many as the context can hold. 0 gives an empty stream.
            max_tokens: u32, u32, 256, (0, u32::MAX, "0 to 4294967295");
            /// Sampling temperature: 0 always takes the most likely token; higher values give more varied text.
            temperature: f32, f32, 1.0, (0.0, f32::MAX, "0.0 to 3.4e38");
            /// Keep only the `k` most likely tokens; 0 is off.
            top_k: u32, u32, 40, (0, i32::MAX as u32, "0 to 2147483647");
            /// Keep the most likely tokens that together have this probability; 1.0 is off.
            top_p: f32, f32, 0.9, (0.0, 1.0, "0.0 to 1.0");
            /// Drop tokens whose probability is less than this share of the most likely token's; 0.0 is off.
            min_p: f32, f32, 0.0, (0.0, 1.0, "0.0 to 1.0");
            /// Divide the logit of tokens that occur in the last `repeat_last_n` tokens by this; 1.0 is off.
            repeat_penalty: f32, f32, 1.0, (1e-6, 1e6, "0.000001 to 1000000");
            /// Subtract this from a token's logit for each of its occurrences; 0 is off.
            frequency_penalty: f32, f32, 0.0, (-1e6, 1e6, "-1000000 to 1000000");
            /// Subtract this from a token's logit once if it occurs; 0 is off.
            presence_penalty: f32, f32, 0.0, (-1e6, 1e6, "-1000000 to 1000000");
            /// Number of latest tokens, including the prompt's, for the penalties; 0 is off, -1 is the whole context.
            repeat_last_n: i32, i32, 64, (-1, 1 << 20, "-1 to 1048576");
            /// Keep the most typical tokens up to this probability mass (Meister et al. 2022); 1.0 is off.
            typical_p: f32, f32, 1.0, (0.0, 1.0, "0.0 to 1.0");
            /// Probability that XTC removes all tokens above `xtc_threshold` but the least likely of them; 0.0 is off.
            xtc_probability: f32, f32, 0.0, (0.0, 1.0, "0.0 to 1.0");
            /// Probability above which XTC may remove a token; above 0.5 it has no effect.
            xtc_threshold: f32, f32, 0.1, (0.0, 1.0, "0.0 to 1.0");
            /// Strength of the DRY penalty on repeated sequences of tokens; 0.0 is off.
            dry_multiplier: f32, f32, 0.0, (0.0, f32::MAX, "0.0 to 3.4e38");
            /// Base of DRY's exponential growth with the length of the repetition.
            dry_base: f32, f32, 1.75, (1.0, f32::MAX, "1.0 to 3.4e38");
            /// Longest repetition that DRY does not penalize, in tokens.
            dry_allowed_length: i32, i32, 2, (0, 1 << 20, "0 to 1048576");
            /// Number of latest tokens that DRY looks at; 0 is off, -1 is the whole context.
            dry_penalty_last_n: i32, i32, -1, (-1, 1 << 20, "-1 to 1048576");
            /// Texts at which DRY's search for repetitions restarts.
            dry_sequence_breakers: Vec<String>, Vec<String>, ["\n", ":", "\"", "*"].map(String::from).to_vec(), [64, "at most 64 texts of at most 40 bytes each"];
            /// Mirostat version 1 or 2 (Basu et al. 2021), which replaces the truncation samplers; 0 is off.
            mirostat: u32, u32, 0, (0, 2, "0, 1 or 2");
            /// Mirostat's target surprise, in bits per token.
            mirostat_tau: f32, f32, 5.0, (0.0, f32::MAX, "0.0 to 3.4e38");
            /// Mirostat's learning rate.
            mirostat_eta: f32, f32, 0.1, (0.0, f32::MAX, "0.0 to 3.4e38");
            /// Maximum deviation from `temperature` when entropy chooses the temperature of each token; 0.0 is off.
            dynatemp_range: f32, f32, 0.0, (0.0, f32::MAX, "0.0 to 3.4e38");
            /// Exponent that maps entropy to temperature within `dynatemp_range`.
            dynatemp_exponent: f32, f32, 1.0, (0.0, f32::MAX, "0.0 to 3.4e38");
            /// Keep only tokens whose logit is within this many standard deviations of the highest; 0.0 is off.
            top_n_sigma: f32, f32, 0.0, (0.0, f32::MAX, "0.0 to 3.4e38");
            /// Seed of the sampler. `None` chooses one at random, which the stream reports.
            seed: Option<u32>, impl Into<Option<u32>>, None, (0, u32::MAX - 1, "None or 0 to 4294967294");
            /// Make the text independent of other streams and cached prefixes; slower, with separate KV cells.
            deterministic: bool, bool, false, -;
            /// Bias added to the logits of single tokens before all samplers; negative infinity forbids a token.
            logit_bias: Vec<(TokenId, f32)>, Vec<(TokenId, f32)>, Vec::new(), [65_536, "at most 65536 tokens"];
            /// Forbid end-of-generation tokens, so that none of them ends the stream.
            ignore_eos: bool, bool, false, -;
            /// Report the log-probability of each token, and those of this many of the most likely tokens.
            logprobs: Option<u32>, impl Into<Option<u32>>, None, (0, 20, "None or 0 to 20");
            /// Texts that end the stream where the first of them occurs; none may be empty.
            stop_sequences: Vec<String>, Vec<String>, Vec::new(), [256, "at most 256 texts of 65536 bytes together"];
            /// Tokens that end the stream like an end-of-generation token.
            stop_tokens: Vec<TokenId>, Vec<TokenId>, Vec::new(), [65_536, "at most 65536 token ids"];
            /// Maximum number of tokens computed ahead of the reader.
            buffer_size: u32, u32, 64, (1, 65_536, "1 to 65536");
            /// Maximum milliseconds from the call to the last token; 0 or `None` means no limit.
            timeout_ms: Option<u64>, impl Into<Option<u64>>, Some(30_000), (0, u64::MAX, "None or 0 to 18446744073709551615");
            /// Maximum milliseconds from the call to the first token; 0 or `None` means no limit.
            ttft_timeout_ms: Option<u64>, impl Into<Option<u64>>, None, (0, u64::MAX, "None or 0 to 18446744073709551615");
            /// Maximum milliseconds from the call until the stream gets a slot; 0 or `None` means no limit.
            queue_timeout_ms: Option<u64>, impl Into<Option<u64>>, None, (0, u64::MAX, "None or 0 to 18446744073709551615");
            /// Minimum milliseconds between two tokens.
            stream_delay_ms: u64, u64, 0, (0, 3_600_000, "0 to 3600000");
            /// Priority in the queue; higher goes first.
            priority: i32, i32, 0, (i32::MIN, i32::MAX, "-2147483648 to 2147483647");
        }
    };
}

/// The range check of one line of the table; nothing for `-`.
macro_rules! check_range {
    ($self:ident, $name:ident, -) => {};
    ($self:ident, $name:ident, ($min:expr, $max:expr, $words:expr)) => {
        Range::new($min, $max, $words).check(stringify!($name), $self.$name)?;
    };
    ($self:ident, $name:ident, [$most:expr, $words:expr]) => {
        check_length(stringify!($name), $self.$name.len(), $most, $words)?;
    };
}

/// The range of a line of the table in words, where it is a range of numbers.
macro_rules! range_in_words {
    (-) => {
        None
    };
    (($min:expr, $max:expr, $words:expr)) => {
        Some($words)
    };
    ([$most:expr, $words:expr]) => {
        None
    };
}

/// The limits of a line of the table.
macro_rules! limits {
    (-) => {
        None
    };
    (($min:expr, $max:expr, $words:expr)) => {
        Some(Limits::Numbers($min as f64, $max as f64))
    };
    ([$most:expr, $words:expr]) => {
        Some(Limits::Items($most))
    };
}

/// Refuses a list that is longer than `most`.
fn check_length(field: &'static str, length: usize, most: usize, words: &'static str) -> Result<(), MullamaError> {
    if length <= most {
        return Ok(());
    }
    Err(MullamaError::invalid(field, format!("a list of {length}"), words))
}

macro_rules! stream_config {
    ($($(#[$doc:meta])* $name:ident: $type:ty, $setter:ty, $default:expr, $range:tt;)*) => {
        /// How a stream is generated and delivered.
        ///
        /// ```
        /// use mullama::StreamConfig;
        ///
        /// let config = StreamConfig::new().max_tokens(200).temperature(0.7).stop_sequences(vec!["END".into()]);
        /// assert_eq!(config.max_tokens, 200);
        /// assert_eq!(config.timeout_ms, Some(30_000));
        /// ```
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub struct StreamConfig {
            $($(#[$doc])* pub $name: $type,)*
        }

        impl Default for StreamConfig {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl StreamConfig {
            /// The names of all fields, in the order of the table.
            pub const FIELDS: &[&str] = &[$(stringify!($name)),*];

            /// Creates a config with all defaults.
            pub fn new() -> Self {
                Self::default()
            }

            $($(#[$doc])*
            #[must_use]
            pub fn $name(mut self, $name: $setter) -> Self {
                self.$name = $name.into();
                self
            })*

            /// Reads a config from another language, whose value of each field `field` returns.
            ///
            /// # Errors
            /// What `field` returns, and for the first value that is not valid what [`Setting::take`] does.
            pub fn read<V: DynamicValue>(
                field: impl Fn(&'static str) -> Result<V, V::Error>,
            ) -> Result<Self, V::Error> {
                let mut config = Self::default();
                $(let name = stringify!($name);
                config.$name = Setting::take(&field(name)?, Field::new(name, Self::range))?;)*
                Ok(config)
            }

            /// Sets one field from a value of another language. Returns `false` if there is no field of this name.
            ///
            /// # Errors
            /// As [`Setting::take`]. The range is checked by [`validate`](Self::validate).
            pub fn set<V: DynamicValue>(&mut self, name: &str, value: &V) -> Result<bool, V::Error> {
                $(if name == stringify!($name) {
                    self.$name = Setting::take(value, Field::new(stringify!($name), Self::range))?;
                    return Ok(true);
                })*
                Ok(false)
            }

            /// The allowed values of a numeric field as text, for a value that the field cannot hold.
            fn range(field: &str) -> Option<&'static str> {
                $(if field == stringify!($name) {
                    return range_in_words!($range);
                })*
                None
            }

            /// The limits of every field that has some, by name, for schemas in other languages.
            #[expect(clippy::cast_precision_loss, clippy::cast_lossless, reason = "the largest may be rounded")]
            pub fn limits() -> Vec<(&'static str, Limits)> {
                let all = [$((stringify!($name), limits!($range))),*];
                all.into_iter().filter_map(|(name, limits)| Some((name, limits?))).collect()
            }

            fn check_ranges(&self) -> Result<(), MullamaError> {
                $(check_range!(self, $name, $range);)*
                Ok(())
            }
        }
    };
}

stream_config_table!(stream_config);

/// Maximum bias of a token. Far above any logit, and far from overflow when a penalty multiplies it.
const MAX_BIAS: f32 = 1e9;

/// Maximum bytes of all stop sequences together: each token's text is compared with them on the engine's thread.
const MAX_STOP_BYTES: usize = 65_536;
/// Maximum bytes of one DRY sequence breaker; llama.cpp ignores further bytes.
const MAX_BREAKER_BYTES: usize = 40;

impl StreamConfig {
    /// Checks every field and refuses the first value that is out of its range.
    ///
    /// # Errors
    /// [`MullamaError::InvalidConfig`] names the field, the value and the range.
    pub fn validate(&self) -> Result<(), MullamaError> {
        self.check_ranges()?;
        if let Some(at) = self.stop_sequences.iter().position(String::is_empty) {
            let value = format!("empty at index {at}");
            return Err(MullamaError::invalid("stop_sequences", value, "texts of one character or more"));
        }
        let bytes: usize = self.stop_sequences.iter().map(String::len).sum();
        if bytes > MAX_STOP_BYTES {
            let value = format!("{} texts of {bytes} bytes together", self.stop_sequences.len());
            return Err(MullamaError::invalid("stop_sequences", value, "at most 256 texts of 65536 bytes together"));
        }
        if let Some(at) = self.dry_sequence_breakers.iter().position(|text| text.len() > MAX_BREAKER_BYTES) {
            let value = format!("a text of {} bytes at index {at}", self.dry_sequence_breakers[at].len());
            return Err(MullamaError::invalid(
                "dry_sequence_breakers",
                value,
                "at most 64 texts of at most 40 bytes each",
            ));
        }
        if let Some(at) = self.dry_sequence_breakers.iter().position(|text| text.contains('\0')) {
            let value = format!("a text with a NUL character at index {at}");
            return Err(MullamaError::invalid("dry_sequence_breakers", value, "texts without NUL characters"));
        }
        if let Some((token, bias)) = self.logit_bias.iter().find(|(_, bias)| bias.is_nan() || *bias > MAX_BIAS) {
            let value = format!("{bias} for token {token}");
            return Err(MullamaError::invalid("logit_bias", value, "numbers up to 1000000000, or negative infinity"));
        }
        Ok(())
    }

    /// Refuses token ids that are not in a vocabulary of `n_vocab` tokens.
    pub(crate) fn validate_tokens(&self, n_vocab: usize) -> Result<(), MullamaError> {
        let known = |token: TokenId| usize::try_from(token).is_ok_and(|t| t < n_vocab);
        let range = || format!("token ids 0 to {}", n_vocab.saturating_sub(1));
        if let Some((token, _)) = self.logit_bias.iter().find(|(token, _)| !known(*token)) {
            return Err(MullamaError::invalid("logit_bias", token, range()));
        }
        if let Some(token) = self.stop_tokens.iter().find(|token| !known(**token)) {
            return Err(MullamaError::invalid("stop_tokens", token, range()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(config: &StreamConfig) -> (&'static str, String, String) {
        match config.validate() {
            Err(MullamaError::InvalidConfig { field, value, range }) => (field, value, range),
            other => panic!("expected InvalidConfig, got {other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_valid_and_match_the_documentation() {
        let config = StreamConfig::new();
        config.validate().unwrap();
        assert_eq!((config.max_tokens, config.top_k, config.buffer_size), (256, 40, 64));
        assert_eq!((config.temperature, config.top_p, config.min_p), (1.0, 0.9, 0.0));
        assert_eq!((config.timeout_ms, config.seed), (Some(30_000), None));
    }

    #[test]
    fn nan_and_infinity_are_out_of_every_range() {
        for value in [f32::NAN, f32::INFINITY, -1.0] {
            let (field, value_text, range) = refused(&StreamConfig::new().temperature(value));
            assert_eq!(field, "temperature");
            assert_eq!(value_text, value.to_string());
            assert_eq!(range, "0.0 to 3.4e38");
        }
        assert_eq!(refused(&StreamConfig::new().top_p(f32::NAN)).0, "top_p");
        assert_eq!(refused(&StreamConfig::new().frequency_penalty(f32::INFINITY)).0, "frequency_penalty");
    }

    #[test]
    fn a_buffer_size_of_zero_or_above_the_maximum_is_refused() {
        assert_eq!(refused(&StreamConfig::new().buffer_size(0)).2, "1 to 65536");
        assert_eq!(refused(&StreamConfig::new().buffer_size(65_537)).1, "65537");
    }

    #[test]
    fn an_empty_stop_sequence_is_refused_by_its_index() {
        let config = StreamConfig::new().stop_sequences(vec!["END".into(), String::new()]);
        assert_eq!(refused(&config).1, "empty at index 1");
    }

    #[test]
    fn every_list_has_a_maximum_length() {
        let texts = |n: usize, bytes: usize| vec!["x".repeat(bytes); n];
        let longest = StreamConfig::new()
            .dry_sequence_breakers(texts(64, 40))
            .logit_bias(vec![(1, 0.5); 65_536])
            .stop_sequences(texts(256, 256))
            .stop_tokens(vec![1; 65_536]);
        longest.validate().unwrap();
        let too_long = [
            (StreamConfig::new().dry_sequence_breakers(texts(65, 1)), "dry_sequence_breakers", "a list of 65"),
            (
                StreamConfig::new().dry_sequence_breakers(texts(2, 41)),
                "dry_sequence_breakers",
                "a text of 41 bytes at index 0",
            ),
            (StreamConfig::new().logit_bias(vec![(1, 0.5); 65_537]), "logit_bias", "a list of 65537"),
            (StreamConfig::new().stop_sequences(texts(257, 1)), "stop_sequences", "a list of 257"),
            (StreamConfig::new().stop_sequences(texts(1, 65_537)), "stop_sequences", "1 texts of 65537 bytes together"),
            (StreamConfig::new().stop_tokens(vec![1; 65_537]), "stop_tokens", "a list of 65537"),
        ];
        for (config, field, value) in too_long {
            let (refused_field, refused_value, range) = refused(&config);
            assert_eq!((refused_field, refused_value.as_str()), (field, value));
            assert!(range.starts_with("at most "), "{range}");
        }
    }

    #[test]
    fn token_ids_outside_the_vocabulary_are_refused() {
        let config = StreamConfig::new().logit_bias(vec![(10, 1.0)]);
        assert!(config.validate_tokens(11).is_ok());
        assert!(config.validate_tokens(10).is_err());
        assert!(StreamConfig::new().stop_tokens(vec![-1]).validate_tokens(10).is_err());
    }
}
