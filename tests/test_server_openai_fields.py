"""Every field of OpenAI's requests is honoured or refused by its name: the tables, the server and the client agree."""

from __future__ import annotations

import json
import re
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from http_server import serving
from openai.types import completion_create_params
from openai.types.chat import (
    ChatCompletionAssistantMessageParam,
    ChatCompletionContentPartTextParam,
    ChatCompletionDeveloperMessageParam,
    ChatCompletionFunctionMessageParam,
    ChatCompletionMessageFunctionToolCallParam,
    ChatCompletionSystemMessageParam,
    ChatCompletionToolMessageParam,
    ChatCompletionUserMessageParam,
    chat_completion_stream_options_param,
)
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import (
    EasyInputMessageParam,
    ResponseInputTextParam,
    ResponseOutputMessageParam,
    ResponseOutputTextParam,
    ResponseReasoningItemParam,
    response_create_params,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[1] / "docs" / "server-fields.md"
CHAT, COMPLETION, RESPONSE = "/v1/chat/completions", "/v1/completions", "/v1/responses"
NEEDED: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1},
    COMPLETION: {"prompt": "Hi", "max_tokens": 1},
    RESPONSE: {"input": "Hi", "max_output_tokens": 1},
}
RIGHT: dict[str, Any] = {
    "metadata": {"a": "b"},
    "parallel_tool_calls": True,
    "prediction": {"type": "content", "content": "x"},
    "prompt_cache_options": {"mode": "implicit"},
    "prompt_cache_retention": "24h",
    "max_tool_calls": 3,
    "store": True,
    "n_keep": 4,
    "n_discard": 0,
    "truncation": "auto",
}
"""Values of fields without effect that are not any text."""
WRONG: list[list[dict[str, int]]] = [[{}]]
"""A value that no field has."""


def tables() -> dict[str, dict[str, str]]:
    """The tables of the page: by path, what happens with each field."""
    found: dict[str, dict[str, str]] = {}
    title = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            title = line.removeprefix("## ").strip("`")
            found[title] = {}
        elif match := re.match(r"\| `(\w+)` \| (.*) \|$", line):
            found[title][match[1]] = match[2]
    return found


