"""The arguments and options of the commands: their names, their types and what `--help` says of them."""

# Typer looks at these when the command starts, so no annotation is put off.
from typing import Annotated, Any

import typer

from mullama._config import StreamConfig

DEFAULTS = StreamConfig()


def _option(panel: str, name: str, metavar: str | None, words: str) -> Any:  # noqa: ANN401  # as typer.Option itself
    # The words tell the defaults, which are the package's.
    return typer.Option(name, metavar=metavar, help=words, rich_help_panel=panel, show_default=False)


def _argument(metavar: str, words: str) -> Any:  # noqa: ANN401  # as typer.Argument itself
    return typer.Argument(metavar=metavar, help=words, show_default=False)


_MODEL = "A GGUF file, or demo: the model inside the package."
ModelName = Annotated[str, _argument("MODEL", _MODEL)]
MaybeModelName = Annotated[str | None, _argument("MODEL", _MODEL)]
Prompt = Annotated[
    str | None,
    _argument("PROMPT", "What the text follows. - reads standard input, as none does; on a terminal, none is a chat."),
]

_GENERATION = "Generation"
MaxTokens = Annotated[int | None, _option(_GENERATION, "--max-tokens", "N", f"Most tokens ({DEFAULTS.max_tokens}).")]
Temperature = Annotated[
    float | None, _option(_GENERATION, "--temperature", "T", f"0 is greedy ({DEFAULTS.temperature}).")
]
TopK = Annotated[int | None, _option(_GENERATION, "--top-k", "N", f"0 is off ({DEFAULTS.top_k}).")]
TopP = Annotated[float | None, _option(_GENERATION, "--top-p", "P", f"1.0 is off ({DEFAULTS.top_p}).")]
MinP = Annotated[float | None, _option(_GENERATION, "--min-p", "P", f"0.0 is off ({DEFAULTS.min_p}).")]
Seed = Annotated[int | None, _option(_GENERATION, "--seed", "N", "Same seed, same text.")]
Stop = Annotated[list[str] | None, _option(_GENERATION, "--stop", "TEXT", "End before this text; can be repeated.")]
System = Annotated[
    str | None, _option(_GENERATION, "--system", "TEXT", "What the model is told first; PROMPT is a chat message then.")
]
Timeout = Annotated[int | None, _option(_GENERATION, "--timeout", "MS", "Most milliseconds of an answer (no limit).")]

_ENGINE = "Engine"
ContextSize = Annotated[
    int | None, _option(_ENGINE, "--ctx-size", "N", "Most tokens, the prompt's included (the model's).")
]
Threads = Annotated[int | None, _option(_ENGINE, "--threads", "N", "Threads that compute (one a physical core).")]
GpuLayers = Annotated[int, _option(_ENGINE, "--gpu-layers", "N", "Layers on a GPU; -1 is all of them (-1).")]

_OUTPUT = "Output"
NoStream = Annotated[bool, _option(_OUTPUT, "--no-stream", None, "Write the text when it is complete.")]
Json = Annotated[bool, _option(_OUTPUT, "--json", None, "Write JSON; of a stream, an object a line.")]
Verbose = Annotated[bool, _option(_OUTPUT, "--verbose", None, "Tell tokens, speed and times on stderr.")]
Seconds = Annotated[float, _option(_OUTPUT, "--seconds", "S", "About how long each measurement takes (2).")]
Version = Annotated[bool, typer.Option("--version", help="Tell the version.")]
