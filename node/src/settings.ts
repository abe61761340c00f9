// Written by scripts/generate.mjs from the core's table of settings.

/** Settings of a stream; those that are missing have their defaults. */
export interface StreamSettings {
  /** Maximum number of tokens to generate, at most as many as the context can hold. 0 gives an empty stream. Range: 0 to 4294967295. Default: `256`. */
  maxTokens?: number | undefined;
  /** Sampling temperature: 0 always takes the most likely token; higher values give more varied text. Range: 0.0 to 3.4e38. Default: `1`. */
  temperature?: number | undefined;
  /** Keep only the `k` most likely tokens; 0 is off. Range: 0 to 2147483647. Default: `40`. */
  topK?: number | undefined;
  /** Keep the most likely tokens that together have this probability; 1.0 is off. Range: 0.0 to 1.0. Default: `0.9`. */
  topP?: number | undefined;
  /** Drop tokens whose probability is less than this share of the most likely token's; 0.0 is off. Range: 0.0 to 1.0. Default: `0`. */
  minP?: number | undefined;
  /** Divide the logit of tokens that occur in the last `repeatLastN` tokens by this; 1.0 is off. Range: 0.000001 to 1000000. Default: `1`. */
  repeatPenalty?: number | undefined;
  /** Subtract this from a token's logit for each of its occurrences; 0 is off. Range: -1000000 to 1000000. Default: `0`. */
  frequencyPenalty?: number | undefined;
  /** Subtract this from a token's logit once if it occurs; 0 is off. Range: -1000000 to 1000000. Default: `0`. */
  presencePenalty?: number | undefined;
  /** Number of latest tokens, including the prompt's, for the penalties; 0 is off, -1 is the whole context. Range: -1 to 1048576. Default: `64`. */
  repeatLastN?: number | undefined;
  /** Keep the most typical tokens up to this probability mass (Meister et al. 2022); 1.0 is off. Range: 0.0 to 1.0. Default: `1`. */
  typicalP?: number | undefined;
  /** Probability that XTC removes all tokens above `xtcThreshold` but the least likely of them; 0.0 is off. Range: 0.0 to 1.0. Default: `0`. */
  xtcProbability?: number | undefined;
  /** Probability above which XTC may remove a token; above 0.5 it has no effect. Range: 0.0 to 1.0. Default: `0.1`. */
  xtcThreshold?: number | undefined;
  /** Strength of the DRY penalty on repeated sequences of tokens; 0.0 is off. Range: 0.0 to 3.4e38. Default: `0`. */
  dryMultiplier?: number | undefined;
  /** Base of DRY's exponential growth with the length of the repetition. Range: 1.0 to 3.4e38. Default: `1.75`. */
  dryBase?: number | undefined;
  /** Longest repetition that DRY does not penalize, in tokens. Range: 0 to 1048576. Default: `2`. */
  dryAllowedLength?: number | undefined;
  /** Number of latest tokens that DRY looks at; 0 is off, -1 is the whole context. Range: -1 to 1048576. Default: `-1`. */
  dryPenaltyLastN?: number | undefined;
  /** Texts at which DRY's search for repetitions restarts. Range: at most 64 texts of at most 40 bytes each. Default: `["\n",":","\"","*"]`. */
  drySequenceBreakers?: readonly string[] | undefined;
  /** Mirostat version 1 or 2 (Basu et al. 2021), which replaces the truncation samplers; 0 is off. Range: 0, 1 or 2. Default: `0`. */
  mirostat?: number | undefined;
  /** Mirostat's target surprise, in bits per token. Range: 0.0 to 3.4e38. Default: `5`. */
  mirostatTau?: number | undefined;
  /** Mirostat's learning rate. Range: 0.0 to 3.4e38. Default: `0.1`. */
  mirostatEta?: number | undefined;
  /** Maximum deviation from `temperature` when entropy chooses the temperature of each token; 0.0 is off. Range: 0.0 to 3.4e38. Default: `0`. */
  dynatempRange?: number | undefined;
  /** Exponent that maps entropy to temperature within `dynatempRange`. Range: 0.0 to 3.4e38. Default: `1`. */
  dynatempExponent?: number | undefined;
  /** Keep only tokens whose logit is within this many standard deviations of the highest; 0.0 is off. Range: 0.0 to 3.4e38. Default: `0`. */
  topNSigma?: number | undefined;
  /** Seed of the sampler. `null` chooses one at random, which the stream reports. Range: null or 0 to 4294967294. Default: `null`. */
  seed?: number | null | undefined;
  /** Make the text independent of other streams and cached prefixes; slower, with separate KV cells. Default: `false`. */
  deterministic?: boolean | undefined;
  /** Bias added to the logits of single tokens before all samplers; negative infinity forbids a token. Range: at most 65536 tokens. Default: `{}`. */
  logitBias?: Readonly<Record<number, number>> | ReadonlyMap<number, number> | undefined;
  /** Forbid end-of-generation tokens, so that none of them ends the stream. Default: `false`. */
  ignoreEos?: boolean | undefined;
  /** Report the log-probability of each token, and those of this many of the most likely tokens. Range: null or 0 to 20. Default: `null`. */
  logprobs?: number | null | undefined;
  /** Texts that end the stream where the first of them occurs; none may be empty. Range: at most 256 texts of 65536 bytes together. Default: `[]`. */
  stopSequences?: readonly string[] | undefined;
  /** Tokens that end the stream like an end-of-generation token. Range: at most 65536 token ids. Default: `[]`. */
  stopTokens?: readonly number[] | Int32Array | Uint32Array | undefined;
  /** Maximum number of tokens computed ahead of the reader. Range: 1 to 65536. Default: `64`. */
  bufferSize?: number | undefined;
  /** Maximum milliseconds from the call to the last token; 0 or `null` means no limit. Range: null or 0 to 18446744073709551615. Default: `30000`. */
  timeoutMs?: number | null | undefined;
  /** Maximum milliseconds from the call to the first token; 0 or `null` means no limit. Range: null or 0 to 18446744073709551615. Default: `null`. */
  ttftTimeoutMs?: number | null | undefined;
  /** Maximum milliseconds from the call until the stream gets a slot; 0 or `null` means no limit. Range: null or 0 to 18446744073709551615. Default: `null`. */
  queueTimeoutMs?: number | null | undefined;
  /** Minimum milliseconds between two tokens. Range: 0 to 3600000. Default: `0`. */
  streamDelayMs?: number | undefined;
  /** Priority in the queue; higher goes first. Range: -2147483648 to 2147483647. Default: `0`. */
  priority?: number | undefined;
}
