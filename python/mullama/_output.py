"""Output of the command: text to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from rich.table import Table


class OutputError(Exception):
    """Standard output cannot be written to.

    Attributes:
        cause: The system's error.
    """

    def __init__(self, cause: OSError) -> None:
        """Takes the system's error."""
        super().__init__(str(cause))
        self.cause = cause


@contextmanager
def stdout() -> Iterator[TextIO]:
    """Standard output, flushed at the end of the block. Only its own errors become `OutputError`."""
    try:
        yield sys.stdout
        sys.stdout.flush()
    except OSError as error:
        raise OutputError(error) from error


def write_line(line: str) -> None:
    """Writes a line to stdout."""
    with stdout() as out:
        out.write(f"{line}\n")


def write_event(**event: object) -> None:
    """Writes one line of JSON."""
    write_line(json.dumps(event))


def write_table(table: Table) -> None:
    """Writes a table to stdout, in the characters and colours that stdout supports."""
    from rich.console import Console  # noqa: PLC0415  # slow to import, and a prompt does not need it

    # The name of a file or of a model may look like markup.
    console = Console(file=sys.stdout, markup=False, emoji=False, highlight=False)
    # Rich exits the program when nobody reads stdout any more, so its output is written here.
    with console.capture() as drawn:
        console.print(table)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    with stdout() as out:
        out.write(drawn.get())


def plain(words: str) -> str:
    """Replaces everything that could control a terminal, except newlines and tabs: a model may come from a stranger."""
    return "".join(character if character.isprintable() or character in "\n\t" else "?" for character in words)


_CONTROLS = {code: "?" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t\r"}


def without_controls(text: str) -> str:
    """Replaces control characters, with which a text could control a terminal; emoji and other scripts stay whole."""
    return text.translate(_CONTROLS)


def counted(number: int, noun: str) -> str:
    """A number with its noun, which is regular."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def say(words: str, end: str = "\n") -> None:
    """Writes a line to stderr, if it is open."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(f"{words}{end}")
        sys.stderr.flush()
    except OSError:
        discard(sys.stderr)


def discard(file: TextIO) -> None:
    """Discards what the file still buffers: Python would report an error when it flushes the file at its exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
    except OSError:  # no descriptor is left
        os.close(file.fileno())
