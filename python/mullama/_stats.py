"""What an engine is doing, for whoever looks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Steps:
    """Steps of one kind.

    Attributes:
        count: How many.
        total: How long they took together, in seconds.
        longest: How long the longest took, in seconds.
    """

    count: int
    total: float
    longest: float


@dataclass(frozen=True, slots=True)
class Stats:
    """What an engine is doing, and has done since it began. Contexts that share an engine see the same.

    Attributes:
        queued: Streams that wait for their first place.
        running: Streams that are computed.
        paused: Streams that wait for their readers, for a delay or for cells.
        cells: Cells of the KV pool, a token each.
        cells_used: Cells that hold something.
        cells_shared: Cells that more than one stream or idle beginning holds.
        cells_cached: Cells that beginnings of finished streams hold, those that running streams share included.
        prefix_bytes: Bytes of such beginnings in host memory.
        prefix_hits: Streams that began with tokens that were computed before.
        tokens_saved: Tokens of prompts that were not computed again.
        offloads: Copies of KV to host memory: of a cached prefix or preempted stream, or of a part of one.
        restores: Copies of KV back from host memory: of as much as a new or preempted stream could use.
        preemptions: Times that a stream lost its cells to another.
        tokens_generated: Tokens computed after prompts.
        threads: Threads that the newest step ran with.
        decode_steps: Steps of running streams alone.
        prefill_steps: Steps with prompts in them.
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
