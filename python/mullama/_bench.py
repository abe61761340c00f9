"""The command `mullama bench`: what a model and this package do on this machine, as a table."""

from __future__ import annotations

import platform
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mullama import Context, Model, __version__
from mullama._machine import MIB, processor_name, resident
from mullama._output import plain, say, write_event, write_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from mullama import ContextParams


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What is to be measured.

    Attributes:
        model: A GGUF file, or "demo".
        params: How the engine is laid out.
        gpu_layers: Layers that go to a GPU.
        seconds: About how long each measurement takes.
        json: Whether the figures are written as JSON.
    """

    model: str
    params: ContextParams
    gpu_layers: int
    seconds: float
    json: bool


@dataclass(frozen=True, slots=True)
class Figure:
    """Something that was measured.

    Attributes:
        name: Its name in JSON, with its unit.
        words: What it is, in the table.
        value: How much, in its unit.
        unit: The unit.
    """

    name: str
    words: str
    value: float | None
    unit: str

    def shown(self) -> str:
        """Three digits that mean something."""
        if self.value is None:
            return "unknown"
        return f"{self.value:,.0f}" if abs(self.value) >= 100 else f"{self.value:.3g}"  # noqa: PLR2004


def bench(job: Bench) -> None:
    """Measures, and writes the table or the JSON."""
    began = time.perf_counter()
    model = Model.load(job.model, n_gpu_layers=job.gpu_layers)
    context = Context(model, job.params)
    loaded = time.perf_counter() - began
    # Before anything else is imported that is there for measuring alone.
    held = resident()
    figures = [
        Figure("load_ms", "load of the model, engine included", loaded * 1e3, "ms"),
        Figure("resident_mib", "memory after the load (RSS)", None if held is None else held / MIB, "MiB"),
    ]
    for figure in measured(context, job.seconds):
        figures.append(figure)
        if sys.stderr is not None and sys.stderr.isatty():
            say(f"{figure.words}: {figure.shown()} {figure.unit}")
    machine = {
        "mullama": __version__,
        "python": platform.python_version(),
        "processor": processor_name(),
        "threads": context.stats().threads,
        "model": str(model.path),
        "description": plain(model.description),
    }
    if job.json:
        write_event(**machine, **{figure.name: figure.value for figure in figures})
    else:
        write_table(table(machine, figures))


def measured(context: Context, seconds: float) -> Iterator[Figure]:
    """The figures, one after another."""
    from mullama import _measure as measure  # noqa: PLC0415  # asyncio would count in the memory after the load

    measure.one_stream(context, seconds / 4)  # what happens once, as the choice of threads, has happened
    rate = measure.one_stream(context, seconds)
    yield Figure("tokens_per_second", "one stream, for", rate, "tokens/s")
    rate_async = measure.one_stream_async(context, seconds)
    yield Figure("tokens_per_second_async", "one stream, async for", rate_async, "tokens/s")
    together, lag = measure.many_streams(context, seconds)
    yield Figure("tokens_per_second_8_streams", "8 async streams together", together, "tokens/s")
    yield Figure("loop_lag_p50_ms", "event loop's lag beside them, p50", lag.p50 * 1e3, "ms")
    yield Figure("loop_lag_p99_ms", "event loop's lag beside them, p99", lag.p99 * 1e3, "ms")
    idle = measure.loop_lag(seconds / 4)
    yield Figure("idle_loop_lag_p50_ms", "event loop's lag alone, p50", idle.p50 * 1e3, "ms")
    yield Figure("idle_loop_lag_p99_ms", "event loop's lag alone, p99", idle.p99 * 1e3, "ms")
    first = measure.first_tokens(context, seconds, max(16, int(4 * rate * seconds)))
    yield Figure("prefill_tokens_per_second", f"prompt of {first.prompt_tokens} tokens", first.prefill, "tokens/s")
    yield Figure("first_token_cold_ms", "first token after it", first.cold * 1e3, "ms")
    yield Figure("first_token_warm_ms", "first token, the same prompt again", first.warm * 1e3, "ms")
    # Filling the buffer takes about as long as a measurement.
    tokens = max(16, int(rate * seconds))
    cost = measure.python_time(context, seconds, tokens)
    yield Figure("python_us_per_token", "Python, a token that waits, for", cost * 1e6, "µs")
    cost_async = measure.python_time_async(context, seconds, tokens)
    yield Figure("python_us_per_token_async", "Python, a token that waits, async for", cost_async * 1e6, "µs")
    waking = measure.waking_time(context, seconds)
    yield Figure("python_us_per_token_waking", "Python, a token to be waited for, async for", waking * 1e6, "µs")
    importing = measure.import_time()
    importing_ms = None if importing is None else importing * 1e3
    yield Figure("import_ms", "import mullama, over a bare interpreter", importing_ms, "ms")


def table(machine: dict[str, object], figures: list[Figure]) -> Table:
    """The figures, a line each."""
    from rich import box  # noqa: PLC0415  # is slow to import, and JSON needs no table
    from rich.table import Table  # noqa: PLC0415  # the same

    title = "{description}, {threads} threads\n{processor}\nmullama {mullama}, Python {python}"
    drawn = Table(box=box.SIMPLE, title=title.format_map(machine), title_justify="left")
    drawn.add_column("measured", overflow="fold")
    drawn.add_column("", justify="right", no_wrap=True)
    drawn.add_column("unit", no_wrap=True)
    for figure in figures:
        drawn.add_row(figure.words, figure.shown(), figure.unit)
    return drawn