ROWS = [(path, name, what) for path in NEEDED for name, what in tables()[path].items()]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server of the demo model."""
    with serving() as server:
        yield server.url


def answer(url: str, path: str, **fields: object) -> httpx.Response:
    """The answer to a request that is complete but for these fields."""
    return httpx.post(url + path, json=NEEDED[path] | fields, timeout=60)


def fields_of(kind: object) -> set[str]:
    """The names of the fields of a typed dictionary."""
    return set(typing.get_type_hints(kind))


@pytest.mark.parametrize(
    ("path", "kinds"),
    [
        (
            CHAT,
            [
                chat_create_params.CompletionCreateParamsNonStreaming,
                chat_create_params.CompletionCreateParamsStreaming,
            ],
        ),
        (
            COMPLETION,
            [
                completion_create_params.CompletionCreateParamsNonStreaming,
                completion_create_params.CompletionCreateParamsStreaming,
            ],
        ),
        (
            RESPONSE,
            [
                response_create_params.ResponseCreateParamsNonStreaming,
                response_create_params.ResponseCreateParamsStreaming,
            ],
        ),
        (
            "stream_options` of chat completions and completions",
            [chat_completion_stream_options_param.ChatCompletionStreamOptionsParam],
        ),
        ("stream_options` of responses", [response_create_params.StreamOptions]),
        (
            "A message of `messages",
            [
                ChatCompletionSystemMessageParam,
                ChatCompletionDeveloperMessageParam,
                ChatCompletionUserMessageParam,
                ChatCompletionAssistantMessageParam,
                ChatCompletionToolMessageParam,
                ChatCompletionFunctionMessageParam,
            ],
        ),
        ("A call in `tool_calls", [ChatCompletionMessageFunctionToolCallParam]),
        (
            "A part of a `content`: `text` and `input_text",
            [ChatCompletionContentPartTextParam, ResponseInputTextParam],
        ),
        ("A part of a `content`: `output_text", [ResponseOutputTextParam]),
        ("A message of `input", [EasyInputMessageParam, ResponseOutputMessageParam]),
        ("An item of `input` that is earlier reasoning", [ResponseReasoningItemParam]),
    ],
)
def test_the_tables_have_every_field_of_the_official_client(path: str, kinds: list[object]) -> None:
    wanted = set[str]().union(*map(fields_of, kinds))
    assert len(wanted) > 0
    assert wanted - set(tables()[path]) == set()


@pytest.mark.slow
@pytest.mark.parametrize(("path", "name"), [row[:2] for row in ROWS if row[2].startswith("is honoured")])
def test_a_field_that_is_honoured_refuses_a_wrong_value_by_its_name(url: str, path: str, name: str) -> None:
    response = answer(url, path, **{name: WRONG})
    error = response.json()["error"]
    assert response.status_code == 400, error
    assert error["type"] == "invalid_request_error"
    assert re.match(rf"{name}\b", error["param"] or ""), error
    assert error["param"] in error["message"]


@pytest.mark.slow
@pytest.mark.parametrize(("path", "name"), [row[:2] for row in ROWS if row[2].startswith(("refused", "only"))])
def test_a_field_that_is_refused_is_named(url: str, path: str, name: str) -> None:
    response = answer(url, path, **{name: WRONG})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, name)
    assert error["message"].startswith(f"{name} ")


@pytest.mark.slow
def test_the_only_values_of_a_field_are_accepted(url: str) -> None:
    checked = 0
    for path, name, what in ROWS:
        if what.startswith("only"):
            for value in re.findall(r"`([^`]+)`", what):
                response = answer(url, path, **{name: json.loads(value)})
                assert response.status_code == 200, response.text
                checked += 1
    assert checked > 20


@pytest.mark.slow
@pytest.mark.parametrize("path", NEEDED)
def test_a_field_without_effect_and_null_are_accepted_and_a_wrong_type_is_not(url: str, path: str) -> None:
    none = {name: None for _, name, _ in ROWS if name not in NEEDED[path] and name in tables()[path]}
    assert answer(url, path, **none).status_code == 200
    idle = [name for name, what in tables()[path].items() if what.startswith("has no effect")]
    response = answer(url, path, **{name: RIGHT.get(name, "x") for name in idle})
    assert response.status_code == 200, response.text
    for name in idle:
        error = answer(url, path, **{name: WRONG}).json()["error"]
        assert error["param"] == name


@pytest.mark.slow
@pytest.mark.parametrize("path", NEEDED)
def test_an_unknown_field_is_refused_with_the_name_that_was_meant(url: str, path: str) -> None:
    response = answer(url, path, temprature=1)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "temprature")
    assert "did you mean temperature?" in error["message"]
    assert answer(url, path, frobnicate=1).json()["error"]["message"] == "frobnicate is not a known field"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (CHAT, {"messages": []}, "messages"),
        (CHAT, {"messages": [{"role": "user", "content": "a"}, {"role": "user"}]}, "messages[1].content"),
        (CHAT, {"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        (CHAT, {"messages": [{"content": "a"}]}, "messages[0].role"),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        (
            CHAT,
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]},
            "messages[0].content[0].type",
        ),
        (
            CHAT,
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        (CHAT, {"messages": [{"role": "user", "content": "word " * 9000}]}, "messages"),
        (CHAT, {"stream_options": {"include_usage": True}}, "stream_options"),
        (CHAT, {"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        (CHAT, {"stream": True, "stream_options": {"usage": True}}, "stream_options.usage"),
        (CHAT, {"messages": [{"role": "assistant", "audio": {"id": "x"}}]}, "messages[0].audio"),
        (CHAT, {"return_progress": True}, "return_progress"),
        (CHAT, {"stop": ["a", ""]}, "stop[1]"),
        (CHAT, {"stop": ["a", 5]}, "stop[1]"),
        (CHAT, {"top_logprobs": 2}, "top_logprobs"),
        (CHAT, {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        (CHAT, {"logit_bias": {"99999999": 1}}, "logit_bias.99999999"),
        (CHAT, {"temperature": -1}, "temperature"),
        (CHAT, {"n": 0}, "n"),
        (CHAT, {"response_format": {"type": "json_object"}}, "response_format"),
        (CHAT, {"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        (COMPLETION, {"prompt": ""}, "prompt"),
        (COMPLETION, {"prompt": [1, "a"]}, "prompt[1]"),
        (COMPLETION, {"prompt": [99999999]}, "prompt"),
        (COMPLETION, {"n": 2, "best_of": 3}, "best_of"),
        (COMPLETION, {"echo": True, "logprobs": 1}, "echo"),
        (COMPLETION, {"prompt": ["a"] * 100, "n": 2}, "prompt"),
        (RESPONSE, {"input": []}, "input"),
        (RESPONSE, {"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        (RESPONSE, {"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        (RESPONSE, {"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
        (RESPONSE, {"text": {"format": {"type": "json_object"}}}, "text.format"),
        (RESPONSE, {"reasoning": {"effort": 5}}, "reasoning.effort"),
        (RESPONSE, {"include": ["nothing"]}, "include[0]"),
        (RESPONSE, {"metadata": {"a": 1}}, "metadata.a"),
        (RESPONSE, {"input": "word " * 9000}, "input"),
    ],
)
def test_an_error_names_the_path_of_the_value(url: str, path: str, fields: dict[str, Any], param: str) -> None:
    response = answer(url, path, **fields)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param), error


@pytest.mark.slow
def test_embeddings_are_not_supported_yet(url: str) -> None:
    response = httpx.post(f"{url}/v1/embeddings", json={"input": "Hi", "model": "demo"})
    assert response.status_code == 400
    assert response.json()["error"]["message"] == "embeddings are not supported yet"
