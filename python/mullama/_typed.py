"""What a user types: where a message ends, and how it is read where the terminal can only show lines."""

from __future__ import annotations

import contextlib
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
OPENED = re.compile(rf"\s*(?:/set\s+\w+\s+)?{FENCE}")
"""How a text begins that goes on to the next fence: a message, or the value of a setting."""


@dataclass(frozen=True, slots=True)
class Typed:
    """A message as the user typed it.

    Attributes:
        text: The lines of the message.
        fenced: Whether it was typed between fences, inside which there are no commands.
    """

    text: str
    fenced: bool = False


def is_complete(text: str) -> bool:
    r"""Whether Enter sends the text: its fence is closed, and its last line does not end with `\`."""
    opened = OPENED.match(text)
    if opened:
        return text.rstrip().endswith(FENCE) and len(text.rstrip()) >= opened.end() + len(FENCE)
    return not text.endswith("\\")


def typed_of(text: str) -> Typed:
    r"""The message that a complete text stands for: without its fences, or without each `\` at the end of a line."""
    stripped = text.strip()
    if stripped.startswith(FENCE):
        return Typed(stripped.removeprefix(FENCE).removesuffix(FENCE).strip("\n"), fenced=True)
    if OPENED.match(text):
        return Typed(stripped)
    return Typed(text.replace("\\\n", "\n").rstrip("\n"))


def line_reader() -> Callable[[str], str]:
    """Returns a function like `input`, with editing if stdout is a terminal."""
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
    """Reads lines until they are a complete message.

    Raises:
        EOFError: The user pressed Ctrl-D.
    """
    text = read_line(PROMPT)
    while not is_complete(text):
        text += "\n" + read_line(MORE)
    return typed_of(text)
