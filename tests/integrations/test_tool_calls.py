"""Calls of tools are found in a text, wherever its pieces are cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mullama.integrations._tool_calls import ToolCall, ToolCallReader, forced, template_for_tools

if TYPE_CHECKING:
    from mullama import Model

BERLIN = ToolCall("get_weather", {"city": "Berlin"})
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Berlin"}}\n</tool_call>'

DEEP = '{"name": "a", "arguments": ' + "[" * 100_000
"""Deeper than Python's parser goes."""

ANSWERS = {
    "no call": ("a < b, <tool, <tool_call", "a < b, <tool, <tool_call", []),
    "a call": (CALL, "", [BERLIN]),
    "a call after words": (f"Wait. {CALL}", "Wait. ", [BERLIN]),
    "two calls": (f"{CALL}\n{CALL}", "", [BERLIN, BERLIN]),
    "words after a call": (f"{CALL}\nThere.  So.", "There.  So.", [BERLIN]),
    "a call without its end": (CALL.removesuffix("</tool_call>"), "", [BERLIN]),
    "a call without arguments": ('<tool_call>{"name": "now"}</tool_call>', "", [ToolCall("now", {})]),
    "a mark within a call": (
        CALL.replace("Berlin", "<tool_call>"),
        "",
        [ToolCall("get_weather", {"city": "<tool_call>"})],
    ),
    "no JSON": (f"<tool_call>Berlin</tool_call>{CALL}", "<tool_call>Berlin</tool_call>", [BERLIN]),
    "no name": ('<tool_call>{"city": 1}</tool_call>', '<tool_call>{"city": 1}</tool_call>', []),
    "no mapping": ('<tool_call>{"name": "a", "arguments": 1}', '<tool_call>{"name": "a", "arguments": 1}', []),
    "a thousand brackets": (f"<tool_call>{DEEP}</tool_call>", f"<tool_call>{DEEP}</tool_call>", []),
    "a call that was cut off": (CALL[:40], CALL[:40], []),
}


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("answer", ANSWERS)
def test_any_cutting_gives_the_same_text_and_calls(answer: str, size: int) -> None:
    whole, text, calls = ANSWERS[answer]
    reader = ToolCallReader()
    parts = [reader.feed(whole[at : at + size]) for at in range(0, len(whole), size)]
    parts.append(reader.end())
    assert "".join(part for part, _ in parts) == text
    assert [call for _, found in parts for call in found] == calls


def test_text_is_held_back_only_while_it_may_begin_a_call() -> None:
    reader = ToolCallReader()
    assert reader.feed("a <") == ("a ", [])
    assert reader.feed("b <tool") == ("<b ", [])
    assert reader.feed("s") == ("<tools", [])


def test_a_template_with_calls_of_another_form_is_refused(model: Model) -> None:
    assert template_for_tools(model.metadata) == model.metadata["tokenizer.chat_template"]
    for template in ("", "<tool_call>\\n<function=", "[TOOL_CALLS]"):
        with pytest.raises(ValueError, match="does not support tool calls of the form"):
            template_for_tools({"tokenizer.chat_template": template})


def test_a_template_of_its_own_for_tools_comes_first() -> None:
    ours = '<tool_call>\\n{"name": '
    assert template_for_tools({"tokenizer.chat_template": "", "tokenizer.chat_template.tool_use": ours}) == ours


@pytest.mark.parametrize(
    ("names", "choice", "begin"),
    [
        (["a", "b"], "any", '<tool_call>\n{"name":'),
        (["a", "b"], "b", '<tool_call>\n{"name": "b", "arguments":'),
        (["a"], "any", '<tool_call>\n{"name": "a", "arguments":'),
    ],
)
def test_a_forced_answer_begins_as_far_as_the_call_is_known(
    model: Model, names: list[str], choice: str, begin: str
) -> None:
    template, variables, told = forced(template_for_tools(model.metadata), names, choice)
    assert told == begin
    messages = [{"role": "user", "content": "Hello"}]
    prompt = model.apply_chat_template(messages)
    ((name, value),) = variables.items()
    assert template.removesuffix(f"{{{{ {name} }}}}") == template_for_tools(model.metadata)
    assert model.apply_chat_template(messages, chat_template=template, mullama_answer_begins=value) == prompt + begin
