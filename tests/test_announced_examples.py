"""The examples that the API was announced with, of `announced.txt`, run as they were printed there."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from guide import ROOT, Block, blocks, run_in_shell

import mullama

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parent / "announced.txt"
DEMO = ROOT / "python" / "mullama" / "models" / "demo.gguf"
RUST = ROOT / "crates" / "mullama-core" / "tests" / "announced" / "main.rs"

PYTHON = dict(zip(("first", "config", "async", "slow", "errors", "early"), blocks("python", PAGE), strict=True))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the model's file of the page."""
    (tmp_path / "model.gguf").symlink_to(DEMO)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def names(folder: Path) -> Iterator[dict[str, Any]]:
    """What the fragments of the page take from the blocks above them."""
    with mullama.Model.load(folder / "model.gguf") as model:
        config = mullama.StreamConfig(max_tokens=40)
        yield {"context": mullama.Context(model), "config": config, "model": mullama.AsyncModel(model)}


def ran(block: Block, names: dict[str, Any]) -> None:
    """Runs a block, with `await` and `async for` at its top level as a notebook allows them."""
    code = compile(block.code, PAGE, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    waited = eval(code, names)  # noqa: S307  # what it is for
    if inspect.iscoroutine(waited):
        asyncio.run(asyncio.wait_for(waited, 60))


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["first", "config", "async"])
def test_a_whole_python_program_runs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    ran(PYTHON[name], {"__name__": "__main__"})
    written = capsys.readouterr().out
    assert len(written) > 20
    if name == "async":
        assert re.search(r"\nGenerated [1-9]\d* tokens\n$", written)


@pytest.mark.parametrize("name", ["slow", "errors", "early"])
def test_a_python_fragment_runs(name: str, names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    ran(PYTHON[name], names)
    assert capsys.readouterr().out
    assert names["context"].unfinished == 0


def test_breaking_off_after_five_items_stops_the_generation(names: dict[str, Any]) -> None:
    ran(PYTHON["early"], names)
    assert 0 < names["token_count"] <= 1000
    assert names["output"].count("\n-") <= 5


def test_a_deadline_is_told_as_the_example_expects(names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    names["config"] = mullama.StreamConfig(timeout_ms=50, stream_delay_ms=20)
    ran(PYTHON["errors"], names)
    assert capsys.readouterr().out.endswith("\nGeneration timed out\n")


@pytest.mark.usefixtures("folder", "hub")
@pytest.mark.parametrize("block", blocks("bash", PAGE), ids=lambda block: f"line {block.line}")
def test_the_commands_run(block: Block) -> None:
    ran = run_in_shell(block.code)
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.strip()) > 10
    if "--verbose" in block.code:
        assert "tokens/s" in ran.stderr


def test_every_rust_block_is_in_the_tests_of_the_core() -> None:
    tested = [line.strip() for line in RUST.read_text(encoding="utf-8").splitlines()]
    text = "\n".join(line for line in tested if line)
    assert len(blocks("rust", PAGE)) == 6
    for block in blocks("rust", PAGE):
        assert "\n".join(line.strip() for line in block.code.splitlines() if line.strip()) in text, block.line
