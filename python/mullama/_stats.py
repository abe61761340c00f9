"""Statistics of an engine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mullama._display import Displayed, table
from mullama._exact import Exact, as_instance


@dataclass(frozen=True, slots=True)
class Steps(Exact):
    """Statistics of one kind of step.

    Attributes:
        count: Number of steps.
        total: Their total time, in seconds.
        longest: Time of the longest step, in seconds.
    """

    count: int
    total: float
    longest: float

    def to_dict(self) -> dict[str, int | float]:
        """The fields by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Stats(Exact, Displayed):
    """What an engine is doing now, and what it has done since it started. Contexts that share an engine see the same.

    Attributes:
        queued: Streams that wait for their first slot.
        running: Streams that are being computed.
        paused: Streams that are paused by a full buffer or a delay, or preempted for want of KV cells.
        cells: Size of the KV pool in cells, one per token.
        cells_used: KV cells in use.
        cells_shared: KV cells that more than one stream or cached prefix holds.
        cells_cached: KV cells of cached prefixes, including those that running streams share.
        prefix_bytes: Bytes of cached prefixes that were offloaded to host memory.
        prefix_hits: Streams that started from a cached prefix.
        tokens_saved: Prompt tokens that were not recomputed.
        offloads: Copies of KV to host memory, each of a cached prefix or preempted stream or of a part of one.
        restores: Copies of KV back from host memory, each of as much as a new or preempted stream could use.
        preemptions: How often a stream lost its KV cells to another.
        tokens_generated: Tokens generated after prompts.
        threads: Threads of the latest step.
        decode_steps: Steps that only decoded running streams.
        prefill_steps: Steps that prefilled prompts.
    """

    queued: int
    running: int
    paused: int
    cells: int
    cells_used: int
    cells_shared: int
    cells_cached: int
    prefix_bytes: int
    prefix_hits: int
    tokens_saved: int
    offloads: int
    restores: int
    preemptions: int
    tokens_generated: int
    threads: int
    decode_steps: Steps
    prefill_steps: Steps

    def __post_init__(self) -> None:
        """Reads the fields; the steps may be given as `Steps.to_dict` returns them."""
        Exact.__post_init__(self)  # `super` is lost where slots make a second class
        for name in ("decode_steps", "prefill_steps"):
            object.__setattr__(self, name, as_instance(name, getattr(self, name), Steps))

    def to_dict(self) -> dict[str, Any]:
        """The fields by name. `Stats(**fields)` is equal."""
        return asdict(self)

    def _repr_html_(self) -> str:
        decode, prefill = self.decode_steps, self.prefill_steps
        return table({**self.to_dict(), "decode_steps": decode.count, "prefill_steps": prefill.count})
