"""The blocks of the documentation's pages, and a page's Python blocks as the one program that they are."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GUIDE = DOCS / "streaming.md"
SERVERS = DOCS / "servers.md"
CHAT = DOCS / "chat.md"
MODELS = DOCS / "models.md"
HTTP_PAGES = [DOCS / "server.md", DOCS / "websocket.md"]
"""The pages whose blocks need a running server."""
OTHERS = {"architecture.md", "design.md", *(page.name for page in HTTP_PAGES)}
PAGES = [page for page in sorted(DOCS.glob("*.md")) if page.name not in OTHERS]
"""The other pages that users read."""


class Block(NamedTuple):
    """A block of a page, and the line that it begins in."""

    page: Path
    line: int
    code: str


def blocks(language: str, *pages: Path) -> list[Block]:
    """The blocks of a language, which is a pattern."""
    found = []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for fence in re.finditer(r"^( *)```([^\n]*)\n(.*?)^\1```$", text, flags=re.DOTALL | re.MULTILINE):
            if re.fullmatch(language, fence[2]):
                line = text.count("\n", 0, fence.start(3)) + 1
                found.append(Block(page, line, fence[3]))
    return found


def name(block: Block) -> str:
    """How a test is named after its block."""
    return f"{block.page.name}:{block.line}"


class Program:
    """A page's Python blocks: one program, which runs as far as it is wanted."""

    def __init__(self, page: Path = GUIDE) -> None:
        """Nothing has run yet."""
        self.names: dict[str, Any] = {"__name__": "guide"}
        self._blocks = blocks("python", page)
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


def loaded_script(file: Path) -> ModuleType:
    """A script of `docs/` as a module. The folder is not on the path, where its `site.py` would hide Python's own."""
    spec = importlib.util.spec_from_file_location(f"docs_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_in_shell(
    code: str, *, folder: Path | None = None, environment: Mapping[str, str] = os.environ
) -> subprocess.CompletedProcess[str]:
    """Runs a block as a script of bash that ends at the first failure, with the command of this environment."""
    programs = Path(sys.executable).parent, os.environ["PATH"], Path(__file__).parent / "programs"
    path = os.pathsep.join(map(str, programs))
    return subprocess.run(  # the page's own
        [shutil.which("bash") or "bash", "-euo", "pipefail", "-c", code],
        cwd=folder,
        env={**environment, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
