"""Conversations that every chat template is asked to render."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": 'Says what the weather is: "sun" & <rain>, it\'s 5 °C.',
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "A city, such as 東京\nor Zürich"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
                "days": {"type": "integer", "minimum": 1, "maximum": 10.5},
                "places": {"type": "array", "items": {"type": ["number", "null"]}, "nullable": True},
            },
            "required": ["city"],
            "additionalProperties": False,
        },
        "return": {"type": "object", "properties": {"temperature": {"type": "number", "description": "In degrees"}}},
    },
}
CLOCK = {
    "type": "function",
    "function": {"name": "clock", "description": "The time", "parameters": {"type": "object", "properties": {}}},
}
ODD = (
    "\"double\" 'single' `back` \\n \\ \t{{ 7 * 7 }} {% raw %} {# no #} <b>&amp;</b> 👩‍👩‍👧 日本語 naïve ¿\u00a0\u2028?"
)


@dataclass(frozen=True)
class Conversation:
    """What a template is given."""

    messages: list[Message]
    tools: list[dict[str, Any]] | None = None
    add_generation_prompt: bool = True
    more: dict[str, Any] = field(default_factory=dict)


def said(role: str, content: object, **more: object) -> Message:
    """A message."""
    return {"role": role, "content": content, **more}


def called(name: str, arguments: object, call_id: str = "abcdef123") -> dict[str, Any]:
    """A call of a tool, as OpenAI writes it but for the arguments, which Hugging Face wants as a mapping."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


ASKED = said("user", "How is the weather?")
ARGUMENTS = {
    "city": 'Zürich "x" <y>',
    "days": 3,
    "exact": True,
    "factor": 0.5,
    "none": None,
    "places": [1, "a", {"b": []}],
}
CALL = said("assistant", "", tool_calls=[called("get_weather", ARGUMENTS)])
RESULT = said("tool", '{"temperature": 21.5, "sky": "blå"}', name="get_weather", tool_call_id="abcdef123")
TURNS = [said("user", "One?"), said("assistant", "Two."), said("user", "Three?"), said("assistant", "Four.")]
THOUGHT = '<think>\nHm, "so".\n</think>\n\n'

CONVERSATIONS = {
    "user": Conversation([said("user", "Hello!")]),
    "system": Conversation([said("system", "You are brief."), said("user", "Hello!")]),
    "developer": Conversation([said("developer", "You are brief."), said("user", "Hello!")]),
    "turns": Conversation([said("system", "You are brief."), *TURNS, said("user", "Five?")]),
    "ended": Conversation([said("system", "You are brief."), *TURNS], add_generation_prompt=False),
    "ended but asked": Conversation(TURNS),
    "two assistants": Conversation([*TURNS, said("assistant", "More."), said("user", "Five?")]),
    "two users": Conversation([said("user", "One?"), said("user", "Two?")]),
    "late system": Conversation([*TURNS, said("system", "Now shout."), said("user", "Five?")]),
    "odd": Conversation([said("system", ODD), said("user", ODD), said("assistant", ODD), said("user", ODD)]),
    "empty": Conversation([said("system", ""), said("user", ""), said("assistant", ""), said("user", "")]),
    "spaces": Conversation(
        [said("system", "  a\n\n"), said("user", "\n b \t"), said("assistant", " \n\n c\n "), said("user", "d\r\ne\n")]
    ),
    "none": Conversation([said("user", "One?"), said("assistant", None), said("user", "Two?")]),
    "no content": Conversation([said("user", "One?"), {"role": "assistant"}, said("user", "Two?")]),
    "no messages": Conversation([]),
    "unknown role": Conversation([said("user", "One?"), said("wizard", "Abracadabra."), said("user", "Two?")]),
    "thought": Conversation(
        [said("user", "One?"), said("assistant", f"{THOUGHT}Two."), said("user", "Three?"), said("assistant", THOUGHT)]
    ),
    "reasoning": Conversation(
        [
            said("user", "One?"),
            said("assistant", "Two.", reasoning_content="Hm, one.", thinking="Hm, one."),
            said("user", "Three?"),
            said("assistant", "Four.", reasoning_content="Hm, three.", thinking="Hm, three."),
        ],
        add_generation_prompt=False,
    ),
    "no thinking": Conversation([*TURNS, said("user", "Five?")], more={"enable_thinking": False, "thinking": False}),
    "thinking": Conversation(
        [said("system", "You are brief."), *TURNS, said("user", "Five?")],
        more={"enable_thinking": True, "thinking": True, "reasoning_effort": "high"},
    ),
    "tools": Conversation([said("system", "You are brief."), ASKED], [WEATHER, CLOCK]),
    "tools without system": Conversation([ASKED], [CLOCK, WEATHER]),
    "no tools": Conversation([ASKED], []),
    "call": Conversation([ASKED, CALL], [WEATHER], add_generation_prompt=False),
    "call without content": Conversation(
        [ASKED, {"role": "assistant", "tool_calls": [called("clock", {})]}], [CLOCK], add_generation_prompt=False
    ),
    "result": Conversation([said("system", "You are brief."), ASKED, CALL, RESULT], [WEATHER, CLOCK]),
    "result without tools": Conversation([ASKED, CALL, RESULT]),
    "arguments as text": Conversation(
        [ASKED, said("assistant", "", tool_calls=[called("get_weather", '{"city": "Bern"}')]), RESULT], [WEATHER]
    ),
    "two calls": Conversation(
        [
            ASKED,
            said(
                "assistant", "I look.", tool_calls=[called("get_weather", ARGUMENTS), called("clock", {}, "123456abc")]
            ),
            RESULT,
            said("tool", "12:00\n<noon>", name="clock", tool_call_id="123456abc"),
            said("assistant", "It is noon."),
            said("user", "Thanks."),
        ],
        [WEATHER, CLOCK],
    ),
    "bare calls": Conversation(
        [ASKED, said("assistant", "", tool_calls=[{"name": "clock", "arguments": {"zone": "UTC"}}]), RESULT], [CLOCK]
    ),
    "thought call": Conversation(
        [
            ASKED,
            said("assistant", "", reasoning_content="I must look.", tool_calls=[called("get_weather", ARGUMENTS)]),
            RESULT,
            said("assistant", "21 degrees.", reasoning_content="It said 21.5."),
            said("user", "And tomorrow?"),
        ],
        [WEATHER],
    ),
    "result in parts": Conversation(
        [ASKED, CALL, said("tool", [{"type": "text", "text": "21 <°C>"}], tool_call_id="abcdef123")], [WEATHER]
    ),
    "result as mapping": Conversation(
        [ASKED, CALL, said("tool", {"temperature": 21.5, "sky": ["blå", None, True]}, tool_call_id="abcdef123")],
        [WEATHER],
    ),
    "parts": Conversation(
        [
            said("system", [{"type": "text", "text": "You are brief."}]),
            said("user", [{"type": "text", "text": "One "}, {"type": "text", "text": "and two?\n"}]),
            said("assistant", [{"type": "text", "text": "Three."}]),
            said("user", [{"type": "text", "text": ODD}]),
        ]
    ),
    "image": Conversation(
        [said("user", [{"type": "image", "image": "a.png"}, {"type": "text", "text": "What is it?"}])]
    ),
    "no parts": Conversation([said("user", []), said("assistant", "Hm."), said("user", "Hello!")]),
    "numbers": Conversation([said("user", 7), said("assistant", 2.5), said("user", 1e20)]),
    "documents": Conversation(
        [ASKED], more={"documents": [{"title": "Sky", "text": "It is blue."}, {"title": "Sea", "text": "So is it."}]}
    ),
}
