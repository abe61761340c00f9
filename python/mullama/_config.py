"""The two tables of settings: how a stream is generated, and how an engine is laid out."""

from __future__ import annotations

from dataclasses import dataclass, field

from mullama import _mullama

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal, TypeAlias

    _KvType: TypeAlias = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConfig:
    """How a stream is generated and delivered.

    Every value is checked when the config is made: `InvalidConfigError` names field, value and range.

    Attributes:
        max_tokens: Most tokens to generate. 0 is an empty stream; more than the context has room for is clipped to it.
        temperature: 0 always takes the likeliest token; higher is more varied.
        top_k: Keep this many of the likeliest tokens; 0 is off.
        top_p: Keep the likeliest tokens that together have this probability, 0.0 to 1.0; 1.0 is off.
        min_p: Drop tokens less likely than this share of the likeliest one's probability, 0.0 to 1.0; 0.0 is off.
        repeat_penalty: Divide the logit of tokens seen in the last `repeat_last_n` by this; 1.0 is off.
        frequency_penalty: Take this off a token's logit for each time it was seen; 0 is off.
        presence_penalty: Take this off a token's logit once if it was seen; 0 is off.
        repeat_last_n: How many of the last tokens, the prompt's included, the penalties look at; 0 is off, -1 is the
            whole context.
        typical_p: Locally typical sampling (Meister et al. 2022): keep this mass of the most typical tokens, 0.0 to
            1.0; 1.0 is off.
        xtc_probability: Chance that the likeliest tokens above `xtc_threshold` are left out, all but the last of them,
            0.0 to 1.0; 0.0 is off.
        xtc_threshold: Probability above which XTC may leave a token out; above 0.5 it does nothing.
        dry_multiplier: Strength of the DRY penalty on repeated runs of tokens; 0.0 is off.
        dry_base: Base of DRY's exponential growth with the length of the repetition, 1 or more.
        dry_allowed_length: Longest repetition that DRY leaves unpunished, in tokens.
        dry_penalty_last_n: How many of the last tokens DRY looks at; 0 is off, -1 is the whole context.
        dry_sequence_breakers: Texts at which DRY's search for repetitions starts anew.
        mirostat: Mirostat version 1 or 2 (Basu et al. 2021), which replaces the truncation samplers; 0 is off.
        mirostat_tau: Mirostat's target surprise, in bits a token.
        mirostat_eta: Mirostat's learning rate.
        dynatemp_range: Half the span around `temperature` in which entropy chooses the temperature of each token; 0.0
            is off.
        dynatemp_exponent: How entropy maps to temperature within `dynatemp_range`.
        top_n_sigma: Keep tokens whose logit lies within this many standard deviations of the highest; 0.0 is off.
        seed: Same seed, model and prompt: same text. None picks one, and the stream reports it. 0 to 4294967294.
        deterministic: Same seed, same text, also beside other streams and from a cached prefix; slower, with KV cells of
            its own.
        logit_bias: Added to the logits of single tokens before anything else, by token id; negative infinity forbids a
            token.
        ignore_eos: Never end by an end-of-generation token: they are forbidden.
        logprobs: Report the log-probability of each token, and of this many of the likeliest beside it, 0 to 20.
        stop_sequences: Texts that end the stream where the first of them appears; none may be empty.
        stop_tokens: Token ids that end the stream like an end-of-generation token.
        buffer_size: Most tokens computed ahead of the reader, 1 to 65536.
        timeout_ms: Most milliseconds from the call to the last token; 0 or None is no limit.
        ttft_timeout_ms: Most milliseconds from the call to the first token; 0 or None is no limit.
        queue_timeout_ms: Most milliseconds from the call to a place in the batch; 0 or None is no limit.
        stream_delay_ms: Least milliseconds between two tokens, at most 3600000.
        priority: Higher goes first in the queue.
    """

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
    logit_bias: Mapping[int, float] = field(default_factory=dict)
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
        """Checks every field, and keeps copies of what could change later."""
        _mullama.check_stream_config(self)
        for name in ("dry_sequence_breakers", "stop_sequences", "stop_tokens"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "logit_bias", dict(self.logit_bias))


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextParams:
    """How an engine is laid out. Contexts of equal params over one model share one engine and its memory.

    Every value is checked when the params are made: `InvalidConfigError` names field, value and range.

    Attributes:
        n_ctx: Most tokens of one stream, its prompt included. None: the model's, at most 4096.
        n_parallel: Streams that are computed at once, 1 to 256.
        kv_cells: Tokens that the memory shared by all streams holds. None: `n_ctx`; never less.
        n_batch: Most tokens of one decode call.
        n_ubatch: Most tokens of one pass through the graph.
        n_threads: Threads for steps of single tokens, 1 to 512. None: the physical cores that this process may use.
        n_threads_batch: Threads for steps with prompts in them, 1 to 512. None: as `n_threads`.
        flash_attn: Whether attention runs fused; "auto" where model and backend can do it.
        type_k: Number format of the K cache.
        type_v: Number format of the V cache; the short ones need fused attention.
        prefix_cache_bytes: Most bytes of host memory for beginnings that no stream uses now; 0 keeps none there.
        max_queue: Streams that may wait. A call is refused while `n_parallel + max_queue` streams are unfinished.
    """

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

    def __post_init__(self) -> None:
        """Checks every field."""
        _mullama.check_context_params(self)
