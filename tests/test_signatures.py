"""Signatures as `help`, `inspect` and completion see them."""

from __future__ import annotations

import inspect
import pydoc
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest

from mullama import AsyncModel, Completion, Context, ContextParams, Model, StreamConfig, Token

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = [
    getattr(of, name) for of in (Context, AsyncModel) for name in ("generate_stream", "generate", "chat_stream", "chat")
]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__qualname__)
def test_a_call_shows_every_setting_as_a_keyword_with_its_default(call: Callable[..., Any]) -> None:
    shown = inspect.signature(call).parameters
    assert shown["max_tokens"].default is None
    for field in fields(StreamConfig):
        if field.name != "max_tokens":
            assert shown[field.name].kind is inspect.Parameter.KEYWORD_ONLY
            assert shown[field.name].default == getattr(StreamConfig(), field.name)
            assert shown[field.name].annotation == field.type
    assert not [one for one in shown.values() if one.kind is inspect.Parameter.VAR_KEYWORD]
    assert "xtc_probability: 'float' = 0.0" in pydoc.plain(pydoc.render_doc(call))


def test_an_async_call_is_still_a_coroutine_function() -> None:
    assert inspect.iscoroutinefunction(AsyncModel.generate)
    assert inspect.iscoroutinefunction(AsyncModel.chat)


def test_a_repr_is_one_short_line_and_names_what_is_not_the_default(model: Model) -> None:
    with Context(model, ContextParams(n_ctx=512, n_threads=1)) as context:
        assert repr(context) == "<Context on 'demo.gguf', n_ctx=512, n_threads=1>"
        assert repr(AsyncModel(model)) == "<AsyncModel on 'demo.gguf'>"
        completion = context.generate("A", 256, ignore_eos=True)
        assert repr(completion).startswith("<Completion length, 256 tokens: ")
        assert len(repr(completion)) < 200


def test_html_shows_generated_text_escaped_and_bounded(context: Context) -> None:
    original = context.generate("A", 1)
    values = {field.name: getattr(original, field.name) for field in fields(Completion)}
    shown = Completion(**{**values, "text": "<script>" + "&" * 100_000})._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert len(shown) < 12_000


def test_the_docstring_of_a_token_says_how_texts_are_joined(context: Context) -> None:
    assert '"".join(map(str, tokens))' in (Token.__doc__ or "")
    stream = context.generate_stream("A", 3)
    assert "".join(map(str, stream)) == stream.text
