"""`/openapi.json`: requests made from it get the answers it describes, and never an error of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
import schemathesis
from http_server import serving
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    Document = dict[str, Any]

LIMIT = 20.0
EXAMPLES = 20
"""Requests for each operation."""
MOST_TOKENS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict", "n_predict")
ALIASES = {"repetition_penalty", "typ_p", "new_topic_penalty", "n_cmpl", "name"}
FEW = {"n", "n_cmpl", "best_of", "stream_delay_ms"}
TIMEOUTS = {"timeout_ms", "ttft_timeout_ms", "queue_timeout_ms"}
"""One that passes is answered with 504, as the client has asked."""
NOT_TRIED = r"^/api/(pull|delete)$"
"""They change which models the server has, and ask others for them."""
REFUSED = {
    "GET /v1/models/{model}",
    "GET /v1/streams/{id}",
    "DELETE /v1/streams/{id}",
    "GET /ws",
    "POST /v1/embeddings",
    "POST /api/embed",
    "POST /embeddings",
}
"""No request made from the description names what this server has, or asks for what it supports."""
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
TRIES = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def bounded(node: Document) -> Document:
    """The same schema, with answers that are few and short enough to try many."""
    # The schemas of answers are the components; they stay open.
    node = {
        key: bounded(value) if isinstance(value, dict) and key != "components" else value for key, value in node.items()
    }
    properties: Document = node.get("properties", {})
    if properties:
        node["additionalProperties"] = False
    # Two names of one thing are refused where they differ, so that few requests would be answered.
    for name in ALIASES & properties.keys():
        del properties[name]
    limits = [name for name in MOST_TOKENS if name in properties]
    for name in limits[1:]:
        del properties[name]
    for name in limits[:1]:
        properties[name] = {"type": "integer", "minimum": 1, "maximum": 8}
    for name in FEW & properties.keys():
        properties[name] = {"type": "integer", "minimum": 1, "maximum": 3}
    for name in TIMEOUTS & properties.keys():
        properties[name] = {"type": "integer", "minimum": int(LIMIT * 1000), "maximum": 1_000_000}
    if "model" in properties:
        properties["model"] = {"enum": ["demo", "demo:latest", "another"]}
    if limits:
        node["required"] = sorted({*node.get("required", []), limits[0]})
    return node


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server of the demo model."""
    with serving() as server:
        yield server.url


@pytest.fixture(scope="module")
def document(url: str) -> Document:
    """The server's description of itself."""
    document: Document = httpx.get(f"{url}/openapi.json", timeout=LIMIT).json()
    return document


def statuses(url: str, operation: schemathesis.APIOperation[Any, Any, Any, Any]) -> set[int]:
    """Sends requests of an operation, checks the answers, and returns their statuses."""
    seen: set[int] = set()

    @TRIES
    @given(operation.as_strategy())
    def try_one(case: schemathesis.Case[Any]) -> None:
        response = case.call(url, timeout=LIMIT)
        case.validate_response(response, checks=CHECKS)
        seen.add(response.status_code)

    try_one()
    return seen


def test_answers_are_as_described(url: str, document: Document) -> None:
    short = bounded(document)
    api = schemathesis.openapi.from_dict(short).exclude(path_regex=NOT_TRIED)
    refused = set()
    for found in api.get_all_operations():
        operation = found.ok()  # type: ignore[union-attr]  # a description that cannot be read fails here
        if 200 not in statuses(url, operation):
            refused.add(operation.label)
    # What is described must also be accepted, or the other checks say little.
    assert refused == REFUSED


def test_every_path_exists(url: str, document: Document) -> None:
    for path, methods in document["paths"].items():
        for method in methods:
            answer = httpx.request(method, url + path.replace("{model}", "demo"), timeout=LIMIT, content=b"x")
            # There is no stream to resume, and the WebSocket is turned off; both answers say so.
            absent = {404} if path in {"/v1/streams/{id}", "/ws"} else set()
            assert answer.status_code in {200, 400} | absent, (method, path, answer.text)
            assert "there is no such path" not in answer.text, (method, path)


def test_a_refused_field_is_described_as_refused(document: Document) -> None:
    body = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]
    fields = body["content"]["application/json"]["schema"]["properties"]
    assert fields["audio"]["type"] == "null"
    assert fields["top_p"] == {"type": ["number", "null"], "minimum": 0.0, "maximum": 1.0}
