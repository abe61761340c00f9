"""Text that the command reads: words, piped standard input, and files."""

from __future__ import annotations

import errno
import os
import stat
import sys
import threading
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mullama._output import plain, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MIB = 1 << 20
MAX_BYTES = 64 * MIB
"""Most bytes of text that are read from a file or a pipe; no context holds as much."""


PATIENCE = 3.0
"""Seconds of waiting for a pipe, after which the user is told."""


class TextError(Exception):
    """Text cannot be read; the message says why."""


def read_prompt(words: Sequence[str], *, is_stdin_taken: bool = False) -> str | None:
    """Returns the prompt: what is piped to standard input, then the words; None if neither is given, on a terminal.

    Args:
        words: The words of the command line; `-` as the first one is standard input.
        is_stdin_taken: Whether standard input holds something else.

    Raises:
        TextError: Standard input cannot be read, or it is closed and there are no words.
    """
    asked = list(words[:1]) == ["-"]
    prompt = " ".join(words[1:] if asked else words)
    if is_stdin_taken:
        if asked or not words:
            message = "standard input holds the chat template, so the prompt must be given as PROMPT"
            raise TextError(message)
        return prompt
    if asked or words:
        piped = read_stdin() if asked or is_piped() else ""
        # A blank line between them, as between paragraphs: models take the first for what the second speaks of.
        return f"{piped}\n\n{prompt}" if piped and prompt else piped or prompt
    if sys.stdin is not None and sys.stdin.isatty():
        return None
    return read_stdin()


def read_template(name: str) -> str:
    """Returns the text of a chat template, which may come from a pipe.

    Raises:
        TextError: The file cannot be read, or is empty.
    """
    text = read_text(name, is_regular=False)
    if not text.strip():
        message = f"{name} holds no chat template: it is empty"
        raise TextError(message)
    return text


def is_stdin(name: str) -> bool:
    """Whether the file is standard input."""
    try:
        return sys.stdin is not None and os.path.samestat(Path(name).stat(), os.fstat(sys.stdin.fileno()))
    except (OSError, ValueError):
        return False


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
        is_typed = sys.stdin.isatty()
        with nullcontext() if is_typed else told("standard input to end; </dev/null leaves it out"):
            given = read_limited(sys.stdin.buffer, "standard input")
    except OSError as error:
        if error.errno == errno.EBADF:  # nohup opens standard input for writing only
            return ""
        message = f"cannot read the prompt from standard input: {error.strerror}"
        raise TextError(message) from None
    # Invalid UTF-8 becomes lone surrogates, which the engine refuses.
    return given.decode(errors="surrogateescape").removesuffix("\n").removesuffix("\r")


def read_text(name: str, *, is_regular: bool = True, limit: int = MAX_BYTES) -> str:
    """Returns the text of a file.

    Args:
        name: Path of the file.
        is_regular: Whether a pipe or a device is refused. If not, the user is told of a wait that is long.
        limit: Most bytes that it may hold.

    Raises:
        TextError: The file cannot be read, is too large, is not UTF-8, or is not a regular file.
    """
    if not name:
        message = "cannot read a file whose name is empty"
        raise TextError(message)
    try:
        if is_regular:
            with open_regular(Path(name).expanduser()) as file:
                return read_limited(file, name, limit).decode()
        with told(f"{name} to end; Ctrl-C gives up"), Path(name).expanduser().open("rb") as file:
            return read_limited(file, name, limit).decode()
    except UnicodeDecodeError as error:
        message = f"cannot read {name}: it is not UTF-8 (byte {error.start})"
    except (OSError, RuntimeError, ValueError) as error:  # no such file, no such home directory, no valid name
        message = f"cannot read {name}: {getattr(error, 'strerror', None) or error}"
    raise TextError(message)


def open_regular(path: Path) -> BinaryIO:
    """Opens a file for reading. Without waiting, because a pipe of this name may have nobody at its other end.

    Raises:
        OSError: There is no such file, or it is not a regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise OSError(errno.EINVAL, "it is not a regular file")
    return os.fdopen(descriptor, "rb")


@contextmanager
def told(what: str) -> Iterator[None]:
    """Says on stderr what the command waits for, once it has waited for a while."""
    notice = threading.Timer(PATIENCE, say, [plain(f"mullama: waiting for {what}")])
    notice.daemon = True
    with suppress(RuntimeError):  # no thread is left
        notice.start()
    try:
        yield
    finally:
        notice.cancel()


def read_limited(file: BinaryIO, name: str, limit: int = MAX_BYTES) -> bytes:
    """Reads a file to its end.

    Raises:
        TextError: It holds more than the limit.
    """
    given = file.read(limit + 1)
    if len(given) > limit:
        message = f"{name} holds more than {limit // MIB} MiB, the most that is read"
        raise TextError(message)
    return given
