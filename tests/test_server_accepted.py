"""What unmodified clients send is accepted where it asks for what happens anyway, and refused by its name elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from http_server import LIMIT, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

CHAT, COMPLETION, RESPONSE, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
OLLAMA_CHAT, GENERATE, LLAMA = "/api/chat", "/api/generate", "/completion"
HI = [{"role": "user", "content": "Hi"}]
NEEDED: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HI, "max_tokens": 1},
    COMPLETION: {"prompt": "Hi", "max_tokens": 1},
    RESPONSE: {"input": "Hi", "max_output_tokens": 1},
    MESSAGES: {"messages": HI, "max_tokens": 1},
    OLLAMA_CHAT: {"model": "demo", "messages": HI, "stream": False},
    GENERATE: {"model": "demo", "prompt": "Hi", "stream": False},
    LLAMA: {"prompt": "Hi", "n_predict": 1},
}
"""Requests with what they need."""
SAMPLERS = ["penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"]
ECHOED = {
    "id": "chatcmpl-1",
    "timestamp": 1764000000.5,
    "reasoning_details": [{"type": "reasoning.text", "text": "a"}],
    "thinking_blocks": [{"type": "thinking", "thinking": "a", "signature": "b"}],
    "annotations": [],
    "provider_specific_fields": {"a": None},
    "extra_content": {"google": {"thought_signature": "a"}},
    "cache_control": {"type": "ephemeral"},
    "prefix": False,
    "partial": False,
    "something_new": None,
}
"""What clients send back with an answer of the assistant."""
REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "a"}],
    "content": None,
    "encrypted_content": "b",
    "status": None,
}
OUTPUT = {
    "type": "message",
    "id": "msg_1",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "b", "annotations": [], "logprobs": []}],
}


def options(**options: object) -> dict[str, Any]:
    """The options of a request of Ollama's."""
    return {"options": {"num_predict": 1} | options}


def after(*contents: dict[str, Any]) -> list[dict[str, Any]]:
    """A conversation with turns of the assistant that have these fields."""
    return [message for content in contents for message in [*HI, {"role": "assistant"} | content]] + HI


ABORTED: list[dict[str, Any]] = [{"content": None}, {}, {"content": []}, {"content": ""}]
"""What a turn of the assistant has that was stopped before its first token."""
ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    *[(path, options(num_ctx=number)) for path in (OLLAMA_CHAT, GENERATE) for number in (8192, 32768, 1 << 40)],
    *[
        (path, options() | {"truncate": flag, "shift": flag})
        for path in (OLLAMA_CHAT, GENERATE)
        for flag in (True, False)
    ],
    (OLLAMA_CHAT, options(rope_frequency_base=1e6, rope_frequency_scale=0.5, num_gqa=8, new_topic_penalty=0.5)),
    (OLLAMA_CHAT, options(stop="", top_k=-1, penalize_newline=False)),
    (OLLAMA_CHAT, options() | {"messages": after(*ABORTED)}),
    (COMPLETION, {"suffix": "", "stop": ""}),
    (COMPLETION, {"stop": [""], "grammar": ""}),
    (LLAMA, {"grammar": "", "image_data": [], "system_prompt": "", "api_key": "", "n_predict": -2, "stop": ["i"]}),
    (LLAMA, {"samplers": "edkypmxt", "id_slot": -1, "penalize_nl": False, "tfs_z": 1, "reasoning_format": "none"}),
    (CHAT, {"samplers": SAMPLERS, "reasoning_format": "auto", "typ_p": 1, "top_k": -1, "top_n_sigma": -1.0}),
    (CHAT, {"samplers": ["top_k"], "top_p": 1, "repeat_penalty": 1, "something_new": None}),
    (CHAT, {"messages": after(*ABORTED), "logprobs": False, "top_logprobs": 0, "verbosity": "low"}),
    (CHAT, {"messages": after({"content": "a"} | ECHOED)}),
    (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "image_url": None}]}]}),
    (MESSAGES, {"context_management": {"edits": []}, "messages": after(*ABORTED), "top_k": -1}),
    (RESPONSE, {"truncation": "auto", "text": {"verbosity": "high"}, "input": [*HI, REASONING, OUTPUT, *HI]}),
    (RESPONSE, {"input": after(*ABORTED)}),
    (RESPONSE, {"input": [*HI, {"type": "reasoning", "summary": []}]}),
]
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (OLLAMA_CHAT, options(num_ctx=0), "options.num_ctx is 0, but must be 1 to"),
    (OLLAMA_CHAT, options() | {"truncate": 1}, "truncate must be true or false"),
    (OLLAMA_CHAT, options(new_topic_penalty=0.5, presence_penalty=0.25), "options.new_topic_penalty and presence_pen"),
    (
        OLLAMA_CHAT,
        options(penalize_newline=False, repeat_penalty=1.1),
        "options.penalize_newline must be true together",
    ),
    (OLLAMA_CHAT, {"messages": [{"role": "user", "content": []}]}, "messages[0].content must be a string"),
    (GENERATE, {"prompt": "word " * 20_000, "truncate": True}, "the prompt has "),
    (COMPLETION, {"suffix": "x"}, 'suffix is not supported yet; it must be "" or left out'),
    (COMPLETION, {"stop": ["", "x"]}, "stop[0] must not be empty"),
    (COMPLETION, {"stop": ["x", ""]}, "stop[1] must not be empty"),
    (LLAMA, {"json_schema": {}}, "json_schema is not supported yet"),
    (LLAMA, {"n_predict": -3}, "n_predict is -3, but must be -2 to"),
    (LLAMA, {"samplers": "pk"}, "samplers leaves out top_k, which is on"),
    (LLAMA, {"samplers": ["temperature", "top_k"]}, "samplers leaves out top_k"),
    (LLAMA, {"samplers": "edkypmxt", "top_n_sigma": 1}, "samplers leaves out top_n_sigma, which is on"),
    (LLAMA, {"penalize_nl": False, "repeat_penalty": 1.1}, "penalize_nl must be true together with penalties"),
    (LLAMA, {"tfs_z": 0.9}, "tfs_z must be 1 or left out"),
    (CHAT, {"logprobs": False, "top_logprobs": 5}, "top_logprobs needs logprobs to be true"),
    (CHAT, {"top_k": -2}, "top_k is -2, but must be 0 to"),
    (CHAT, {"reasoning_format": "deepseek"}, 'reasoning_format must be "none", "auto" or left out'),
    (CHAT, {"messages": [{"role": "user", "content": None}]}, "messages[0].content is required"),
    (CHAT, {"messages": [HI[0] | {"something_new": 1}]}, "messages[0].something_new is not a known field"),
    (CHAT, {"messages": after({"content": "a", "prefix": True})}, "messages[1].prefix is not supported yet"),
    (CHAT, {"verbosity": "loud"}, "verbosity must be low or medium or high"),
    (MESSAGES, {"context_management": {"edits": [{"type": "x"}]}}, "context_management must be"),
    (RESPONSE, {"truncation": "some"}, "truncation must be disabled or auto"),
    (RESPONSE, {"input": [REASONING]}, "input must have at least one message"),
    (RESPONSE, {"input": [*HI, REASONING | {"signature": "x"}]}, "input[1].signature is not a known field"),
]


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """A client of a server of the demo model."""
    with serving() as server, httpx.Client(base_url=server.url, timeout=LIMIT) as client:
        yield client


