"""The settings of a stream as keywords."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mullama._typing import TypedDict


class StreamOptions(TypedDict, total=False):
    """The fields of `StreamConfig` that a call takes as keywords; `max_tokens` is an argument of its own."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float
    frequency_penalty: float
    presence_penalty: float
    repeat_last_n: int
    typical_p: float
    xtc_probability: float
    xtc_threshold: float
    dry_multiplier: float
    dry_base: float
    dry_allowed_length: int
    dry_penalty_last_n: int
    dry_sequence_breakers: Sequence[str]
    mirostat: int
    mirostat_tau: float
    mirostat_eta: float
    dynatemp_range: float
    dynatemp_exponent: float
    top_n_sigma: float
    seed: int | None
    deterministic: bool
    logit_bias: Mapping[int, float]
    ignore_eos: bool
    logprobs: int | None
    stop_sequences: Sequence[str]
    stop_tokens: Sequence[int]
    buffer_size: int
    timeout_ms: int | None
    ttft_timeout_ms: int | None
    queue_timeout_ms: int | None
    stream_delay_ms: int
    priority: int
