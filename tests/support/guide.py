"""The blocks of the guide, and its Python blocks as the one program that they are."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "streaming.md"


class Block(NamedTuple):
    """A block of a page, and the line that it begins in."""

    page: Path
    line: int
    code: str


def blocks(language: str, *pages: Path) -> list[Block]:
    """The blocks of a language."""
    found = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for fence in re.finditer(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
            line = text.count("\n", 0, fence.start(1)) + 1
            found.append(Block(page, line, fence[1]))
    return found


def name(block: Block) -> str:
    """How a test is named after its block."""
    return f"{block.page.name}:{block.line}"


class Program:
    """The guide's Python blocks: one program, which runs as far as it is wanted."""

    def __init__(self) -> None:
        """Nothing has run yet."""
        self.names: dict[str, Any] = {"__name__": "guide"}
        self._blocks = blocks("python", GUIDE)
        self._written: list[str] = []

    def run_to(self, block: Block) -> str:
        """Runs the blocks that have not run, up to this one; what it wrote."""
        for each in self._blocks[len(self._written) : self._blocks.index(block) + 1]:
            # Tracebacks tell the page's own lines.
            code = compile("\n" * (each.line - 1) + each.code, str(each.page), "exec")
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(code, self.names)  # noqa: S102  # what it is for
            self._written.append(out.getvalue())
        return self._written[self._blocks.index(block)]

    def written_by(self, part: str) -> str:
        """Runs the program to the one block with this part; what it wrote."""
        [block] = [block for block in self._blocks if part in block.code]
        return self.run_to(block)
