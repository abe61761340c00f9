"""The pages on the HTTP server: every block of them runs, against a real server on a port of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from command import COMMAND
from guide import HTTP_PAGES, ROOT, Block, blocks, name, run_in_shell
from http_server import LIMIT, Serving, serving
from hub import HubServer, fresh

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

DEMO = ROOT / "python" / "mullama" / "models" / "demo.gguf"
SHELL = blocks("sh", *HTTP_PAGES)
BEGINNING = re.compile(r"mullama serve (.*)")


@pytest.fixture(scope="module")
def server(hub_server: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The server that the pages begin with."""
    hub_server.reset()
    environment = fresh(hub_server, tmp_path_factory.mktemp("home"))
    with serving("--model", "llama3.2:1b", "--websocket", env=environment) as running:
        yield running


def at(server: Serving, code: str) -> str:
    """The block for the server's own port in place of the usual one."""
    return code.replace(":8080", f":{server.url.rpartition(':')[2]}")


def test_there_is_something_to_run() -> None:
    assert len(SHELL) > 2
    assert len(blocks("python", *HTTP_PAGES)) > 1


@pytest.mark.parametrize(
    "page", [page for page in HTTP_PAGES if blocks(r"rust[,\w]*", page)], ids=lambda page: page.name
)
def test_the_rust_blocks_are_doctests_of_the_crate(page: Path) -> None:
    crate = (ROOT / "crates" / "mullama-server" / "src" / "lib.rs").read_text(encoding="utf-8")
    assert f'#[doc = include_str!("../../../docs/{page.name}")]' in crate


@pytest.mark.parametrize("block", SHELL, ids=name)
def test_a_shell_block_runs(block: Block, server: Serving, hub_server: HubServer, tmp_path: Path) -> None:
    environment = {**fresh(hub_server, tmp_path), "MULLAMA_URL": server.url}
    if begun := BEGINNING.search(block.code):
        with serving(*begun[1].split(), env=environment) as running:
            assert running.stop() == 0
        return
    ran = run_in_shell(at(server, block.code), folder=tmp_path, environment=environment)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()
    assert '"error"' not in ran.stdout


@pytest.mark.parametrize("block", blocks("python", *HTTP_PAGES), ids=name)
def test_a_python_block_is_a_program_that_runs(block: Block, server: Serving, tmp_path: Path) -> None:
    (tmp_path / "model.gguf").symlink_to(DEMO)
    ran = subprocess.run(
        [sys.executable, "-c", at(server, block.code)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{os.path.dirname(COMMAND[0])}:{os.environ['PATH']}"},  # noqa: PTH120  # a text
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()
