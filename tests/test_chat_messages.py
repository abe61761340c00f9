"""Messages in the shapes of OpenAI's API reach the prompt, whatever template renders them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from vendor import Vendor, vendor

from mullama import ChatTemplateError, Context, Model
from mullama._chat import chat_of

if TYPE_CHECKING:
    from collections.abc import Sequence

# The first test downloads the templates.
pytestmark = pytest.mark.timeout(600)

TEMPLATES = [
    "GLM-4.7-Flash",
    "HuggingFaceTB-SmolLM3-3B",
    "MiniMax-M2",
    "Qwen-Qwen2.5-7B-Instruct",
    "Qwen-Qwen3-0.6B",
    "Qwen3-Coder",
    "Qwen3.5-4B",
    "google-gemma-2-2b-it",
    "meta-llama-Llama-3.1-8B-Instruct",
]
WITH_TOOLS = [name for name in TEMPLATES if "gemma" not in name and "SmolLM3" not in name]


@pytest.fixture(scope="module")
def vendored() -> Vendor:
    """The templates, downloaded at the first run."""
    return vendor()


def prompt(model: Model, messages: Sequence[dict[str, Any]], source: str | None = None) -> str:
    """The prompt that the engine computes."""
    return model.detokenize(model._native.tokenize_chat(chat_of(messages, None, source, None)))


def history(content: object, arguments: object) -> list[dict[str, Any]]:
    call = {"id": "call12345", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    return [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": content, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call12345", "content": "sunny"},
    ]


@pytest.mark.parametrize("name", TEMPLATES)
def test_text_parts_are_joined(model: Model, vendored: Vendor, name: str) -> None:
    source = vendored.template(name)
    parts = [{"type": "text", "text": "PART-ONE"}, {"type": "text", "text": "PART-TWO"}]
    said = prompt(model, [{"role": "user", "content": parts}], source)
    assert said == prompt(model, [{"role": "user", "content": "PART-ONE\nPART-TWO"}], source)
    assert "PART-ONE\nPART-TWO" in said


@pytest.mark.parametrize("name", WITH_TOOLS)
def test_arguments_in_a_text_are_those_of_an_object(model: Model, vendored: Vendor, name: str) -> None:
    source = vendored.template(name)
    said = prompt(model, history("", '{"city": "PARIS", "days": 3}'), source)
    assert said == prompt(model, history("", {"city": "PARIS", "days": 3}), source)
    assert "PARIS" in said
    assert '\\"city' not in said


@pytest.mark.parametrize("name", WITH_TOOLS)
def test_no_content_beside_a_tool_call_writes_nothing(model: Model, vendored: Vendor, name: str) -> None:
    source = vendored.template(name)
    said = prompt(model, history(None, {"city": "PARIS"}), source)
    assert said == prompt(model, history("", {"city": "PARIS"}), source)
    without = history("", {"city": "PARIS"})
    del without[1]["content"]
    assert said == prompt(model, without, source)
    assert "None" not in said


USER = {"role": "user", "content": "Hello!"}
IMAGE = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "messages is empty"),
        ([USER, {"role": "user", "content": IMAGE}], r'messages\[1\]: content\[0\] is of the type "image_url"'),
        ([USER, {"role": "user", "content": 7}], r"messages\[1\]: the content must be a text .*, not a number"),
        ([USER, {"role": "user", "content": None}], r"messages\[1\]: the content is missing"),
        ([USER, {"role": "assistant"}], r"messages\[1\]: the content is missing"),
        ([USER, {"role": "", "content": "x"}], r"messages\[1\]: the role is empty"),
        (history("", "{oops"), r"messages\[1\]: the arguments of tool_calls\[0\] are not valid JSON"),
    ],
)
def test_a_message_that_has_no_text_is_refused_with_its_index(
    context: Context, messages: list[dict[str, Any]], reason: str
) -> None:
    with pytest.raises(ChatTemplateError, match=reason) as caught:
        context.chat(messages, 5)
    assert caught.value.line is None


def test_a_role_that_the_template_leaves_out_is_refused(model: Model) -> None:
    source = "{% for m in messages %}{% if m.role in ['user', 'tool'] %}{{ m.content }}{% endif %}{% endfor %}"
    said = [USER, {"role": "wizard", "content": "Abracadabra."}]
    with pytest.raises(ChatTemplateError, match=r'messages\[1\]: .* leaves out messages of the role "wizard"'):
        prompt(model, said, source)
    assert prompt(model, [USER, {"role": "tool", "content": "sunny"}], source).strip() == "Hello!sunny"
    # Hugging Face's function renders what the template renders.
    assert model.apply_chat_template(said, chat_template=source) == "Hello!"


def test_a_message_of_all_possible_marks_is_as_quick_as_another(model: Model) -> None:
    ranges = [range(0xFDD0, 0xFDF0), range(0xF0000, 0xFFFFE)]
    marks = "".join(chr(code) for codes in ranges for code in codes)
    others = "".join(chr(0xAC00 + at % 11000) for at in range(len(marks)))

    def seconds(text: str) -> float:
        chat = chat_of(
            [{"role": "user", "content": "a\n" * 100_000 + text}], None, "{{ messages[0].content | length }}", None
        )
        began = time.process_time()
        model._native.tokenize_chat(chat)
        return time.process_time() - began

    seconds(marks)
    assert min(seconds(marks) for _ in range(3)) < 5 * min(seconds(others) for _ in range(3)) + 0.05
