"""Shows Markdown as formatted text. Each block is written once, when it is complete, so nothing flickers."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from mullama._output import plain
from mullama._terminal import columns

if TYPE_CHECKING:
    from rich.console import Console

FENCE = re.compile(r"[ ]{0,3}(`{3,}|~{3,})")


def complete_blocks(text: str) -> tuple[str, str]:
    """Splits Markdown after its last complete block: one that a blank line and a line without indentation follow."""
    fence, end, at = "", 0, 0
    is_blank = False
    for line in text.splitlines(keepends=True):
        marker = FENCE.match(line)
        if fence:
            if marker and marker[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        else:
            if is_blank and line.strip() and not line[0].isspace():
                end = at
            fence = marker[1] if marker else ""
        is_blank = not line.strip() and not fence
        at += len(line)
    return text[:end], text[end:]


class Renderer:
    """Formats Markdown that arrives in pieces."""

    def __init__(self) -> None:
        """Starts with an empty text."""
        self._pending = ""
        self._is_first = True
        self._console = _console()

    def rendered(self, text: str, *, is_last: bool = False) -> str:
        """Adds a piece, and returns the blocks that it completes; all that is left with the last piece."""
        self._pending += text
        blocks, self._pending = (self._pending, "") if is_last else complete_blocks(self._pending)
        return self._formatted(blocks) if blocks.strip() else ""

    def _formatted(self, blocks: str) -> str:
        from rich.markdown import Markdown  # noqa: PLC0415  # slow to import, and only --render needs it

        self._console.width = columns(sys.stdout)
        with self._console.capture() as drawn:
            self._console.print(Markdown(plain(blocks)))
        gap = "" if self._is_first else "\n"
        self._is_first = False
        return gap + drawn.get().strip("\n") + "\n"


def _console() -> Console:
    from rich.console import Console  # noqa: PLC0415  # the same

    return Console(file=sys.stdout, emoji=False, highlight=False)
