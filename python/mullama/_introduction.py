"""What a conversation says of its model: the greeting, and what there is to know about a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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

# fmt: off
FILE_TYPES = {
    "0": "F32", "1": "F16", "2": "Q4_0", "3": "Q4_1", "7": "Q8_0", "8": "Q5_0", "9": "Q5_1",
    "10": "Q2_K", "11": "Q3_K_S", "12": "Q3_K_M", "13": "Q3_K_L", "14": "Q4_K_S", "15": "Q4_K_M", "16": "Q5_K_S",
    "17": "Q5_K_M", "18": "Q6_K", "19": "IQ2_XXS", "20": "IQ2_XS", "21": "Q2_K_S", "22": "IQ3_XS", "23": "IQ3_XXS",
    "24": "IQ1_S", "25": "IQ4_NL", "26": "IQ3_S", "27": "IQ3_M", "28": "IQ2_S", "29": "IQ2_M", "30": "IQ4_XS",
    "31": "IQ1_M", "32": "BF16", "36": "TQ1_0", "37": "TQ2_0", "38": "MXFP4", "39": "NVFP4", "40": "Q1_0",
    "41": "Q2_0",
}
# fmt: on
"""llama.cpp's `llama_ftype`, as the metadata hold it."""


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
    return FILE_TYPES.get(model.metadata.get("general.file_type", ""), "unknown")


def described(model: Model) -> str:
    """Name, architecture, number of parameters, quantization and size of a model."""
    architecture = plain(model.metadata.get("general.architecture", "unknown architecture"))
    size = f"{model.size / (1 << 20):,.1f} MiB"
    return f"{name(model)}: {architecture}, {parameters(model.n_params)} parameters, {quantization(model)}, {size}"
