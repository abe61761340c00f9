"""The command `mullama doctor`: system information, and diagnostics of a model."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mullama import Model, __version__, _mullama, _plugins, _processor
from mullama._build import TARGET_FEATURES
from mullama._introduction import name, quantization
from mullama._machine import cores, cpu_quota, memory, memory_limit, processor_name, usable_cpus
from mullama._output import plain, write_event, write_table
from mullama._pull import fetched
from mullama._sizes import parameters
from mullama._versions import llama_cpp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

GIB = 1 << 30


def doctor(model: str | None, *, json: bool = False) -> None:
    """Writes information about this machine, and then about the model: as tables, or as one JSON object.

    Raises:
        ModelNotFoundError: There is no file at the path, or no model of this name on this machine.
        ModelLoadError: The file cannot be loaded as a model.
    """
    if json:
        from mullama._report import report  # noqa: PLC0415  # a table does not need it

        write_event(
            **report(None if model is None else Model.load(fetched(model, pull=False), vocab_only=True, pull=False))
        )
        return
    plugins = [*_plugins.described()]
    write_table(table([*versions(), *processor(), *memories(), *plugins, *gpus(devices())]))
    if model is not None:
        write_table(table([*described(Model.load(fetched(model, pull=False), vocab_only=True, pull=False))]))


def versions() -> Iterator[tuple[str, str]]:
    """Versions of the software."""
    yield "mullama", __version__
    yield "llama.cpp", llama_cpp()
    yield "Python", f"{platform.python_implementation()} {platform.python_version()}"
    yield "platform", platform.platform()
    yield "built with", _mullama.system_info()


def processor() -> Iterator[tuple[str, str]]:
    """The processor, and how much of it this process may use."""
    usable = usable_cpus()
    quota = cpu_quota()
    yield "processor", processor_name()
    yield "usable", f"{len(usable)} logical processors on {cores(usable)} cores"
    yield "control group", "no CPU quota" if quota is None else f"{quota:.3g} CPUs (quota)"
    yield "threads", f"{_mullama.usable_cores()}, unless --threads or n_threads is given"
    yield "compiled for", " ".join(sorted(TARGET_FEATURES)) or "any processor of this architecture"
    variant = _mullama.cpu_variant()
    if variant is not None:
        yield "CPU variant", f"{variant}, chosen for this processor"
    elif is_portable():
        yield "CPU variant", "none could be loaded, and no model can be; mullama doctor demo says why"
    yield "verdict", verdict(_processor.feature_line())


def verdict(present: str) -> str:
    """Whether this processor has the features that the native module was compiled for."""
    if not present:
        return "unknown: the system does not list the processor's features"
    lacking = _processor.missing(TARGET_FEATURES, present)
    return f"features missing: {', '.join(lacking)}" if lacking else "has all features that mullama was compiled for"


def memories() -> Iterator[tuple[str, str]]:
    """The memory of this machine."""
    sizes = memory()
    limit = memory_limit()
    yield "memory", "unknown" if sizes is None else f"{gib(sizes[0])}, {gib(sizes[1])} available"
    if limit is not None and (sizes is None or limit < sizes[0]):
        yield "memory limit", f"{gib(limit)} (control group)"


@dataclass(frozen=True)
class Device:
    """A device that llama.cpp can compute on.

    Attributes:
        name: llama.cpp's name for it, such as "CPU" or "CUDA0".
        description: The vendor's name for it.
        kind: "cpu", "gpu", "igpu", "accelerator" or "other".
        free: Free memory in bytes.
        total: Total memory in bytes.
    """

    name: str
    description: str
    kind: str
    free: int
    total: int

    @property
    def is_gpu(self) -> bool:
        """Whether layers can be offloaded to it."""
        return self.kind in {"gpu", "igpu"}


def devices() -> list[Device]:
    """The devices that llama.cpp can compute on."""
    return [Device(*device) for device in _mullama.devices()]


def gpus(devices: list[Device]) -> Iterator[tuple[str, str]]:
    """The devices beside the processor, which has lines of its own."""
    for device in devices:
        if device.kind != "cpu":
            sizes = f"{gib(device.total)}, of which {gib(device.free)} are free"
            yield f"device {device.name}", f"{device.description} ({device.kind}), {sizes}"
    if not any(device.is_gpu for device in devices):
        yield "GPU", no_gpu()


def is_portable() -> bool:
    """Whether this is a build that brings llama.cpp's code for many processors, in libraries."""
    return Path(__file__).with_name("lib").joinpath("build-id").exists()


