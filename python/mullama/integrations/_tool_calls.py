"""Finds tool calls in a model's reply, in the form `<tool_call>{"name": …, "arguments": {…}}</tool_call>`.

Hermes introduced it; Qwen and many others use it, as does the demo model. Flow: pieces of text → **reader** → text
without the calls, and the calls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OPEN, CLOSE = "<tool_call>", "</tool_call>"

_FORM = re.compile(OPEN + r"(\\n|\s)*\{")
"""The form in the source of a template, where a newline is usually written as `\\n`."""

_TEMPLATE = "tokenizer.chat_template"
"""Metadata key of a model's template. With the suffix `.tool_use`, some models have one for chats with tools."""

_SUFFIX = "{{ mullama_answer_begins }}"
"""Appended to a template so that the reply starts with a text that the model does not choose."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call: the tool's name and arguments."""

    name: str
    arguments: dict[str, Any]


@dataclass(slots=True)
class ToolCallReader:
    """Extracts calls from a text that arrives in pieces. What only looks like a call stays text, unchanged."""

    _held: str = ""
    _inside: bool = False
    _after_call: bool = False

    def feed(self, piece: str) -> tuple[str, list[ToolCall]]:
        """Returns the text and the calls that are certain with this piece. A possible start of a call is held back."""
        self._held += piece
        text: list[str] = []
        calls: list[ToolCall] = []
        while (found := self._held.find(CLOSE if self._inside else OPEN)) >= 0:
            before = self._held[:found]
            self._held = self._held[found + len(CLOSE if self._inside else OPEN) :]
            if self._inside:
                self._finish(before, CLOSE, text, calls)
            else:
                text.append(self._past_a_call(before))
            self._inside = not self._inside
        if not self._inside:
            certain = len(self._held) - _begun(self._held)
            text.append(self._past_a_call(self._held[:certain]))
            self._held = self._held[certain:]
        return "".join(text), calls

    def end(self) -> tuple[str, list[ToolCall]]:
        """Returns what was held back. A call without its end tag counts, because some models stop before it."""
        text: list[str] = []
        calls: list[ToolCall] = []
        if self._inside:
            self._finish(self._held, "", text, calls)
        else:
            text.append(self._held)
        self._held, self._inside = "", False
        return "".join(text), calls

    def _finish(self, body: str, mark: str, text: list[str], calls: list[ToolCall]) -> None:
        call = _parsed(body)
        self._after_call = call is not None
        if call is None:
            text.append(OPEN + body + mark)
        else:
            calls.append(call)

    def _past_a_call(self, text: str) -> str:
        """The text without the newlines that templates put between two calls."""
        if self._after_call:
            text = text.lstrip()
            self._after_call = not text
        return text


def _begun(text: str) -> int:
    """How many characters at the end of the text may be the start of a call."""
    return next((size for size in range(min(len(text), len(OPEN) - 1), 0, -1) if OPEN.startswith(text[-size:])), 0)


def _parsed(body: str) -> ToolCall | None:
    try:
        call = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments", {})
    return ToolCall(call["name"], arguments) if isinstance(arguments, dict) else None


def template_for_tools(metadata: Mapping[str, str]) -> str:
    """Returns the model's template for chats with tools.

    Raises:
        ValueError: The template has no tool calls, or in another form, which could not be found in a reply.
    """
    template = metadata.get(f"{_TEMPLATE}.tool_use", metadata.get(_TEMPLATE, ""))
    if not _FORM.search(template):
        message = f'the model\'s chat template does not support tool calls of the form {OPEN}{{"name": …}}{CLOSE}'
        raise ValueError(message)
    return template


def forced(template: str, names: Sequence[str], choice: str) -> tuple[str, dict[str, str], str]:
    """Returns a template after which the reply can only be a call.

    Args:
        template: The model's template.
        names: The tools' names.
        choice: One of them, or "any".

    Returns:
        The template, the variable that it needs, and the start of the reply, which the model does not repeat.
    """
    name = names[0] if len(names) == 1 else choice
    # Ends before a space, because tokens start with the space before their word.
    begin = OPEN + '\n{"name":'
    if name != "any":
        begin += f' {json.dumps(name)}, "arguments":'
    return template + _SUFFIX, {"mullama_answer_begins": begin}, begin
