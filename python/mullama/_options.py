"""Arguments and options of the commands, with their help texts."""

# Typer evaluates these when the command starts, so annotations are not postponed.
from typing import Annotated, Any

import typer

from mullama._config import StreamConfig

DEFAULTS = StreamConfig()


def _option(panel: str, name: str, metavar: str | None, words: str) -> Any:  # noqa: ANN401  # as typer.Option itself
    # The help text states the default, which is the package's.
    return typer.Option(name, metavar=metavar, help=words, rich_help_panel=panel, show_default=False)


def _argument(metavar: str, words: str) -> Any:  # noqa: ANN401  # as typer.Argument itself
    return typer.Argument(metavar=metavar, help=words, show_default=False)


_MODEL = "GGUF file, or demo for the small model that comes with the package."
ModelName = Annotated[str, _argument("MODEL", _MODEL)]
MaybeModelName = Annotated[str | None, _argument("MODEL", _MODEL)]
Prompt = Annotated[
    str | None,
    _argument("PROMPT", "Prompt text, or - for standard input. Omit it on a terminal to start a conversation."),
]

_GENERATION = "Generation"
MaxTokens = Annotated[
    int | None,
    _option(_GENERATION, "--max-tokens", "N", f"Generate at most N tokens (default {DEFAULTS.max_tokens})."),
]
Temperature = Annotated[
    float | None,
    _option(
        _GENERATION,
        "--temperature",
        "T",
        f"Set the sampling temperature; 0 is greedy (default {DEFAULTS.temperature}).",
    ),
]
TopK = Annotated[
    int | None,
    _option(_GENERATION, "--top-k", "N", f"Keep the N most likely tokens; 0 is off (default {DEFAULTS.top_k})."),
]
TopP = Annotated[
    float | None,
    _option(
        _GENERATION,
        "--top-p",
        "P",
        f"Keep the most likely tokens up to probability P; 1.0 is off (default {DEFAULTS.top_p}).",
    ),
]
MinP = Annotated[
    float | None,
    _option(
        _GENERATION,
        "--min-p",
        "P",
        f"Drop tokens below P times the top probability; 0.0 is off (default {DEFAULTS.min_p}).",
    ),
]
Seed = Annotated[int | None, _option(_GENERATION, "--seed", "N", "Set the sampling seed (default random).")]
Stop = Annotated[
    list[str] | None, _option(_GENERATION, "--stop", "TEXT", "End before this text. Can be given several times.")
]
System = Annotated[
    str | None,
    _option(_GENERATION, "--system", "TEXT", "Set a system message; PROMPT is then the user's message in a chat."),
]
Timeout = Annotated[
    int | None, _option(_GENERATION, "--timeout", "MS", "Fail after MS milliseconds (default no limit).")
]

_ENGINE = "Engine"
ContextSize = Annotated[
    int | None,
    _option(
        _ENGINE, "--ctx-size", "N", "Set the context length in tokens, including the prompt (default the model's)."
    ),
]
Threads = Annotated[int | None, _option(_ENGINE, "--threads", "N", "Use N threads (default one per physical core).")]
GpuLayers = Annotated[int, _option(_ENGINE, "--gpu-layers", "N", "Put N layers on the GPU; -1 means all (default -1).")]

_OUTPUT = "Output"
NoStream = Annotated[bool, _option(_OUTPUT, "--no-stream", None, "Write the text only when it is complete.")]
Json = Annotated[bool, _option(_OUTPUT, "--json", None, "Write JSON; for a stream, one object per line.")]
Verbose = Annotated[bool, _option(_OUTPUT, "--verbose", None, "Print token counts, speed and timings to stderr.")]
Seconds = Annotated[float, _option(_OUTPUT, "--seconds", "S", "Spend about S seconds on each measurement (default 2).")]
Version = Annotated[bool, typer.Option("--version", help="Print the version and exit.")]
