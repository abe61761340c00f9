"""Every field of every request of every dialect, also inside objects, is honoured or refused by its path."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from http_server import LIMIT, serving
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Iterator

    Path = tuple[str | int, ...]

pytestmark = pytest.mark.slow

CHAT, COMPLETION, RESPONSE = "/v1/chat/completions", "/v1/completions", "/v1/responses"
MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
OLLAMA_CHAT, GENERATE, SHOW = "/api/chat", "/api/generate", "/api/show"
LLAMA, TOKENIZE, DETOKENIZE, TEMPLATE = "/completion", "/tokenize", "/detokenize", "/apply-template"
HI = [{"role": "user", "content": "Hi"}]
NEEDED: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HI, "max_tokens": 1},
    COMPLETION: {"prompt": "Hi", "max_tokens": 1},
    RESPONSE: {"input": "Hi", "max_output_tokens": 1},
    MESSAGES: {"messages": HI, "max_tokens": 1},
    COUNT: {"messages": HI},
    OLLAMA_CHAT: {"model": "demo", "messages": HI, "options": {"num_predict": 1}, "stream": False},
    GENERATE: {"model": "demo", "prompt": "Hi", "options": {"num_predict": 1}, "stream": False},
    SHOW: {"model": "demo"},
    LLAMA: {"prompt": "Hi", "n_predict": 1},
    TOKENIZE: {"content": "Hi"},
    DETOKENIZE: {"tokens": [65]},
    TEMPLATE: {"messages": HI},
}
"""Requests with what they need; all are answered."""
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
CACHED = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral", "ttl": "5m"}}
OLLAMA_CALL = {"function": {"name": "f", "arguments": {"a": 1}}}
RICH: list[tuple[str, dict[str, Any]]] = [
    (
        CHAT,
        {
            "messages": [
                {"role": "system", "content": "Be brief.", "name": "host"},
                {"role": "user", "content": [CACHED, {"type": "text", "text": "b"}]},
                {"role": "assistant", "content": None, "refusal": "No."},
                {"role": "assistant", "content": "", "tool_calls": [CALL], "annotations": [], "audio": None},
                {"role": "tool", "content": "1", "tool_call_id": "call_1"},
            ],
            "stream": True,
            "stream_options": {"include_usage": True, "include_obfuscation": False},
            "max_completion_tokens": 1,
            "logit_bias": {"65": 1.5},
            "stop": ["x"],
            "metadata": {"a": "b"},
            "prediction": {"type": "content", "content": [{"type": "text", "text": "a"}]},
            "prompt_cache_options": {"mode": "implicit"},
            "prompt_cache_retention": "24h",
            "user": "me",
            "parallel_tool_calls": True,
        },
    ),
    (
        RESPONSE,
        {
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "a"}]},
                {
                    "type": "message",
                    "id": "msg_1",
                    "status": "completed",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "b", "annotations": [], "logprobs": []}],
                },
                {"role": "user", "content": "c"},
            ],
            "max_output_tokens": 1,
            "text": {"format": {"type": "text"}, "verbosity": "medium"},
            "reasoning": {"effort": "low", "summary": "auto"},
            "metadata": {"a": "b"},
            "include": ["message.output_text.logprobs"],
            "store": True,
        },
    ),
    (
        MESSAGES,
        {
            "system": [CACHED],
            "messages": [
                {"role": "user", "content": [CACHED]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "a", "signature": "b"},
                        {"type": "redacted_thinking", "data": "c"},
                        {"type": "text", "text": "d", "citations": []},
                    ],
                },
                {"role": "user", "content": "e"},
            ],
            "max_tokens": 1,
            "metadata": {"user_id": "me"},
            "thinking": {"type": "disabled"},
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
            "output_config": {"effort": "low"},
            "cache_control": {"type": "ephemeral"},
        },
    ),
    (
        OLLAMA_CHAT,
        {
            "model": "demo",
            "messages": [
                {"role": "user", "content": "a", "images": []},
                {"role": "assistant", "content": "b", "thinking": "c", "tool_calls": [OLLAMA_CALL]},
                {"role": "tool", "content": "1", "tool_name": "f"},
            ],
            "options": {"num_predict": 1, "stop": ["x"], "num_gpu": 1, "use_mmap": True, "num_keep": 4},
            "keep_alive": "5m",
            "stream": False,
        },
    ),
    (LLAMA, {"prompt": {"prompt_string": "a", "multimodal_data": []}, "n_predict": 1, "logit_bias": [[65, False]]}),
    (LLAMA, {"prompt": ["a", [65, "b"], {"prompt_string": "c"}], "n_predict": 1, "response_fields": ["content"]}),
    (TEMPLATE, {"messages": [{"role": "assistant", "content": "a", "tool_calls": [CALL]}]}),
]
"""Requests with objects inside objects; all are answered."""
OPEN = {"metadata", "logit_bias", "arguments", "annotations", "logprobs"}
"""Objects that have no fixed fields."""
VALUES: list[Any] = [True, False, -1, 0, 1, 1.5, 1e300, 2**64, "", "x", [], [1], ["x"], [[{}]], {}, {"type": "x"}]
WAITS = {"timeout_ms", "ttft_timeout_ms", "queue_timeout_ms"}
"""Fields that a client may set so low that its request fails in time."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server of the demo model."""
    with serving() as server:
        yield server.url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[httpx.Client]:
    """A client of the server."""
    with httpx.Client(base_url=url, timeout=LIMIT) as client:
        yield client


