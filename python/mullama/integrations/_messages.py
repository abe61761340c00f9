"""Converts LangChain's messages to the mappings that chat templates read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage

_ROLES: dict[type[BaseMessage], str] = {
    SystemMessage: "system",
    HumanMessage: "user",
    AIMessage: "assistant",
    ToolMessage: "tool",
}

_NOT_REPEATED = frozenset({"tool_call", "tool_call_chunk", "tool_use", "reasoning", "thinking"})
"""Content blocks of an assistant that templates do not want: calls are in `tool_calls`, old thoughts are dropped."""


def to_mappings(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Converts the messages to mappings with "role" and "content", and "tool_calls", "tool_call_id" and "name" if set.

    Raises:
        ValueError: A message is of a type that has no role, or contains something other than text.
    """
    return [_mapping(at, message) for at, message in enumerate(messages)]


def _mapping(at: int, message: BaseMessage) -> dict[str, Any]:
    mapping: dict[str, Any] = {"role": _role(at, message), "content": _content(at, message)}
    if message.name is not None:
        mapping["name"] = message.name
    if isinstance(message, ToolMessage):
        mapping["tool_call_id"] = message.tool_call_id
    if isinstance(message, AIMessage) and message.tool_calls:
        mapping["tool_calls"] = [
            {"type": "function", "id": call["id"], "function": {"name": call["name"], "arguments": call["args"]}}
            for call in message.tool_calls
        ]
    return mapping


def _role(at: int, message: BaseMessage) -> str:
    if isinstance(message, ChatMessage):
        return message.role
    role = next((role for kind, role in _ROLES.items() if isinstance(message, kind)), None)
    if role is None:
        wrong = f"messages[{at}] is a {type(message).__name__}, for which chat templates have no role"
        raise ValueError(wrong)
    return role


def _content(at: int, message: BaseMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    return "".join(_text(f"messages[{at}].content[{n}]", message, block) for n, block in enumerate(message.content))


def _text(place: str, message: BaseMessage, block: str | dict[str, Any]) -> str:
    """The text of a content block; empty if the block is not repeated to the model."""
    if isinstance(block, str):
        return block
    kind = block.get("type")
    if kind in _NOT_REPEATED and isinstance(message, AIMessage):
        return ""
    if kind != "text":
        wrong = f"{place} is a block of type {kind!r}; a text model accepts only blocks of type 'text'"
        raise ValueError(wrong)
    text = block.get("text")
    if not isinstance(text, str):
        wrong = f"{place} must have a 'text' that is a str, not {type(text).__name__}"
        raise ValueError(wrong)  # noqa: TRY004  # as for all other contents
    return text
