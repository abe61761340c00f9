"""Failures of the command: their messages, codes and exit codes, and the event that reports one under `--json`."""

from __future__ import annotations

import sys
from typing import NamedTuple

from mullama._exceptions import MullamaError
from mullama._output import OutputError, discard, plain, say, write_event
from mullama._prompt import TextError

FAILED = 1
"""Exit code of a failure that is neither the model's nor the prompt's, such as a full disk."""

WRONG = 2
"""Exit code if what the user gave cannot be used."""


class ServerError(Exception):
    """A server does not answer, or not as it should; the message says why."""


class ProgramError(Exception):
    """A program cannot be run; the message names it.

    Attributes:
        exit_code: The exit code that shells use for this.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        """Takes the message and the exit code."""
        super().__init__(message)
        self.exit_code = exit_code


class Ended(KeyboardInterrupt):
    """Ctrl-C, after the last event was written."""


class ReportedError(Exception):
    """Something failed and was reported; what is left is the exit code.

    Attributes:
        exit_code: The exit code of the first failure.
    """

    def __init__(self, exit_code: int) -> None:
        """Takes the exit code."""
        super().__init__(str(exit_code))
        self.exit_code = exit_code


class Failure(NamedTuple):
    """What the user is told of a failure."""

    message: str
    code: str
    exit_code: int


def failure_of(error: Exception) -> Failure | None:
    """What to tell of an error; None if it is a mistake of this program."""
    if isinstance(error, MullamaError):
        return Failure(plain(str(error)), error.code, error.exit_code)
    if isinstance(error, TextError | ServerError):
        is_text = isinstance(error, TextError)
        return Failure(plain(str(error)), "FILE" if is_text else "SERVER", WRONG if is_text else FAILED)
    if isinstance(error, ProgramError):
        return Failure(plain(str(error)), "PROGRAM", error.exit_code)
    if isinstance(error, MemoryError | OSError):
        words = "out of memory" if isinstance(error, MemoryError) else plain(str(error.strerror or error))
        return Failure(words, "SYSTEM", FAILED)
    # Newer versions of Typer bring a Click of their own, so the class of Click's errors has no name of its own.
    if hasattr(error, "format_message"):
        context = getattr(error, "ctx", None)
        command = "mullama" if context is None else context.command_path
        message = f"{error.format_message().rstrip('.')} (see {command} --help)"
        return Failure(plain(message), "USAGE", int(getattr(error, "exit_code", FAILED)))
    return None


def write_error(code: str, message: str) -> None:
    """Writes the event `error` that ends a command. If that fails too, the exit code is still the first failure's."""
    try:
        write_event(type="error", code=code, message=message)
    except OutputError as error:
        told(error)


def told(error: OutputError) -> bool:
    """Says that stdout cannot be written to, unless its reader has left, and discards what it still buffers."""
    discard(sys.stdout)
    if isinstance(error.cause, BrokenPipeError):
        return False
    say(f"mullama: cannot write to standard output: {error.cause.strerror}")
    return True
