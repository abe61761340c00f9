"""LangChain's messages as the mappings that chat templates read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROLES: dict[type[BaseMessage], str] = {
    SystemMessage: "system",
    HumanMessage: "user",
    AIMessage: "assistant",
    ToolMessage: "tool",
}

_NOT_REPEATED = frozenset({"tool_call", "tool_call_chunk", "tool_use", "reasoning", "thinking"})
"""Blocks of an assistant's content that no template wants there: calls stand in `tool_calls`, old thoughts are over."""


def to_mappings(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """The messages with "role" and "content", and "tool_calls", "tool_call_id" and "name" where they have them.

    Raises:
        ValueError: A message is of a kind without a role, or holds something that is no text.
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
        wrong = f"messages[{at}] is a {type(message).__name__}, which chat templates have no role for"
        raise ValueError(wrong)
    return role


def _content(at: int, message: BaseMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    texts = []
    for block in message.content:
        kind = "text" if isinstance(block, str) else block.get("type")
        if kind == "text":
            texts.append(block if isinstance(block, str) else block["text"])
        elif kind not in _NOT_REPEATED or not isinstance(message, AIMessage):
            wrong = f"messages[{at}] holds a block of type {kind!r}; a model of text reads blocks of type 'text' only"
            raise ValueError(wrong)
    return "".join(texts)