def no_gpu() -> str:
    """What there would have to be for a GPU to be used."""
    if not is_portable():
        return "none that this build of mullama can use (MULLAMA_BACKEND chooses the backend of a build)"
    return "none that an installed plug-in can use (packages mullama-cuda and mullama-vulkan)"


def offload(model: Model, layers: int | None, devices: list[Device]) -> str:
    """How many of a model's layers the GPUs have memory for; weights alone, without the KV cache."""
    free = sum(device.free for device in devices if device.is_gpu)
    if not any(device.is_gpu for device in devices):
        return "none: there is no GPU, so every layer is computed on the CPU"
    if layers is None:
        return "unknown: the file does not say how many layers it has"
    if model.size <= free:
        return f"all {layers + 1} layers fit into the {gib(free)} that are free on GPUs"
    fitting = (layers + 1) * free // model.size
    room = f"the {gib(free)} that are free on GPUs (--gpu-layers {fitting})"
    return f"about {fitting} of {layers + 1} layers fit into {room}"


def available() -> int | None:
    """Available memory in bytes, as far as it is known."""
    sizes, limit = memory(), memory_limit()
    bounds = [bound for bound in (sizes and sizes[1], limit) if bound is not None]
    return min(bounds, default=None)


def described(model: Model) -> Iterator[tuple[str, str]]:
    """Information about the model."""
    facts = model.metadata
    architecture = facts.get("general.architecture", "unknown")
    yield "model", str(model.path)
    yield "name", name(model)
    yield "architecture", architecture
    size = f"{model.size / (1 << 20):,.1f} MiB"
    yield "weights", f"{parameters(model.n_params)} parameters ({model.n_params:,}) in {quantization(model)}, {size}"
    yield "vocabulary", f"{model.n_vocab:,} tokens; {ends(model)}"
    yield "GPU layers", offload(model, layers(model), devices())
    yield "context", f"trained for {facts.get(f'{architecture}.context_length', 'an unknown number of')} tokens"
    yield (
        "chat template",
        "yes" if "tokenizer.chat_template" in facts else "none: the model can complete text but not chat",
    )
    yield "verdict", fit(model.size, available())


def layers(model: Model) -> int | None:
    """Number of layers that the file states."""
    count = model.metadata.get(f"{model.metadata.get('general.architecture')}.block_count", "")
    return int(count) if count.isdecimal() else None


def ends(model: Model) -> str:
    """The end-of-generation tokens."""
    ids = ", ".join(map(str, model.end_tokens))
    return f"end-of-generation: {ids}" if ids else "no end-of-generation token"


def fit(size: int, available: int | None) -> str:
    """Whether the weights fit into the available memory."""
    sound = "header and vocabulary are valid"
    if available is None:
        return sound
    if size > available:
        return f"{sound}, but the weights need {gib(size)} and only {gib(available)} is available"
    return f"{sound}, and the weights fit into the available memory"


def gib(size: int) -> str:
    """A size as text."""
    return f"{size / GIB:.1f} GiB"


def table(lines: list[tuple[str, str]]) -> Table:
    """A table of names and values."""
    from rich.table import Table  # noqa: PLC0415  # slow to import, and a load that fails does not need it

    drawn = Table(box=None, show_header=False, pad_edge=False)
    drawn.add_column(no_wrap=True)
    drawn.add_column(overflow="fold")
    for head, words in lines:
        drawn.add_row(head, plain(words))
    return drawn
