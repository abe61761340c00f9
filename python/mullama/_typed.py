"""What a person types: lines with history and editing, messages of several lines, and values of settings."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mullama._output import say

if TYPE_CHECKING:
    from collections.abc import Callable

PROMPT = ">>> "
MORE = "... "
FENCE = '"""'


@dataclass(frozen=True, slots=True)
class Typed:
    """A message as it was typed.

    Attributes:
        text: Its lines.
        fenced: Whether it stood between fences, where nothing is a command.
    """

    text: str
    fenced: bool = False


def line_reader() -> Callable[[str], str]:
    """What reads a line behind a prompt, as `input` does: with history and editing where that is a terminal's."""
    # What is no UTF-8 becomes lone surrogates, and those are refused as what they are: no text.
    sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    if not sys.stdout.isatty():
        return ask_on_stderr
    with contextlib.suppress(ImportError):  # a Python can be built without it
        import readline  # noqa: F401, PLC0415  # `input` uses it once it is there; it may write to stdout
    return input


def ask_on_stderr(prompt: str) -> str:
    """Reads a line. Stdout is somebody's file or pipe, where only the model's text belongs."""
    say(prompt, end="")
    return input()


def read_message(read_line: Callable[[str], str]) -> Typed:
    r"""Reads a message: a line, lines that a trailing `\` joins, or all between two fences.

    Raises:
        EOFError: Ctrl-D came instead.
    """
    line = read_line(PROMPT)
    if line.lstrip().startswith(FENCE):
        return Typed(_to_fence(line.lstrip().removeprefix(FENCE), read_line), fenced=True)
    lines = []
    while line.endswith("\\"):
        lines.append(line.removesuffix("\\"))
        line = read_line(MORE)
    return Typed("\n".join([*lines, line]))


def _to_fence(line: str, read_line: Callable[[str], str]) -> str:
    lines = []
    while not line.rstrip().endswith(FENCE):
        lines.append(line)
        line = read_line(MORE)
    return "\n".join([*lines, line.rstrip().removesuffix(FENCE)]).strip("\n")


def read_value(name: str, text: str) -> object:
    """The value of a setting: JSON, `none`, or the words themselves. A list may be given as its only element."""
    try:
        value = None if text.lower() == "none" else json.loads(text.lower() if text in {"True", "False"} else text)
    except (ValueError, RecursionError):
        value = text
    if name in {"stop_sequences", "dry_sequence_breakers"} and not isinstance(value, list):
        return [] if value is None else [value if isinstance(value, str) else text]
    if name == "stop_tokens" and isinstance(value, int):
        return [value]
    if name == "logit_bias" and isinstance(value, dict):
        # The keys of a JSON object are strings.
        return {int(key) if re.fullmatch("[0-9]{1,10}", key) else key: bias for key, bias in value.items()}
    return value
