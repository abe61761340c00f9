"""What a conversation says of its model: the greeting, and what there is to know about a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mullama import _mullama
from mullama._model import DEMO
from mullama._output import plain
from mullama._sizes import parameters

if TYPE_CHECKING:
    from mullama._model import Model

PROMPTS = (
    "Tell me a story.",
    "Write a poem.",
    "Give me a list of five animals.",
    "Tell me about the moon.",
    "What is 17 + 5?",
    "Describe a person as JSON.",
)
"""What shows the demo model well."""

TOY = """\
It is a 2 MB toy. It knows poems, stories, lists, facts, sums and JSON, and it
can call tools; it makes up everything else."""


def is_demo(model: Model) -> bool:
    """Whether it is the model inside the package."""
    return str(model.path) == DEMO


def greeting(model: Model) -> str:
    """The first lines of a conversation."""
    line = f"Chatting with {name(model)}. /help lists the commands, Ctrl-D leaves."
    return f"{line}\n{demo_prompts()}" if is_demo(model) else line


def demo_prompts() -> str:
    """What the demo model is, and what to ask it."""
    return f"{TOY} Try:\n" + "\n".join(f"  {prompt}" for prompt in PROMPTS)


def name(model: Model) -> str:
    """The model's name, as its file says it."""
    return plain(model.metadata.get("general.name") or Path(model.path).name)


def quantization(model: Model) -> str:
    """How most of the weights are stored, for example Q4_K_M; "unknown" if the file does not say it."""
    return _mullama.file_type_name(model.metadata.get("general.file_type", "")) or "unknown"


def described(model: Model) -> str:
    """Name, architecture, number of parameters, quantization and size of a model."""
    architecture = plain(model.metadata.get("general.architecture", "unknown architecture"))
    size = f"{model.size / (1 << 20):,.1f} MiB"
    return f"{name(model)}: {architecture}, {parameters(model.n_params)} parameters, {quantization(model)}, {size}"
