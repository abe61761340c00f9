"""What README and docstrings show runs as it is printed there."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
import re
import shlex
from inspect import isdatadescriptor, isroutine
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mullama
from mullama import AsyncModel, Context, Model, _cli

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The README's blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


def documented() -> Iterator[tuple[str, list[doctest.Example]]]:
    """The examples of the package, of its classes and of their members."""
    parser = doctest.DocTestParser()
    places: dict[str, object] = {"mullama": mullama}
    for name in mullama.__all__:
        thing = getattr(mullama, name)
        places[name] = thing
        if isinstance(thing, type):
            members = {f"{name}.{member}": value for member, value in vars(thing).items()}
            # A plain value has its class's docstring.
            places |= {place: value for place, value in members.items() if isroutine(value) or isdatadescriptor(value)}
    for place, thing in places.items():
        thing = getattr(thing, "__func__", thing)  # noqa: PLW2901  # of a class method, the function has the docstring
        if examples := parser.get_examples(getattr(thing, "__doc__", None) or ""):
            yield place, examples


EXAMPLES = dict(documented())


def test_there_is_something_to_run() -> None:
    assert blocks("python")
    assert blocks("sh")
    assert {"mullama", "Model", "Context", "Context.generate_stream"} <= EXAMPLES.keys()


@pytest.mark.parametrize("block", blocks("python"))
def test_a_python_block_of_the_readme_writes_text(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, "README.md", "exec"), {})  # noqa: S102  # what it is for
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("place", EXAMPLES)
def test_a_docstring_example_runs_and_shows_what_it_says(model: Model, context: Context, place: str) -> None:
    names: dict[str, object] = {
        "mullama": mullama,
        "Model": Model,
        "Context": Context,
        "AsyncModel": AsyncModel,
        "context": context,
    }
    names["model"] = AsyncModel(model) if place.startswith("AsyncModel") else model
    loop = asyncio.new_event_loop()
    for example in EXAMPLES[place]:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            code = compile(example.source, place, "single", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            awaited = eval(code, names)  # noqa: S307  # what it is for
            if inspect.iscoroutine(awaited):
                loop.run_until_complete(asyncio.wait_for(awaited, 60))
        # What a model writes is not told there.
        assert example.want in {"", out.getvalue()}
    loop.close()


@pytest.mark.parametrize("line", [line for block in blocks("sh") for line in block.splitlines()])
def test_a_command_of_the_readme_exists(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    words = [word for word in shlex.split(line, comments=True) if "=" not in word]
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert set(words[1:]) <= set(targets)
    elif words[0] == "mullama":
        monkeypatch.setattr(_cli, "read_prompt", lambda words: words)  # a conversation has a terminal
        assert isinstance(_cli.parse(words[1:]), _cli.Order)
    else:
        assert words == ["pip", "install", "."]