@pytest.mark.parametrize(("path", "fields"), ACCEPTED)
def test_what_asks_for_nothing_else_is_accepted(client: httpx.Client, path: str, fields: dict[str, Any]) -> None:
    answer = client.post(path, json=NEEDED[path] | fields)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(("path", "fields", "words"), REFUSED)
def test_what_asks_for_something_else_is_refused_by_its_name(
    client: httpx.Client, path: str, fields: dict[str, Any], words: str
) -> None:
    answer = client.post(path, json=NEEDED[path] | fields)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error if path.startswith("/api") else error["message"]).startswith(words), answer.text


def test_an_empty_turn_is_an_empty_text_in_the_prompt(client: httpx.Client) -> None:
    prompts = {
        client.post("/apply-template", json={"messages": after(turn | ECHOED)}).json()["prompt"] for turn in ABORTED
    }
    assert len(prompts) == 1
    assert "chatcmpl-1" not in prompts.pop()


def test_what_turns_a_sampler_off_has_the_effect_of_its_own_name_for_that(client: httpx.Client) -> None:
    settings = client.post(LLAMA, json=NEEDED[LLAMA] | {"top_k": -1}).json()["generation_settings"]
    assert settings["top_k"] == 0
    penalties = [
        options(presence_penalty=2, seed=1, num_predict=40),
        options(new_topic_penalty=2, seed=1, num_predict=40),
    ]
    answers = [client.post(GENERATE, json=NEEDED[GENERATE] | each).json()["response"] for each in penalties]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/chat/completions", 200),
        ("POST", "/v1/chat/completions/", 200),
        ("POST", "/chat/completions//?x=1", 200),
        ("POST", "/completions", 200),
        ("POST", "/completion/", 200),
        ("POST", "/responses", 200),
        ("POST", "/v1/messages/", 200),
        ("POST", "/api/chat/", 200),
        ("GET", "/models", 200),
        ("GET", "/v1/models/", 200),
        ("GET", "/v1/models/demo/", 200),
        ("GET", "/api/tags/", 200),
        ("GET", "/health/", 200),
        ("GET", "/", 200),
        ("POST", "/embeddings", 400),
        ("POST", "/v1/embeddings/", 400),
        ("GET", "/v1/nothing/", 404),
    ],
)
def test_paths_without_a_version_and_with_a_slash_at_the_end_are_served(
    client: httpx.Client, method: str, path: str, status: int
) -> None:
    kinds = {"messages": MESSAGES, "chat": OLLAMA_CHAT, "responses": RESPONSE, "completion": LLAMA}
    name = path.partition("?")[0].rstrip("/").rpartition("/")[2]
    body = NEEDED[CHAT] if "chat/completions" in path else NEEDED[kinds.get(name, COMPLETION)]
    answer = client.request(method, path, json=body if method == "POST" else None)
    assert answer.status_code == status, answer.text


def test_a_timeout_names_no_way_out_that_the_client_does_not_have() -> None:
    with serving("--timeout", "0.001") as server:
        answer = httpx.post(server.url + CHAT, json=NEEDED[CHAT] | {"max_tokens": 1000}, timeout=LIMIT)
    message = answer.json()["error"]["message"]
    assert answer.status_code == 504
    assert "timed out after 1 ms" in message
    assert "removes the limit" not in message
    assert "the limit is the server's, or timeout_ms of the request" in message


def test_the_path_of_a_field_leaves_room_for_what_is_wrong_with_it(client: httpx.Client) -> None:
    deep = '{"' + "x" * 60 + '": '
    answer = client.post(CHAT, content="{" + '"messages": ' + deep * 100 + "nul")
    error = answer.json()["error"]
    assert (answer.status_code, len(error["param"]) <= 257) == (400, True)
    assert "is not valid JSON" in error["message"]
