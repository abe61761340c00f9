"""Where the command writes: text to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

    from rich.table import Table

    from mullama._stream import TokenStream


def write_pieces(stream: TokenStream, *, at_once: bool) -> None:
    """Reads the stream to its end, and writes each piece as it comes if that is wanted. `write_rest` is to follow."""
    # A terminal that cannot show a character gets a question mark, not a traceback.
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    for token in stream:
        if at_once:
            sys.stdout.write(token.text)
            sys.stdout.flush()


def write_rest(stream: TokenStream, *, at_once: bool) -> None:
    """Writes what `write_pieces` did not, and ends the last line."""
    text = stream.text
    if not at_once:
        sys.stdout.write(text)
    if text and not text.endswith("\n"):
        sys.stdout.write("\n")
    sys.stdout.flush()


def write_line(line: str) -> None:
    """Writes a line to stdout."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def write_event(**event: object) -> None:
    """Writes one line of JSON."""
    write_line(json.dumps(event))


def write_table(table: Table) -> None:
    """Writes a table to stdout, in no more characters and colours than that can show."""
    from rich.console import Console  # noqa: PLC0415  # is slow to import, and a prompt needs no table

    # A file's or a model's name may look like markup.
    console = Console(file=sys.stdout, markup=False, emoji=False, highlight=False)
    # Rich ends the program itself where nobody reads any more, so what it draws is written here.
    with console.capture() as drawn:
        console.print(table)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    sys.stdout.write(drawn.get())
    sys.stdout.flush()


def plain(words: str) -> str:
    """The words without what a terminal obeys, lines apart: a model's file is a stranger's."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in words)


def say(words: str, end: str = "\n") -> None:
    """Writes a line to stderr, if anyone takes it."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(f"{words}{end}")
        sys.stderr.flush()
    except OSError:
        mute(sys.stderr)


def mute(file: TextIO) -> None:
    """Sends what the file still holds nowhere: Python would complain when it flushes it at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
