"""A keyword of another call is refused with a hint, and what the hint says can be called."""

from __future__ import annotations

import ast
import asyncio
import functools
import inspect
import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

import mullama
from mullama import AsyncModel, Context, ContextParams, Model, StreamConfig, _keywords

if TYPE_CHECKING:
    from collections.abc import Callable

USER = [{"role": "user", "content": "Hello!"}]
CALLS: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "Model.load": lambda _, options: Model.load("demo", **options),
    "AsyncModel.load": lambda _, options: AsyncModel.load("demo", **options),
    "Context": lambda model, options: Context(model.model, **options),
    "AsyncModel": lambda model, options: AsyncModel(model.model, **options),
    "StreamConfig": lambda _, options: StreamConfig(**options),
    "ContextParams": lambda _, options: ContextParams(**options),
    **{
        f"{kind}.{name}": lambda model, options, kind=kind, name=name: getattr(  # type: ignore[misc]
            model if kind == "AsyncModel" else model.context, name
        )(USER if name.startswith("chat") else "A", **options)
        for kind in ("Context", "AsyncModel")
        for name in ("generate", "generate_stream", "chat", "chat_stream")
    },
}
VALUES: dict[str, Any] = {
    "StreamConfig": {field.name: getattr(StreamConfig(max_tokens=1), field.name) for field in fields(StreamConfig)},
    "ContextParams": {field.name: getattr(ContextParams(n_ctx=256), field.name) for field in fields(ContextParams)},
    "Model.load": {
        name: parameter.default
        for name, parameter in inspect.signature(Model.load).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    },
    "chat": {"tools": None, "chat_template": "{{ messages[0].content }}", "chat_template_kwargs": {}},
    "generate": {"config": StreamConfig(max_tokens=1)},
}


@pytest.fixture(scope="module")
def async_model(model: Model) -> Any:  # noqa: ANN401  # any call may be tried
    return AsyncModel(model)


def refusal(call: str, model: Any, name: str, value: object) -> str | None:  # noqa: ANN401  # any call may be tried
    """What the call says of the keyword; None if it takes it."""
    try:
        result = CALLS[call](model, {name: value})
        if inspect.iscoroutine(result):
            asyncio.run(result)
        elif hasattr(result, "close"):
            result.close()
    except TypeError as error:
        return str(error)
    return None


def follow(advice: str, name: str, value: object, model: Any) -> None:  # noqa: ANN401  # any call may be tried
    """Does what the advice says, with the value in place of the dots."""
    names = {
        **vars(mullama),
        "model": model if "await model." in advice else model.model,
        "context": model.context,
        "path": "demo",
        "prompt": "A",
        "messages": USER,
        "value": value,
    }
    for expression in advice.split(" or "):
        called = expression.replace("=...", "=value")
        assert f"{name}=value" in called
        result = eval(compile(called, "advice", "eval", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)  # noqa: S307  # ours
        if inspect.iscoroutine(result):
            asyncio.run(result)


@functools.cache
def follow_once(advice: str, owner: str, name: str, model: Any) -> None:  # noqa: ANN401  # any call may be tried
    """Many calls give the same advice."""
    follow(advice, name, VALUES[owner][name], model)


@pytest.mark.parametrize("owner", VALUES)
@pytest.mark.parametrize("call", CALLS)
def test_the_advice_of_a_hint_can_be_followed(call: str, owner: str, async_model: Any) -> None:  # noqa: ANN401  # any call
    for name, value in VALUES[owner].items():
        if (said := refusal(call, async_model, name, value)) is None:
            continue
        known = f"{call}() got an unexpected keyword argument '{name}'. "
        advised = re.fullmatch(rf"'{name}' belongs to {owner}: (.*)", said.removeprefix(known))
        assert advised, said
        if call.startswith("AsyncModel."):
            assert "Context(" not in advised[1]
        follow_once(advised[1], owner, name, async_model)


@pytest.mark.parametrize("call", CALLS)
def test_every_name_of_another_library_is_told_by_ours_in_every_call(call: str, async_model: Any) -> None:  # noqa: ANN401  # any call
    for name, ours in _keywords.ELSEWHERE.items():
        said = refusal(call, async_model, name, None)
        if said is not None and "unexpected keyword argument" in said:
            told = said.partition(". ")[2]
            assert told.startswith((f"Did you mean '{ours}'?", f"'{ours}' belongs to ")) or told in set(
                _keywords._INSTEAD.values()
            ), said


def test_each_name_of_another_library_stands_for_a_keyword_of_ours() -> None:
    known = {name for names in _keywords._known.values() for name in names}
    assert set(_keywords.ELSEWHERE.values()) <= known
    assert not set(_keywords.ELSEWHERE) & {
        field.name for table in (StreamConfig, ContextParams) for field in fields(table)
    }
    assert not set(_keywords.ELSEWHERE) & set(_keywords._INSTEAD) - {"params"}
