"""Converts messages for the native module: checks their types and serializes them to JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

from mullama import _mullama
from mullama._arguments import expect
from mullama._completion import Completion
from mullama._display import shortened
from mullama._exact import MOST_ITEMS, as_bool, kind_of
from mullama._late_imports import late_import

Messages: TypeAlias = Sequence[Mapping[str, Any]]
"""A conversation, oldest message first: mappings with a "role" and usually a "content", as in OpenAI's API."""

Tools: TypeAlias = Sequence[Mapping[str, Any]]
"""Tools that a model may call: JSON schemas, or mappings that have one under "function"."""

_EXAMPLE = '{"role": "user", "content": "Hello!"}'


def chat_of(
    messages: Messages,
    tools: Tools | None,
    chat_template: str | None,
    chat_template_kwargs: Mapping[str, Any] | None,
    *,
    add_generation_prompt: bool = True,
) -> _mullama.Chat:
    """Returns the chat as the native module takes it.

    The core normalises messages where they become a prompt, for Python and Rust alike; only types are checked here.

    Raises:
        TypeError: An argument has the wrong type, or contains what JSON cannot express.
    """
    if chat_template is not None:
        expect("chat_template", chat_template, str)
    chat = {
        "messages": [_message(at, message) for at, message in enumerate(_items("messages", messages))],
        "tools": None if tools is None else _tools(tools),
        "chat_template": chat_template,
        "chat_template_kwargs": {}
        if chat_template_kwargs is None
        else _mapping("chat_template_kwargs", chat_template_kwargs),
        "add_generation_prompt": as_bool("add_generation_prompt", add_generation_prompt),
    }
    with late_import():
        import json  # noqa: PLC0415  # only programs that chat need it
    try:
        return _mullama.Chat(json.dumps(chat, ensure_ascii=False, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        message = f"messages, tools and chat_template_kwargs must be JSON: {shortened(str(error), 200)}"
        raise TypeError(message) from None


def _items(argument: str, value: object) -> Sequence[Any]:
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
        example = f", such as [{_EXAMPLE}]" if argument == "messages" else ""
        message = f"{argument} must be a list of mappings{example}, not {kind_of(value)}"
        raise TypeError(message)
    items = list(islice(value, MOST_ITEMS + 1))
    if len(items) > MOST_ITEMS:
        message = f"{argument} must be a list of at most {MOST_ITEMS} mappings"
        raise ValueError(message)
    return items


def _message(at: int, message: object) -> dict[str, Any]:
    if isinstance(message, Completion):
        wrong = f"messages[{at}] must be a mapping, not Completion; its message is completion.message"
        raise TypeError(wrong)
    fields = _mapping(f"messages[{at}]", message, f", such as {_EXAMPLE}")
    if "role" not in fields:
        wrong = f"messages[{at}] has no 'role', such as 'system', 'user', 'assistant' or 'tool'"
        raise TypeError(wrong)
    role = fields["role"]
    if not isinstance(role, str):
        wrong = f"messages[{at}] must have a 'role' that is a str, not {kind_of(role)}"
        raise TypeError(wrong)
    return fields


def _tools(tools: Tools) -> list[dict[str, Any]]:
    return [_mapping(f"tools[{at}]", tool) for at, tool in enumerate(_items("tools", tools))]


def _mapping(argument: str, value: object, example: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        message = f"{argument} must be a mapping{example}, not {kind_of(value)}"
        raise TypeError(message)
    return dict(value)