@pytest.fixture(scope="module")
def names(client: httpx.Client) -> dict[str, list[str]]:
    """The fields of each request, as the server describes them."""
    found = {}
    for path in NEEDED:
        for operation in client.get("/openapi.json").json()["paths"][path].values():
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            found[path] = list(schema["properties"])
    assert all(found.values())
    return found


def message_of(answer: httpx.Response, path: str) -> str:
    """The message of an error, which must have the shape of the path's dialect."""
    document = answer.json()
    if path.startswith("/api"):
        assert set(document) == {"error"}
        return str(document["error"])
    if path.startswith("/v1/messages") or path == "/v1/complete":
        assert (document["type"], set(document)) == ("error", {"type", "error", "request_id"})
        assert set(document["error"]) == {"type", "message"}
    elif path.startswith("/v1"):
        assert set(document["error"]) == {"message", "type", "param", "code", "mullama_code"}
    else:
        assert set(document["error"]) == {"code", "message", "type"}
        assert document["error"]["code"] == answer.status_code
    return str(document["error"]["message"])


def check(client: httpx.Client, path: str, name: str, value: object) -> None:
    """A field with any value is honoured, or refused by its name."""
    answer = client.post(path, json=NEEDED[path] | {name: value})
    expected = {200, 400} | ({504} if name in WAITS else set()) | ({404} if name in {"model", "name"} else set())
    assert answer.status_code in expected, (path, name, value, answer.text)
    if answer.status_code == 400:
        assert re.search(rf"\b{name}\b", message_of(answer, path)), (path, name, value, answer.text)


def places(value: object, at: Path = ()) -> Iterator[Path]:
    """The paths of all values inside a value that have a fixed type."""
    if at:
        yield at
    pairs: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    for key, inner in pairs:
        if key not in OPEN:
            yield from places(inner, (*at, key))


