"""Results are values: they are compared, hashed, copied, pickled and written as JSON. Handles are not."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import json
import math
import pickle
import pkgutil
import typing
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from elsewhere import generate_elsewhere

import mullama
from mullama import AsyncModel, Context, ContextParams, Model, StreamConfig, Token, integrations

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {n}": lambda value, n=n: pickle.loads(pickle.dumps(value, n)) for n in range(6)},  # type: ignore[misc]  # noqa: S301
}
VALUES: dict[str, Callable[[Context], Any]] = {
    "completion": lambda context: context.generate("Count: 1,", 5, temperature=0, logprobs=2),
    "token": lambda context: context.generate("Count: 1,", 1, logprobs=2).tokens[0],
    "usage": lambda context: context.generate("Count: 1,", 1).usage,
    "timings": lambda context: context.generate("Count: 1,", 1).timings,
    "stats": lambda context: context.stats(),
    "steps": lambda context: context.stats().decode_steps,
    "config": lambda _: StreamConfig(seed=3, logit_bias={5: -math.inf}, stop_sequences=["END"], stop_tokens=[7]),
    "params": lambda _: ContextParams(n_ctx=512, type_k="q8_0"),
}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("way", WAYS)
def test_a_value_is_equal_to_its_copies_and_has_their_hash(context: Context, value: str, way: str) -> None:
    original = VALUES[value](context)
    other = WAYS[way](original)
    assert type(other) is type(original)
    assert other == original
    assert hash(other) == hash(original)
    assert repr(other) == repr(original)
    assert type(original)(**original.to_dict()) == original


@pytest.mark.parametrize("value", VALUES)
def test_a_value_becomes_json(context: Context, value: str) -> None:
    original = VALUES[value](context)
    told = json.loads(json.dumps(original.to_dict()))
    assert told.keys() >= {field.name for field in dataclasses.fields(original)}
    assert json.loads(json.dumps(dataclasses.asdict(original))).keys() <= told.keys()


def test_a_token_is_made_from_its_fields(context: Context) -> None:
    token = context.generate("Count: 1,", 1, logprobs=2).tokens[0]
    assert Token(**token.to_dict()) == token
    assert Token("a").bytes == b"a"
    assert Token("a") == Token("a", None, b"a", 0, None, [])
    assert Token("a") != Token("a", index=1)
    assert dataclasses.replace(token, text="other").text == "other"


def test_a_token_cannot_be_changed() -> None:
    token: Any = Token("a")
    with pytest.raises(AttributeError):
        token.text = "b"


def test_the_bytes_of_an_incomplete_character_travel(context: Context) -> None:
    token = Token("", 5, b"\xf0\x9f")
    assert pickle.loads(pickle.dumps(token)).bytes == b"\xf0\x9f"  # noqa: S301  # our own bytes
    assert token.to_dict()["bytes"] == [0xF0, 0x9F]
    assert json.dumps(dataclasses.asdict(context.generate("A", 1)))


def test_the_message_of_a_completion_goes_on_with_the_chat(context: Context) -> None:
    messages = [{"role": "user", "content": "Hello!"}]
    completion = context.chat(messages, 5)
    assert completion.message == {"role": "assistant", "content": completion.text}
    messages += [completion.message, {"role": "user", "content": "Go on."}]
    assert context.chat(messages, 5).usage.prompt_tokens > completion.usage.prompt_tokens


def functions(thing: type) -> dict[str, Callable[..., object]]:
    """The functions of a class of ours, behind properties and class methods too."""
    members = {name: inspect.getattr_static(thing, name) for name in dir(thing)}
    bare = {name: getattr(value, "fget", None) or getattr(value, "__func__", value) for name, value in members.items()}
    ours = {
        name: value for name, value in bare.items() if (getattr(value, "__module__", None) or "").startswith("mullama")
    }
    return {name: value for name, value in ours.items() if inspect.isfunction(value)}


def public() -> dict[str, Any]:
    """All that a user can import by a name without an underscore, in the integrations too, and how errors are made."""
    modules = [mullama, *(importlib.import_module(f"{integrations.__name__}.{name}") for name in INTEGRATIONS)]
    named = {
        f"{module.__name__}.{name}": getattr(module, name)
        for module in modules
        for name in getattr(module, "__all__", None) or [name for name, _ in ours(module)]
    }
    return {name: value for name, value in named.items() if callable(value)}


def ours(module: ModuleType) -> list[tuple[str, Any]]:
    """The classes and functions that the module defines."""
    return [one for one in inspect.getmembers(module) if getattr(one[1], "__module__", None) == module.__name__]


INTEGRATIONS = [module.name for module in pkgutil.iter_modules(integrations.__path__)]
PUBLIC = public()


@pytest.mark.parametrize("name", PUBLIC)
def test_annotations_can_be_read_at_run_time(name: str) -> None:
    for extras in (False, True):
        typing.get_type_hints(PUBLIC[name], include_extras=extras)
        if isinstance(PUBLIC[name], type):
            for function in functions(PUBLIC[name]).values():
                typing.get_type_hints(function, include_extras=extras)
                inspect.signature(function)


def test_annotations_say_what_a_call_takes() -> None:
    hints = typing.get_type_hints(Context.chat)
    assert (hints["messages"], hints["return"]) == (mullama.Messages, mullama.Completion)
    assert typing.get_type_hints(Model)["path"] is Path
    assert typing.get_type_hints(AsyncModel.chat)["tools"] == mullama.Tools | None


def test_a_completion_comes_back_from_another_process() -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as processes:
        completion = processes.submit(generate_elsewhere).result(60)
    assert len(completion.tokens) == 3


@pytest.mark.parametrize("way", WAYS)
def test_a_handle_refuses_to_be_copied_and_says_what_to_do(model: Model, context: Context, way: str) -> None:
    for handle in (model, context, AsyncModel(model), context.generate_stream("A", 1)):
        words = f"cannot pickle or copy a {type(handle).__name__}, .*another process has to load the model itself"
        with pytest.raises(TypeError, match=words):
            WAYS[way](handle)
    load = AsyncModel.load("demo")
    with pytest.raises(TypeError, match=r"cannot pickle or copy a call of AsyncModel.load\(\); await it"):
        WAYS[way](load)
    load.close()


def test_settings_show_what_differs_from_the_defaults() -> None:
    config = StreamConfig(max_tokens=7, stop_sequences=["END"], logit_bias={3: -1})
    assert repr(config) == "StreamConfig(max_tokens=7, logit_bias={3: -1.0}, stop_sequences=('END',))"
    assert eval(repr(config)) == config  # noqa: S307  # our own
    assert (repr(StreamConfig()), repr(ContextParams(n_ctx=99))) == ("StreamConfig()", "ContextParams(n_ctx=99)")
