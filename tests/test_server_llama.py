"""llama-server's own endpoints of `mullama serve`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from http_server import LIMIT, Serving, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    import mullama

pytestmark = pytest.mark.slow

README_FIELDS = [
    "index",
    "content",
    "tokens",
    "id_slot",
    "stop",
    "model",
    "tokens_predicted",
    "tokens_evaluated",
    "generation_settings",
    "prompt",
    "has_new_line",
    "truncated",
    "stop_type",
    "stopping_word",
    "tokens_cached",
    "timings",
]
"""The fields of a whole answer."""


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    """A server of the demo model."""
    with serving("--max-queue", "64") as running:
        yield running


@pytest.fixture
def client(server: Serving) -> Iterator[httpx.Client]:
    """A client of the server."""
    with httpx.Client(base_url=server.url, timeout=LIMIT) as client:
        yield client


def posted(client: httpx.Client, path: str, **fields: object) -> Any:  # noqa: ANN401  # a document of any shape
    """The document that a request is answered with."""
    answer = client.post(path, json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def events(client: httpx.Client, **fields: object) -> list[dict[str, Any]]:
    """The events of a streamed answer."""
    with client.stream("POST", "/completion", json={"stream": True, **fields}) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        return [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]


@pytest.mark.parametrize("path", ["/completion", "/completions"])
def test_a_whole_answer_has_the_fields_and_the_text_of_the_stream(client: httpx.Client, path: str) -> None:
    asked = {
        "prompt": "Once upon a time",
        "n_predict": 20,
        "temperature": 0,
        "return_tokens": True,
        "deterministic": True,
    }
    document = posted(client, path, **asked)
    assert list(document) == README_FIELDS
    assert (document["stop_type"], document["stop"], document["truncated"]) == ("limit", True, False)
    assert (document["tokens_predicted"], len(document["tokens"])) == (20, 20)
    assert document["has_new_line"] == ("\n" in document["content"])
    assert document["generation_settings"]["n_predict"] == 20
    *tokens, end = events(client, **asked)
    assert "".join(token["content"] for token in tokens) == document["content"]
    assert [number for token in tokens for number in token["tokens"]] == document["tokens"]
    assert [token["tokens_predicted"] for token in tokens] == list(range(1, 21))
    assert not any(token["stop"] for token in tokens)
    assert list(end) == README_FIELDS
    assert (end["content"], end["tokens"], end["stop"]) == ("", [], True)
    assert posted(client, "/detokenize", tokens=document["tokens"])["content"] == document["content"]


def test_a_stopping_word_and_the_end_of_the_text_are_told_apart(client: httpx.Client) -> None:
    word = posted(client, "/completion", prompt="Once upon a time", temperature=0, stop=["was"], n_predict=50)
    assert (word["stop_type"], word["stopping_word"]) == ("word", "was")
    assert "was" not in word["content"]
    prompt = posted(client, "/apply-template", messages=[{"role": "user", "content": "Hello!"}])["prompt"]
    ended = posted(client, "/completion", prompt=prompt, temperature=0)
    assert (ended["stop_type"], ended["stopping_word"], ended["generation_settings"]["n_predict"]) == ("eos", "", -1)
    full = posted(client, "/completion", prompt=prompt, temperature=0, ignore_eos=True)
    assert (full["stop_type"], full["truncated"]) == ("limit", True)


def test_probabilities_are_those_of_each_token(client: httpx.Client) -> None:
    document = posted(client, "/completion", prompt="Once upon", n_predict=3, n_probs=4, temperature=0)
    assert len(document["completion_probabilities"]) == 3
    for token in document["completion_probabilities"]:
        assert token["logprob"] == token["top_logprobs"][0]["logprob"]
        assert [len(token["top_logprobs"]), bytes(token["bytes"]).decode()] == [4, token["token"]]
    streamed = events(client, prompt="Once upon", n_predict=3, n_probs=4, temperature=0)
    assert [len(event.get("completion_probabilities", [])) for event in streamed] == [1, 1, 1, 0]


def test_prompts_come_as_text_ids_both_mixed_or_lists_of_them(client: httpx.Client) -> None:
    asked = {"n_predict": 5, "temperature": 0, "ignore_eos": True, "deterministic": True}
    ids = posted(client, "/tokenize", content="Once upon a time", add_special=True)["tokens"]
    alone = posted(client, "/completion", prompt="Once upon a time", **asked)["content"]
    text = posted(client, "/detokenize", tokens=ids[2:])["content"]
    for prompt in (ids, [*ids[:2], text], {"prompt_string": "Once upon a time"}, ["Once upon a time"]):
        assert posted(client, "/completion", prompt=prompt, **asked)["content"] == alone, prompt
    several = posted(client, "/completion", prompt=["Once upon a time", ids, "Two"], **asked)
    assert [document["index"] for document in several] == [0, 1, 2]
    assert [document["content"] for document in several[:2]] == [alone, alone]
    assert several[2]["prompt"] == "Two"
    repeated = posted(client, "/completion", prompt="Once upon a time", n_cmpl=3, **asked)
    assert [document["content"] for document in repeated] == [alone] * 3
    ends = [event["index"] for event in events(client, prompt=["A", "B"], **asked) if event["stop"]]
    assert sorted(ends) == [0, 1]


def test_a_client_may_be_told_how_far_its_prompt_is_computed(client: httpx.Client) -> None:
    *told, first, end = events(client, prompt="once " * 150, n_predict=1, ignore_eos=True, return_progress=True)
    assert told
    assert "prompt_progress" not in first
    total = end["tokens_evaluated"]
    assert [event["prompt_progress"]["total"] for event in told] == [total] * len(told)
    assert told[-1]["prompt_progress"]["processed"] == total


def test_response_fields_choose_what_comes(client: httpx.Client) -> None:
    names = ["content", "generation_settings/n_predict", "missing"]
    document = posted(client, "/completion", prompt="Once", n_predict=2, response_fields=names)
    assert list(document) == ["content", "n_predict"]


def test_tokens_have_pieces_of_which_some_are_bytes(client: httpx.Client, model: mullama.Model) -> None:
    text = "Hello é \N{GRINNING FACE}"
    ids = posted(client, "/tokenize", content=text)["tokens"]
    assert ids == model.tokenize(text, add_special=False)
    pieces = posted(client, "/tokenize", content=text, with_pieces=True)["tokens"]
    assert [piece["id"] for piece in pieces] == ids
    whole = b"".join(
        bytes(piece["piece"]) if isinstance(piece["piece"], list) else piece["piece"].encode() for piece in pieces
    )
    assert whole.decode() == text
    assert any(isinstance(piece["piece"], list) for piece in pieces)
    mixed = posted(client, "/tokenize", content=[ids[0], "x"])["tokens"]
    assert mixed[0] == ids[0]
    plain = posted(client, "/tokenize", content="<|im_end|>", parse_special=False)["tokens"]
    assert len(plain) > len(posted(client, "/tokenize", content="<|im_end|>")["tokens"])


def test_the_template_is_the_models_own(client: httpx.Client, model: mullama.Model) -> None:
    messages = [{"role": "user", "content": "Hello!"}]
    prompt = posted(client, "/apply-template", messages=messages)["prompt"]
    assert prompt == model.apply_chat_template(messages)


def test_properties_and_slots_say_what_the_server_is_and_how_busy(client: httpx.Client, server: Serving) -> None:
    props = client.get("/props").json()
    assert (props["total_slots"], props["model_alias"], props["model_path"]) == (8, "demo", "")
    assert props["default_generation_settings"]["params"]["n_predict"] == -1
    assert "messages" in props["chat_template"]
    slots = client.get("/slots?fail_on_no_slot=1").json()
    assert [slot["id"] for slot in slots] == list(range(8))
    asked = {"prompt": "Secret", "stream": True, "ignore_eos": True}
    with httpx.stream("POST", f"{server.url}/completion", json=asked, timeout=LIMIT) as answer:
        next(answer.iter_lines())
        busy = client.get("/slots")
    assert "Secret" not in busy.text
    assert all(slot["n_ctx"] == props["default_generation_settings"]["n_ctx"] for slot in busy.json())


@pytest.mark.parametrize(
    ("path", "fields", "kind", "named"),
    [
        ("/completion", {}, "invalid_request_error", "prompt"),
        ("/completion", {"prompt": 5}, "invalid_request_error", "prompt"),
        ("/completion", {"prompt": []}, "invalid_request_error", "prompt"),
        ("/completion", {"prompt": [[1, {}]]}, "invalid_request_error", "prompt[0][1]"),
        ("/completion", {"prompt": [10**9]}, "invalid_request_error", "token"),
        ("/completion", {"prompt": ["x"] * 129}, "invalid_request_error", "128"),
        ("/completion", {"prompt": ["x"] * 73}, "invalid_request_error", "prompt is a list of 73 prompts"),
        ("/completion", {"prompt": "x", "n_cmpl": 73}, "invalid_request_error", "n_cmpl is 73"),
        ("/completion", {"prompt": "x " * 5000}, "exceed_context_size_error", "tokens"),
        ("/completion", {"prompt": "x", "n_predict": 1.5}, "invalid_request_error", "n_predict"),
        ("/completion", {"prompt": "x", "grammar": "root"}, "invalid_request_error", "grammar"),
        ("/completion", {"prompt": "x", "unknown": 1}, "invalid_request_error", "unknown"),
        ("/completion", {"prompt": "x", "model": "unknown"}, "not_found_error", "unknown"),
        (
            "/completion",
            {"prompt": {"prompt_string": "x", "multimodal_data": ["eA=="]}},
            "invalid_request_error",
            "multimodal_data",
        ),
        ("/tokenize", {}, "invalid_request_error", "content"),
        ("/tokenize", {"content": {}}, "invalid_request_error", "content"),
        ("/detokenize", {"tokens": [-1]}, "invalid_request_error", "tokens[0]"),
        ("/detokenize", {"tokens": [10**9]}, "invalid_request_error", "1000000000"),
        ("/apply-template", {"messages": "x"}, "invalid_request_error", "messages"),
        ("/apply-template", {"messages": [{"role": "user"}], "tools": [{}]}, "invalid_request_error", "tools"),
    ],
)
def test_errors_have_llama_servers_shape_and_name_what_is_wrong(
    client: httpx.Client, path: str, fields: dict[str, Any], kind: str, named: str
) -> None:
    answer = client.post(path, json=fields)
    error = answer.json()["error"]
    assert error["type"] == kind
    assert answer.status_code == error["code"] == (404 if kind == "not_found_error" else 400)
    assert named in error["message"]
    assert set(error) == {"code", "message", "type"}


def test_a_wrong_method_and_a_wrong_body_have_the_same_shape(client: httpx.Client) -> None:
    assert client.get("/completion").json()["error"]["code"] == 405
    for body in (b"", b"[]", b"{", b'{"prompt": "\xff"}', b"[" * 10_000):
        answer = client.post("/completion", content=body)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
