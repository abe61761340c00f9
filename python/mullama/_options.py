"""Arguments and options of the commands, with their help texts."""

# Typer evaluates these when the command starts, so annotations are not postponed.
from pathlib import Path
from typing import Annotated, Any

import typer

from mullama._model_names import local_names
from mullama._settings import DEFAULTS, NAMES


def in_panel(panel: str, names: str, metavar: str | None, words: str, **more: Any) -> Any:  # noqa: ANN401  # as typer.Option itself
    """An option in a group of the help. Its text states the default, which is the package's."""
    return typer.Option(*names.split(), metavar=metavar, help=words, rich_help_panel=panel, show_default=False, **more)


def _argument(metavar: str, words: str, **more: Any) -> Any:  # noqa: ANN401  # as typer.Argument itself
    return typer.Argument(metavar=metavar, help=words, show_default=False, **more)


def complete_model(incomplete: str) -> list[str]:
    """Models that begin with what was typed: `demo`, names of models on this machine, folders, and GGUF files."""
    # Not `Path.glob`: the text may hold characters that a pattern would take for its own.
    folder, _, start = incomplete.rpartition("/")
    found = [name for name in ["demo"] if not folder and name.startswith(start)] + local_names(incomplete)
    try:
        entries = sorted((Path(folder + "/") if incomplete.startswith("/") else Path(folder)).expanduser().iterdir())
    except (OSError, RuntimeError):
        return found
    prefix = incomplete.removesuffix(start)
    for entry in entries:
        if entry.name.startswith(start) and (start or not entry.name.startswith(".")):
            if entry.suffix == ".gguf":
                found.append(prefix + entry.name)
            elif entry.is_dir():
                found.append(f"{prefix}{entry.name}/")
    return found


def complete_setting(incomplete: str) -> list[str]:
    """Settings that begin with what was typed."""
    return [f"{name}=" for name in NAMES if name.startswith(incomplete)]


# Numbers are texts here, so that --temperature and --set temperature are checked alike, with the same errors.
_MODEL = (
    "Name of a model, such as llama3.2:1b or hf.co/user/repo:Q4_K_M; path of a GGUF file; or demo for the small model "
    "that comes with the package. A model that is missing is downloaded."
)
ModelName = Annotated[str, _argument("MODEL", _MODEL, autocompletion=complete_model)]
MaybeModelName = Annotated[str | None, _argument("MODEL", _MODEL, autocompletion=complete_model)]
Prompt = Annotated[
    list[str] | None,
    _argument(
        "PROMPT",
        "Text of the prompt. Several words need no quotes. Text that is piped in precedes it; - as the first word "
        "reads standard input even from a terminal. Without a prompt, on a terminal, a conversation starts.",
    ),
]

_GENERATION = "Generation"
MaxTokens = Annotated[
    str | None,
    in_panel(_GENERATION, "-n --max-tokens", "N", "Generate at most N tokens (default: until the context is full)."),
]
Temperature = Annotated[
    str | None,
    in_panel(
        _GENERATION,
        "-T --temperature",
        "T",
        f"Set the sampling temperature; 0 is greedy (default: {DEFAULTS.temperature}).",
    ),
]
TopK = Annotated[
    str | None,
    in_panel(_GENERATION, "-k --top-k", "N", f"Keep the N most likely tokens; 0 is off (default: {DEFAULTS.top_k})."),
]
TopP = Annotated[
    str | None,
    in_panel(
        _GENERATION,
        "-p --top-p",
        "P",
        f"Keep the most likely tokens up to probability P; 1.0 is off (default: {DEFAULTS.top_p}).",
    ),
]
MinP = Annotated[
    str | None,
    in_panel(
        _GENERATION,
        "--min-p",
        "P",
        f"Drop tokens below P times the top probability; 0.0 is off (default: {DEFAULTS.min_p}).",
    ),
]
RepeatPenalty = Annotated[
    str | None,
    in_panel(
        _GENERATION,
        "--repeat-penalty",
        "X",
        f"Penalize repeated tokens by the factor X; 1.0 is off (default: {DEFAULTS.repeat_penalty}).",
    ),
]
Seed = Annotated[str | None, in_panel(_GENERATION, "-s --seed", "N", "Set the sampling seed (default: random).")]
Stop = Annotated[
    list[str] | None, in_panel(_GENERATION, "--stop", "TEXT", "End before this text. Can be given several times.")
]
Timeout = Annotated[
    str | None, in_panel(_GENERATION, "--timeout", "MS", "Fail after MS milliseconds (default: no limit).")
]
Set = Annotated[
    list[str] | None,
    in_panel(
        _GENERATION,
        "--set",
        "NAME=VALUE",
        "Change any setting of StreamConfig, for example --set mirostat=2. Can be given several times.",
        autocompletion=complete_setting,
    ),
]

_CHAT = "Chat"
System = Annotated[str | None, in_panel(_CHAT, "-S --system", "TEXT", "Set a system message.")]
Raw = Annotated[
    bool, in_panel(_CHAT, "-r --raw", None, "Continue PROMPT as it stands, instead of sending it as a chat message.")
]
ChatTemplate = Annotated[
    str | None, in_panel(_CHAT, "--chat-template", "FILE", "Use the Jinja template in FILE instead of the model's.")
]
NoPull = Annotated[bool, typer.Option("--no-pull", help="Do not download a model that is missing.")]
NoHistory = Annotated[
    bool, in_panel(_CHAT, "--no-history", None, "Neither read nor write the history of what was typed.")
]

_ENGINE = "Engine"
ContextSize = Annotated[
    str | None,
    in_panel(
        _ENGINE,
        "-c --ctx-size",
        "N",
        "Set the context length in tokens, including the prompt (default: the model's, at most 4096).",
    ),
]
Threads = Annotated[
    str | None, in_panel(_ENGINE, "-t --threads", "N", "Use N threads (default: one per physical core).")
]
GpuLayers = Annotated[
    str, in_panel(_ENGINE, "-g --gpu-layers", "N", "Put N layers on the GPU; -1 means all (default: -1).")
]

_OUTPUT = "Output"
NoStream = Annotated[bool, in_panel(_OUTPUT, "--no-stream", None, "Write the text only when it is complete.")]
NoWrap = Annotated[bool, in_panel(_OUTPUT, "--no-wrap", None, "Do not break lines between words on a terminal.")]
Render = Annotated[
    bool, in_panel(_OUTPUT, "--render", None, "Show Markdown as formatted text on a terminal, paragraph by paragraph.")
]
EventsJson = Annotated[bool, in_panel(_OUTPUT, "-j --json", None, "Write events as JSON, one object per line.")]
Json = Annotated[bool, in_panel(_OUTPUT, "-j --json", None, "Write one JSON object.")]
Verbose = Annotated[bool, in_panel(_OUTPUT, "-v --verbose", None, "Print token counts, speed and timings to stderr.")]
Seconds = Annotated[str, in_panel(_OUTPUT, "--seconds", "S", "Spend about S seconds on each measurement (default: 2).")]
Version = Annotated[bool, typer.Option("--version", "-V", help="Print the version and exit.")]