def written(at: Path) -> str:
    """A path as errors write it."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in at).removeprefix(".")


def changed(body: dict[str, Any], at: Path, value: object) -> dict[str, Any]:
    """The body with another value at this path."""
    # A copy in which nothing is shared.
    body = json.loads(json.dumps(body))
    inner: Any = body
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    return body


@pytest.mark.parametrize("path", NEEDED)
def test_a_field_of_any_type_is_honoured_or_named(client: httpx.Client, names: dict[str, list[str]], path: str) -> None:
    for name in names[path]:
        for value in VALUES:
            check(client, path, name, value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def test_a_field_of_any_value_is_honoured_or_named(client: httpx.Client, names: dict[str, list[str]]) -> None:
    fields = [(path, name) for path, known in names.items() for name in known]

    @settings(
        max_examples=400,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(fields), JSON)
    def one(field: tuple[str, str], value: object) -> None:
        # Python's parser of JSON takes infinity, which is no JSON.
        if "Infinity" not in json.dumps(value):
            check(client, *field, value)

    one()


@pytest.mark.parametrize(("path", "body"), RICH)
def test_a_value_of_a_wrong_type_inside_objects_is_named(client: httpx.Client, path: str, body: dict[str, Any]) -> None:
    assert client.post(path, json=body).status_code == 200, client.post(path, json=body).text
    for at in places(body):
        answer = client.post(path, json=changed(body, at, [[{}]]))
        named = message_of(answer, path).split(" ")[0]
        assert answer.status_code == 400, (at, answer.text)
        assert written(at).startswith(named) or named.startswith(written(at)), (at, answer.text)


@pytest.mark.parametrize(("path", "body"), RICH)
def test_an_unknown_field_inside_objects_is_named(client: httpx.Client, path: str, body: dict[str, Any]) -> None:
    checked = 0
    for at in [(), *places(body)]:
        inner: Any = body
        for key in at:
            inner = inner[key]
        if isinstance(inner, dict):
            answer = client.post(path, json=changed(body, (*at, "frobnicate"), 1))
            named = message_of(answer, path).split(" ")[0]
            assert answer.status_code == 400, (at, answer.text)
            assert named in {written((*at, "frobnicate")), written(at)}, answer.text
            checked += 1
    assert checked > 1


@pytest.mark.parametrize("path", NEEDED)
def test_a_field_that_is_given_twice_is_named(client: httpx.Client, path: str) -> None:
    body = json.dumps(NEEDED[path])
    name = next(iter(NEEDED[path]))
    twice = f"{body[:-1]}, {json.dumps(name)}: {json.dumps(NEEDED[path][name])}}}"
    answer = client.post(path, content=twice)
    assert answer.status_code == 400
    assert message_of(answer, path).startswith(f"{name} is given twice")


@pytest.mark.parametrize("path", NEEDED)
@pytest.mark.parametrize("wrong", [b'"\xff"', b'"\\ud800"', b"1e999", b"nul", b"[" * 1000, b'{"x": 1, "x": 1}'])
def test_what_is_no_json_is_reported_with_its_path(client: httpx.Client, path: str, wrong: bytes) -> None:
    answer = client.post(path, content=b'{"messages": [{"content": ' + wrong)
    assert answer.status_code == 400
    assert message_of(answer, path).startswith("messages[0].content")


CONTRADICTIONS: list[tuple[str, dict[str, Any], str]] = [
    (CHAT, {"max_tokens": 2, "max_completion_tokens": 3}, "max_completion_tokens"),
    (CHAT, {"repeat_penalty": 1.1, "repetition_penalty": 1.2}, "repeat_penalty"),
    (CHAT, {"cache_prompt": False, "deterministic": False}, "deterministic"),
    (
        CHAT,
        {"reasoning_effort": "low", "chat_template_kwargs": {"reasoning_effort": "high"}},
        "chat_template_kwargs.reasoning_effort",
    ),
    (LLAMA, {"n_predict": 1, "max_tokens": 2}, "n_predict"),
    (LLAMA, {"n": 1, "n_cmpl": 2}, "n_cmpl"),
    (SHOW, {"model": "demo", "name": "other"}, "model"),
]


@pytest.mark.parametrize(("path", "fields", "other"), CONTRADICTIONS)
def test_two_names_of_one_thing_may_not_contradict_each_other(
    client: httpx.Client, path: str, fields: dict[str, Any], other: str
) -> None:
    answer = client.post(path, json=NEEDED[path] | fields)
    assert answer.status_code == 400
    message = message_of(answer, path)
    assert all(re.search(rf"\b{re.escape(name)}\b", message) for name in [other, *fields][:2]), message


def test_two_names_of_one_thing_may_agree(client: httpx.Client) -> None:
    fields = {"max_tokens": 2, "max_completion_tokens": 2.0, "repeat_penalty": 1.1, "repetition_penalty": 1.1}
    usage = client.post(CHAT, json=NEEDED[CHAT] | fields).json()["usage"]
    assert usage["completion_tokens"] <= 2


FORBIDDING: list[dict[str, Any]] = [
    {"logit_bias": [[token, False] for token in range(1024)]},
    {"logit_bias": [[token, -3e38] for token in range(1024)], "temperature": 0.5},
    {"logit_bias": [[token, False] for token in range(1, 1024)], "ignore_eos": True},
    {
        "logit_bias": [[token, False] for token in range(1, 1024)] + [[0, 5]],
        "dry_multiplier": 1e38,
        "dry_base": 1e38,
        "dry_allowed_length": 0,
        "stop_token_ids": [],
        "ignore_eos": True,
    },
]


@pytest.mark.parametrize("path", [CHAT, COMPLETION, RESPONSE, MESSAGES, LLAMA])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fields", FORBIDDING)
def test_biases_that_leave_no_token_are_refused(
    client: httpx.Client, path: str, stream: object, fields: dict[str, Any]
) -> None:
    if path == MESSAGES:
        fields = {name: value for name, value in fields.items() if name in {"logit_bias", "temperature"}}
        fields["logit_bias"] = [[token, False] for token in range(1024)]
    answer = client.post(path, json=NEEDED[path] | fields | {"stream": stream})
    assert answer.status_code == 400, answer.text
    assert message_of(answer, path).startswith("logit_bias is a list that ")


def test_biases_that_leave_one_token_are_honoured(client: httpx.Client) -> None:
    biases = [[token, False] for token in range(1024) if token != 65]
    document = client.post(LLAMA, json=NEEDED[LLAMA] | {"logit_bias": biases, "n_predict": 4, "return_tokens": True})
    assert document.json()["tokens"] == [65] * 4


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", CHAT, {}, 405),
        ("GET", MESSAGES, {}, 405),
        ("GET", GENERATE, {}, 405),
        ("GET", LLAMA, {}, 405),
        ("POST", CHAT, {"content-type": "application/xml"}, 415),
        ("POST", MESSAGES, {"content-type": "multipart/form-data; boundary=x"}, 415),
        ("POST", GENERATE, {"content-encoding": "gzip"}, 415),
        ("POST", LLAMA, {"content-type": "application/json; charset=utf-16"}, 415),
        ("GET", "/v1/models/%ff", {}, 400),
        ("GET", "/v1/models/a%00b", {}, 404),
        ("POST", "/v1/audio/speech", {}, 404),
        ("POST", "/v1/messages/batches", {}, 404),
        ("POST", "/v1/messages/%ff", {}, 404),
        ("POST", "/v1/complete", {}, 404),
        ("POST", "/api/push", {}, 404),
        ("POST", "/api/%ff", {}, 404),
        ("GET", "/api", {}, 404),
        ("POST", "/infill", {}, 404),
        ("POST", "/slots/0", {}, 404),
    ],
)
def test_what_is_wrong_before_the_body_has_the_dialects_own_error(
    client: httpx.Client, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    answer = client.request(method, path, headers=headers, content=b"{}" if method == "POST" else None)
    assert answer.status_code == status, answer.text
    assert message_of(answer, path)
    if status == 405:
        assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("kind", ["application/json; charset=UTF-8", "application/x-www-form-urlencoded", "text/plain"])
def test_json_is_read_whatever_curl_calls_it(client: httpx.Client, kind: str) -> None:
    answer = client.post(TOKENIZE, headers={"content-type": kind}, content=json.dumps(NEEDED[TOKENIZE]))
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("path", "fields", "named"),
    [
        (OLLAMA_CHAT, {"messages": ""}, "messages must be a list, not a string"),
        (OLLAMA_CHAT, {"messages": {}}, "messages must be a list, not an object"),
        (GENERATE, {"prompt": []}, "prompt must be a string, not a list"),
        (GENERATE, {"prompt": "", "options": {"frobnicate": 1}}, "options.frobnicate is not a known field"),
        (GENERATE, {"prompt": "", "stream": 1}, "stream must be true or false, not a number"),
        (GENERATE, {"prompt": "", "top_logprobs": 5}, "top_logprobs needs logprobs to be true"),
        (OLLAMA_CHAT, {"messages": [{"role": "", "content": "a"}]}, "messages[0].role must not be empty"),
        (OLLAMA_CHAT, {"messages": HI * 20_001}, "messages has 20001 messages, but must have at most 20000"),
        (CHAT, {"messages": HI * 20_001}, "messages has 20001 messages, but must have at most 20000"),
        (CHAT, {"messages": [{"role": "user", "content": []}]}, "messages[0].content must have at least one part"),
        (CHAT, {"messages": [HI[0] | {"tool_calls": [CALL]}]}, "messages[0].tool_calls belongs to messages of"),
        (CHAT, {"messages": [HI[0] | {"tool_call_id": "x"}]}, "messages[0].tool_call_id belongs to messages of the"),
        (CHAT, {"n": 1.5}, "n is 1.5, but must be an integer"),
        (
            CHAT,
            {"messages": [HI[0] | {"refusal": "No."}]},
            "messages[0].refusal belongs to messages of the role assist",
        ),
        (
            CHAT,
            {"messages": [{"role": "assistant", "content": "a", "refusal": "No."}]},
            "messages[0].refusal cannot be given together with content",
        ),
        (MESSAGES, {"messages": [{"role": "user", "content": [{"type": "thinking"}]}]}, "messages[0].content[0] is"),
        (MESSAGES, {"thinking": {}}, "thinking.type is required"),
        (LLAMA, {"logit_bias": {"-1": 1}}, "logit_bias.-1 must have a token id as its name"),
        (LLAMA, {"logit_bias": {"065": 1}}, "logit_bias.065 must have a token id as its name"),
    ],
)
def test_a_value_that_was_once_let_through_is_refused(
    client: httpx.Client, path: str, fields: dict[str, Any], named: str
) -> None:
    answer = client.post(path, json=NEEDED[path] | fields)
    assert answer.status_code == 400, answer.text
    assert message_of(answer, path).startswith(named)
