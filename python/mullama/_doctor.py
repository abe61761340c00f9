"""The command `mullama doctor`: what this machine is, what of it mullama uses, and what a model is."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from mullama import Model, __version__, _mullama, _processor
from mullama._build import TARGET_FEATURES
from mullama._machine import (
    cores,
    cpu_quota,
    memory,
    memory_limit,
    processor_name,
    usable_cpus,
)
from mullama._output import plain, write_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

GIB = 1 << 30


def doctor(model: str | None) -> None:
    """Writes what there is to know of this machine, and then of the model.

    Raises:
        ModelNotFoundError: No model is there.
        ModelLoadError: It is no model that can run.
    """
    write_table(table([*versions(), *processor(), *memories()]))
    if model is not None:
        write_table(table([*described(Model.load(model, vocab_only=True))]))


def versions() -> Iterator[tuple[str, str]]:
    """What runs here."""
    yield "mullama", __version__
    yield "Python", f"{platform.python_implementation()} {platform.python_version()}"
    yield "platform", platform.platform()
    yield "llama.cpp", _mullama.system_info()


def processor() -> Iterator[tuple[str, str]]:
    """What computes, and how much of it this process may use."""
    usable = usable_cpus()
    quota = cpu_quota()
    yield "processor", processor_name()
    yield "usable", f"{len(usable)} logical processors on {cores(usable)} cores"
    yield "control group", "no limit of processor time" if quota is None else f"{quota:.3g} processors' worth of time"
    yield "threads", f"{_mullama.usable_cores()}, unless --threads or n_threads says another number"
    yield "compiled for", " ".join(sorted(TARGET_FEATURES)) or "any processor of this architecture"
    yield "verdict", verdict(_processor.feature_line())


def verdict(present: str) -> str:
    """Whether this processor has what the native module was compiled for."""
    if not present:
        return "unknown: the system does not list the processor's features"
    lacking = _processor.missing(TARGET_FEATURES, present)
    return f"it lacks {', '.join(lacking)}" if lacking else "it has what mullama was compiled for"


def memories() -> Iterator[tuple[str, str]]:
    """How much memory there is."""
    sizes = memory()
    limit = memory_limit()
    yield "memory", "unknown" if sizes is None else f"{gib(sizes[0])}, of which {gib(sizes[1])} are available"
    if limit is not None and (sizes is None or limit < sizes[0]):
        yield "memory limit", f"{gib(limit)}, by the control group"


def available() -> int | None:
    """Bytes of memory to be had, as far as the system tells."""
    sizes, limit = memory(), memory_limit()
    bounds = [bound for bound in (sizes and sizes[1], limit) if bound is not None]
    return min(bounds, default=None)


def described(model: Model) -> Iterator[tuple[str, str]]:
    """What a model is."""
    facts = model.metadata
    architecture = facts.get("general.architecture", "unknown")
    yield "model", str(model.path)
    yield "name", facts.get("general.name", "it has none")
    yield "architecture", architecture
    yield "weights", f"{model.n_params:,} in {model.size / (1 << 20):,.1f} MiB"
    yield "vocabulary", f"{model.n_vocab:,} tokens; {ends(model)}"
    yield "context", f"trained for {facts.get(f'{architecture}.context_length', 'an unknown number of')} tokens"
    yield "chat template", "yes" if "tokenizer.chat_template" in facts else "none: it completes text and cannot chat"
    yield "verdict", fit(model.size, available())


def ends(model: Model) -> str:
    """The tokens that end an answer."""
    ids = ", ".join(map(str, model.end_tokens))
    return f"{ids} end an answer" if ids else "none ends an answer"


def fit(size: int, available: int | None) -> str:
    """Whether the weights fit into the memory that is available."""
    sound = "its header and its vocabulary are sound"
    if available is None:
        return sound
    if size > available:
        return f"{sound}, but its weights take {gib(size)} and {gib(available)} are available"
    return f"{sound}, and its weights fit into the memory that is available"


def gib(size: int) -> str:
    """A size in words."""
    return f"{size / GIB:.1f} GiB"


def table(lines: list[tuple[str, str]]) -> Table:
    """Names and what is to say of them."""
    from rich.table import Table  # noqa: PLC0415  # is slow to import, and a load that fails needs no table

    drawn = Table(box=None, show_header=False, pad_edge=False)
    drawn.add_column(no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, words in lines:
        drawn.add_row(name, plain(words))
    return drawn
