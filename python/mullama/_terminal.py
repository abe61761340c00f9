"""What a terminal gets beside plain text: lines that break between words, and a spinner while nothing is shown."""

from __future__ import annotations

import os
import sys
import threading
import unicodedata
from typing import TYPE_CHECKING

from mullama._output import say

if TYPE_CHECKING:
    from typing import TextIO

    from typing_extensions import Self

FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
FRAME_SECONDS = 0.1
PATIENCE = 0.2
"""Seconds before the spinner appears: what is quick should not flicker."""

TAB = 8


def is_capable(file: TextIO | None) -> bool:
    """Whether the file is a terminal that can move its cursor."""
    return file is not None and file.isatty() and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}


def columns(file: TextIO) -> int:
    """The width of the terminal; 80 if it is unknown."""
    try:
        return os.get_terminal_size(file.fileno()).columns or 80
    except OSError:
        return 80


def tell(words: str) -> None:
    """Writes lines to stderr, and breaks them between words if it is a terminal."""
    if sys.stderr is not None and is_capable(sys.stderr):
        limit = max(1, columns(sys.stderr) - 1)
        lines = [broken(line, limit) if len(line) > limit else line for line in words.split("\n")]
        words = "\n".join(lines)
    say(words)


def broken(line: str, limit: int) -> str:
    """A line in several; a word that is longer than the limit stays whole."""
    import textwrap  # noqa: PLC0415  # only narrow terminals need it

    return textwrap.fill(line, limit, break_long_words=False, break_on_hyphens=False, replace_whitespace=False)


def width(character: str) -> int:
    """Number of columns that a character takes."""
    if unicodedata.east_asian_width(character) in "WF":
        return 2
    # Marks and format characters are drawn onto the character before them; control characters are not drawn.
    return 0 if unicodedata.category(character) in {"Mn", "Me", "Cf", "Cc"} else 1


class Wrapper:
    """Breaks lines between words as text arrives in pieces: a word that would cross the right edge moves down."""

    def __init__(self) -> None:
        """Starts in the first column."""
        self._column = 0
        self._word = ""
        self._word_width = 0

    def wrapped(self, text: str, columns: int) -> str:
        """Returns what to write so that the terminal shows the text."""
        return "".join(self._next(character, columns) for character in text)

    def _next(self, character: str, columns: int) -> str:
        if character in "\n\r":
            self._start(0)
            return character
        size = TAB - self._column % TAB if character == "\t" else width(character)
        # The last column stays empty: a cursor in it behaves differently on each terminal.
        if self._column + size < columns:
            self._put(character, size)
            return character
        if character.isspace():
            self._start(0)
            return "\n"
        if self._word_width + size < columns and self._word_width < self._column:
            word = self._word
            back = f"\x1b[{self._word_width}D\x1b[K" if word else ""
            self._column = self._word_width
            self._put(character, size)
            return f"{back}\n{word}{character}"
        # The word is longer than a line, for example an address: the terminal breaks it, and it can be copied whole.
        self._column = (self._column + size) % columns
        self._word = ""
        self._word_width = 0
        return character

    def _put(self, character: str, size: int) -> None:
        self._column += size
        if character.isspace() or size > 1:  # lines of Chinese or Japanese may break after any character
            self._start(self._column)
        else:
            self._word += character
            self._word_width += size

    def _start(self, column: int) -> None:
        self._column = column
        self._word = ""
        self._word_width = 0


class Spinner:
    """Shows that the program works while there is nothing to show yet. Does nothing where stderr is not a terminal."""

    def __init__(self, words: str = "") -> None:
        """Starts to turn after a moment, with these words beside it."""
        self.words = words
        self.is_shown = is_capable(sys.stderr) and is_capable(sys.stdout)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._turn, daemon=True, name="mullama-spinner")
        if self.is_shown:
            self._thread.start()

    def stop(self) -> None:
        """Removes it from the terminal. Stopping again does nothing."""
        if self.is_shown and not self._stopped.is_set():
            self._stopped.set()
            self._thread.join()

    def tell(self, fraction: float) -> None:
        """Shows how far a load is."""
        self.words = f"loading the model, {fraction:.0%}"

    def _turn(self) -> None:
        if self._stopped.wait(PATIENCE):
            return
        at = 0
        while not self._stopped.is_set():
            say(f"\r{frame(at)} {self.words}\x1b[K", end="")
            at += 1
            self._stopped.wait(FRAME_SECONDS)
        say("\r\x1b[K", end="")

    def __enter__(self) -> Self:
        """The spinner; the end of the block stops it."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stops it."""
        self.stop()


def frame(at: int) -> str:
    """A frame of the spinner, in characters that stderr has."""
    frames = FRAMES if (sys.stderr.encoding or "").lower().startswith("utf") else "|/-\\"
    return frames[at % len(frames)]
