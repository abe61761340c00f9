"""The command `mullama bench`: measures a model and this package on this machine."""

from __future__ import annotations

import platform
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mullama import Context, Model, __version__
from mullama._exceptions import ContextOverflowError
from mullama._introduction import described, name, quantization
from mullama._machine import MIB, processor_name, resident
from mullama._output import plain, say, write_event, write_table
from mullama._pull import fetched
from mullama._run import with_size
from mullama._versions import LLAMA_CPP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from mullama import ContextParams


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What to measure.

    Attributes:
        model: A GGUF file, a name, or "demo".
        pull: Whether a model that is missing is downloaded.
        params: Layout of the engine.
        gpu_layers: Number of layers to put on a GPU.
        seconds: Approximate time of each measurement.
        json: Whether the figures are written as JSON.
    """

    model: str
    pull: bool
    params: ContextParams
    gpu_layers: int
    seconds: float
    json: bool


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value.

    Attributes:
        name: Name in JSON, including the unit.
        words: Description in the table.
        value: The value, in that unit.
        unit: The unit.
    """

    name: str
    words: str
    value: float | None
    unit: str

    def shown(self) -> str:
        """The value with three significant digits."""
        if self.value is None:
            return "unknown"
        return f"{self.value:,.0f}" if abs(self.value) >= 100 else f"{self.value:.3g}"  # noqa: PLR2004


def bench(job: Bench) -> None:
    """Measures, and writes a table or JSON."""
    source = fetched(job.model, pull=job.pull)
    began = time.perf_counter()
    model = Model.load(source, n_gpu_layers=job.gpu_layers, pull=False)
    context = Context(model, job.params)
    loaded = time.perf_counter() - began
    # Before anything is imported that only the measurements need.
    held = resident()
    figures = [
        Figure("load_ms", "load time, including the engine", loaded * 1e3, "ms"),
        Figure("resident_mib", "memory after loading (RSS)", None if held is None else held / MIB, "MiB"),
    ]
    try:
        for figure in measured(context, job.seconds):
            figures.append(figure)
            if sys.stderr is not None and sys.stderr.isatty():
                say(f"{figure.words}: {figure.shown()} {figure.unit}")
    except ContextOverflowError as error:
        tokens = error.prompt_tokens
        raise with_size(error, context, lambda: tokens, 0) from None
    machine = {
        "mullama": __version__,
        "llama_cpp": LLAMA_CPP,
        "python": platform.python_version(),
        "processor": processor_name(),
        "threads": context.stats().threads,
        "model": str(model.path),
        "name": name(model),
        "architecture": plain(model.metadata.get("general.architecture", "unknown")),
        "quantization": quantization(model),
        "parameters": model.n_params,
        "size": model.size,
    }
    if job.json:
        write_event(**machine, **{figure.name: figure.value for figure in figures})
    else:
        write_table(table(title(model, machine), figures))


def measured(context: Context, seconds: float) -> Iterator[Figure]:
    """The figures, one after the other."""
    from mullama import _measure as measure  # noqa: PLC0415  # asyncio would count towards the memory after loading

    measure.one_stream(context, seconds / 4)  # warms up, for example the number of threads
    rate = measure.one_stream(context, seconds)
    yield Figure("tokens_per_second", "one stream, for", rate, "tokens/s")
    rate_async = measure.one_stream_async(context, seconds)
    yield Figure("tokens_per_second_async", "one stream, async for", rate_async, "tokens/s")
    together, lag = measure.many_streams(context, seconds)
    yield Figure("tokens_per_second_8_streams", "8 async streams together", together, "tokens/s")
    yield Figure("loop_lag_p50_ms", "event loop lag beside them, p50", lag.p50 * 1e3, "ms")
    yield Figure("loop_lag_p99_ms", "event loop lag beside them, p99", lag.p99 * 1e3, "ms")
    idle = measure.loop_lag(seconds / 4)
    yield Figure("idle_loop_lag_p50_ms", "event loop lag when idle, p50", idle.p50 * 1e3, "ms")
    yield Figure("idle_loop_lag_p99_ms", "event loop lag when idle, p99", idle.p99 * 1e3, "ms")
    first = measure.first_tokens(context, seconds, max(16, int(4 * rate * seconds)))
    yield Figure("prefill_tokens_per_second", f"prompt of {first.prompt_tokens} tokens", first.prefill, "tokens/s")
    yield Figure("first_token_cold_ms", "first token after that prompt", first.cold * 1e3, "ms")
    yield Figure("first_token_warm_ms", "first token, same prompt again", first.warm * 1e3, "ms")
    # Filling the buffer takes about as long as a measurement.
    tokens = max(16, int(rate * seconds))
    cost = measure.python_time(context, seconds, tokens)
    yield Figure("python_us_per_token", "Python per buffered token, for", cost * 1e6, "µs")
    cost_async = measure.python_time_async(context, seconds, tokens)
    yield Figure("python_us_per_token_async", "Python per buffered token, async for", cost_async * 1e6, "µs")
    waking = measure.waking_time(context, seconds)
    yield Figure("python_us_per_token_waking", "Python per awaited token, async for", waking * 1e6, "µs")
    importing = measure.import_time()
    importing_ms = None if importing is None else importing * 1e3
    yield Figure("import_ms", "import mullama, beyond a bare interpreter", importing_ms, "ms")


def title(model: Model, machine: dict[str, object]) -> str:
    """What was measured, and where."""
    where = "{processor}, threads: {threads}\nmullama {mullama}, llama.cpp {llama_cpp}, Python {python}"
    return f"{described(model)}\n{where.format_map(machine)}"


def table(title: str, figures: list[Figure]) -> Table:
    """The figures, one per line."""
    from rich import box  # noqa: PLC0415  # slow to import, and JSON does not need it
    from rich.table import Table  # noqa: PLC0415  # the same

    drawn = Table(box=box.SIMPLE, title=title, title_justify="left")
    drawn.add_column("measured", overflow="fold")
    drawn.add_column("", justify="right", no_wrap=True)
    drawn.add_column("unit", no_wrap=True)
    for figure in figures:
        drawn.add_row(figure.words, figure.shown(), figure.unit)
    return drawn
