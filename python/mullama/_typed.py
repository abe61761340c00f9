"""Reads what a user types: lines with history and editing, multi-line messages, and values of settings."""

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
    """A message as the user typed it.

    Attributes:
        text: The lines of the message.
        fenced: Whether it was typed between fences, inside which there are no commands.
    """

    text: str
    fenced: bool = False


def line_reader() -> Callable[[str], str]:
    """Returns a function like `input`, with history and editing if stdout is a terminal."""
    # Invalid UTF-8 becomes lone surrogates, which the engine refuses.
    sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    if not sys.stdout.isatty():
        return ask_on_stderr
    with contextlib.suppress(ImportError):  # Python may have been built without it
        import readline  # noqa: F401, PLC0415  # `input` uses it once it is imported; it may write to stdout
    return input


def ask_on_stderr(prompt: str) -> str:
    """Reads a line, with the prompt on stderr: stdout is a file or a pipe that gets only the model's text."""
    say(prompt, end="")
    return input()


def read_message(read_line: Callable[[str], str]) -> Typed:
    r"""Reads a message: a line, several lines joined by a trailing `\`, or all lines between two fences.

    Raises:
        EOFError: The user pressed Ctrl-D.
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
    """Parses the value of a setting: JSON, `none`, or plain text. An element may stand for a list of it alone."""
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
