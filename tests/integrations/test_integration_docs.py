"""What the docstrings of the integrations show runs as it is printed there."""

from __future__ import annotations

import contextlib
import doctest
import io
from inspect import isroutine
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI

from mullama import AsyncModel, Model, MullamaError
from mullama.integrations import fastapi, langchain
from mullama.integrations.langchain import ChatMullama

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


def documented(module: ModuleType) -> Iterator[tuple[str, list[doctest.Example]]]:
    """The examples of a module, of what it exports and of its classes' members."""
    places: dict[str, Any] = {module.__name__: module}
    for name in module.__all__:
        places[name] = thing = getattr(module, name)
        if isinstance(thing, type):
            places |= {f"{name}.{member}": value for member, value in vars(thing).items() if isroutine(value)}
    for place, thing in places.items():
        if examples := doctest.DocTestParser().get_examples(thing.__doc__ or ""):
            yield place, examples


EXAMPLES = dict(documented(fastapi)) | dict(documented(langchain))


def test_there_is_something_to_run() -> None:
    assert {"sse_response", "error_response", "install_error_handlers", "ChatMullama.bind_tools"} <= EXAMPLES.keys()


@pytest.mark.parametrize("place", EXAMPLES)
def test_an_example_runs_and_shows_what_it_says(model: Model, place: str) -> None:
    names: dict[str, Any] = vars(fastapi) | {"MullamaError": MullamaError, "app": FastAPI()}
    names |= {"model": AsyncModel(model), "llm": ChatMullama(model), "ChatMullama": ChatMullama}
    for example in EXAMPLES[place]:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(example.source, place, "single"), names)  # noqa: S102  # what it is for
        # What a model writes is not told there.
        assert example.want in {"", out.getvalue()}


@pytest.mark.parametrize("module", [fastapi, langchain])
def test_every_public_name_has_a_docstring(module: ModuleType) -> None:
    assert [name for name in module.__all__ if not getattr(module, name).__doc__] == []
