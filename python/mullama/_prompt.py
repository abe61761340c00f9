"""The prompt of the command line: words, piped standard input, and files of text."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Sequence

MIB = 1 << 20
MAX_BYTES = 64 * MIB
"""Most bytes of text that are read from a file or a pipe; no context holds as much."""


class TextError(Exception):
    """Text cannot be read; the message says why."""


def read_prompt(words: Sequence[str]) -> str | None:
    """Returns the prompt: what is piped to standard input, then the words; None if neither is given, on a terminal.

    Raises:
        TextError: Standard input cannot be read, or it is closed and there are no words.
    """
    asked = list(words[:1]) == ["-"]
    prompt = " ".join(words[1:] if asked else words)
    if asked or words:
        piped = read_stdin() if asked or is_piped() else ""
        # A blank line between them, as between paragraphs: models take the first for what the second speaks of.
        return f"{piped}\n\n{prompt}" if piped and prompt else piped or prompt
    if sys.stdin is not None and sys.stdin.isatty():
        return None
    return read_stdin()


def is_piped() -> bool:
    """Whether standard input is open, and not a terminal."""
    if sys.stdin is None or sys.stdin.isatty():
        return False
    return sys.stdin.readable()


def read_stdin() -> str:
    """Returns standard input without its last newline.

    Raises:
        TextError: It cannot be read.
    """
    if sys.stdin is None:
        message = "no prompt: give it as PROMPT, or pipe it to standard input"
        raise TextError(message)
    try:
        given = read_limited(sys.stdin.buffer, "standard input")
    except OSError as error:
        if error.errno == errno.EBADF:  # nohup opens standard input for writing only
            return ""
        message = f"cannot read the prompt from standard input: {error.strerror}"
        raise TextError(message) from None
    # Invalid UTF-8 becomes lone surrogates, which the engine refuses.
    return given.decode(errors="surrogateescape").removesuffix("\n").removesuffix("\r")


def read_text(name: str) -> str:
    """Returns the text of a file.

    Raises:
        TextError: The file cannot be read, is too large, or is not UTF-8.
    """
    try:
        with Path(name).expanduser().open("rb") as file:
            return read_limited(file, name).decode()
    except UnicodeDecodeError as error:
        message = f"cannot read {name}: it is not UTF-8 (byte {error.start})"
    except (OSError, RuntimeError, ValueError) as error:  # no such file, no such home directory, no valid name
        message = f"cannot read {name}: {getattr(error, 'strerror', None) or error}"
    raise TextError(message)


def read_limited(file: BinaryIO, name: str) -> bytes:
    """Reads a file to its end.

    Raises:
        TextError: It holds more than `MAX_BYTES`.
    """
    given = file.read(MAX_BYTES + 1)
    if len(given) > MAX_BYTES:
        message = f"{name} holds more than {MAX_BYTES // MIB} MiB, which no context holds"
        raise TextError(message)
    return given
