"""The settings of streams and engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from mullama import _mullama
from mullama._frozen import FrozenDict, freeze, widen
from mullama._keywords import hinting
from mullama._schema import Settings

_KvType: TypeAlias = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]


@hinting
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StreamConfig(Settings):
    """How a stream is generated and delivered. Configs are frozen values: they compare, hash, copy and pickle.

    All values are checked on creation; `InvalidConfigError` names the field, the value and the range.

    Attributes:
        max_tokens: Maximum number of tokens to generate. 0 gives an empty stream; the context length is a limit too.
        temperature: 0 always picks the most likely token; higher values are more varied.
        top_k: Keep this many of the most likely tokens; 0 is off.
        top_p: Keep the most likely tokens that together have this probability, 0.0 to 1.0; 1.0 is off.
        min_p: Drop tokens with less than this fraction of the most likely token's probability, 0.0 to 1.0; 0.0 is off.
        repeat_penalty: Divide the logit of tokens that occur in the last `repeat_last_n` by this; 1.0 is off.
        frequency_penalty: Subtract this from a token's logit for each time that it occurs; 0 is off.
        presence_penalty: Subtract this from a token's logit once if it occurs; 0 is off.
        repeat_last_n: Number of latest tokens, including the prompt's, that the penalties consider; 0 is off, -1 is the
            whole context.
        typical_p: Locally typical sampling (Meister et al. 2022): keep this mass of the most typical tokens, 0.0 to
            1.0; 1.0 is off.
        xtc_probability: Probability with which XTC removes all tokens above `xtc_threshold` but the least likely of
            them, 0.0 to 1.0; 0.0 is off.
        xtc_threshold: Probability above which XTC may remove a token; has no effect above 0.5.
        dry_multiplier: Strength of the DRY penalty for repeated runs of tokens; 0.0 is off.
        dry_base: Base of DRY's exponential growth with the length of the repetition, at least 1.
        dry_allowed_length: Longest repetition that DRY does not penalize, in tokens.
        dry_penalty_last_n: Number of latest tokens that DRY considers; 0 is off, -1 is the whole context.
        dry_sequence_breakers: Texts at which DRY's search for repetitions starts over.
        mirostat: Mirostat version 1 or 2 (Basu et al. 2021), which replaces the truncation samplers; 0 is off.
        mirostat_tau: Mirostat's target surprise, in bits per token.
        mirostat_eta: Mirostat's learning rate.
        dynatemp_range: Half the interval around `temperature` in which the entropy chooses each token's temperature;
            0.0 is off.
        dynatemp_exponent: How entropy maps to temperature within `dynatemp_range`.
        top_n_sigma: Keep tokens whose logit lies within this many standard deviations of the highest; 0.0 is off.
        seed: Same seed, model and prompt: same text. None picks one, and the stream reports it. 0 to 4294967294.
        deterministic: Same seed, same text, also beside other streams and from a cached prefix; slower, with KV cells
            of its own.
        logit_bias: Added to the logits of single tokens before anything else, by token id; negative infinity forbids a
            token. Ids may be strings of digits, as in JSON.
        ignore_eos: Forbid end-of-generation tokens.
        logprobs: Report the log-probability of each token and of this many of the most likely alternatives, 0 to 20.
        stop_sequences: Texts that end the stream where the first of them occurs; none may be empty.
        stop_tokens: Token ids that end the stream like an end-of-generation token.
        buffer_size: Maximum number of tokens that are computed ahead of the reader, 1 to 65536.
        timeout_ms: Maximum milliseconds from the call to the last token; 0 or None is no limit.
        ttft_timeout_ms: Maximum milliseconds from the call to the first token; 0 or None is no limit.
        queue_timeout_ms: Maximum milliseconds from the call until the stream gets a slot; 0 or None is no limit.
        stream_delay_ms: Minimum milliseconds between two tokens, at most 3600000.
        priority: Streams with a higher value leave the queue first.
    """

    # Infinity is not JSON: a token that is forbidden is written as "-Infinity", which is read again.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "ser_json_inf_nan": "strings"}

    max_tokens: int = 256
    temperature: float = 1.0
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repeat_last_n: int = 64
    typical_p: float = 1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    dry_sequence_breakers: Sequence[str] = ("\n", ":", '"', "*")
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    top_n_sigma: float = 0.0
    seed: int | None = None
    deterministic: bool = False
    logit_bias: Mapping[int, float] = field(default_factory=FrozenDict)
    ignore_eos: bool = False
    logprobs: int | None = None
    stop_sequences: Sequence[str] = ()
    stop_tokens: Sequence[int] = ()
    buffer_size: int = 64
    timeout_ms: int | None = 30_000
    ttft_timeout_ms: int | None = None
    queue_timeout_ms: int | None = None
    stream_delay_ms: int = 0
    priority: int = 0

    def __post_init__(self) -> None:
        """Reads every field once, as Python's own types, and checks what is stored."""
        whole = freeze(self)
        _mullama.check_stream_config(self)
        widen(self, whole)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name. `StreamConfig(**fields)` is an equal config, also after a way through JSON."""
        return {**asdict(self), "logit_bias": dict(self.logit_bias)}


@hinting
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ContextParams(Settings):
    """Layout of an engine. Contexts with equal params on one model share one engine and its KV pool.

    All values are checked on creation; `InvalidConfigError` names the field, the value and the range.

    Attributes:
        n_ctx: Maximum number of tokens of one stream, including its prompt. None is the model's, at most 4096.
        n_parallel: Number of slots: streams that are computed at the same time, 1 to 256.
        kv_cells: Size of the KV pool that all streams share, in tokens. None is `n_ctx`, which is also the minimum.
        n_batch: Maximum number of tokens in one decode call.
        n_ubatch: Maximum number of tokens in one pass through the graph.
        n_threads: Threads for steps that only decode, 1 to 512. None is the number of physical cores that this process
            may use.
        n_threads_batch: Threads for steps that prefill prompts, 1 to 512. None is the same as `n_threads`.
        flash_attn: Whether to use flash attention; "auto" uses it if the model and the backend support it.
        type_k: Data type of the K cache.
        type_v: Data type of the V cache; quantized types need flash attention.
        prefix_cache_bytes: Maximum host memory for offloaded prefixes, in bytes; 0 keeps none.
        max_queue: Number of streams that may wait for a slot. A call is refused while `n_parallel + max_queue` streams
            run or wait for their first slot; paused ones do not count.
        max_paused: Number of streams that may be paused, 1 to 1048576. Any stream may be paused later, so a call is
            refused while as many run, wait or are paused. A number smaller than `n_parallel + max_queue` is raised to
            that. The engine keeps the tokens and samplers of paused streams, and their KV cells only while nobody else
            needs them.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    n_ctx: int | None = None
    n_parallel: int = 8
    kv_cells: int | None = None
    n_batch: int = 2048
    n_ubatch: int = 512
    n_threads: int | None = None
    n_threads_batch: int | None = None
    flash_attn: Literal["auto", "on", "off"] = "auto"
    type_k: _KvType = "f16"
    type_v: _KvType = "f16"
    prefix_cache_bytes: int = 512 << 20
    max_queue: int = 64
    max_paused: int = 1024

    def __post_init__(self) -> None:
        """Reads every field once, as Python's own types, and checks what is stored."""
        freeze(self)
        _mullama.check_context_params(self)

    def to_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)
