"""Streams that outlive their connection: a client that comes back reads on, and nobody else does."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
from http_server import LIMIT, Serving, serving
from httpx_sse import connect_sse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.slow

ASKED: dict[str, Any] = {
    "model": "demo",
    "stream": True,
    "temperature": 0,
    "deterministic": True,
    "max_tokens": 300,
    "ignore_eos": True,
}
CHAT = ("/v1/chat/completions", {**ASKED, "messages": [{"role": "user", "content": "Hi"}]})
COMPLETION = ("/completion", {**ASKED, "prompt": "Once upon a time"})
RESUME = {"x-stream-resume": "1"}


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    """A server of the demo model with one slot."""
    with serving("--parallel", "1") as running:
        yield running


@pytest.fixture
def client(server: Serving, eventually: Callable[[Callable[[], bool]], bool]) -> Iterator[httpx.Client]:
    """A client of the server, whose slot is free after the test."""
    with httpx.Client(base_url=server.url, timeout=LIMIT) as client:
        yield client
        assert eventually(lambda: busy(client) == 0)


def busy(client: httpx.Client) -> int:
    """Number of slots in use."""
    return sum(slot["is_processing"] for slot in client.get("/slots").json())


def events(
    client: httpx.Client, stream: str, last: int | None = None, count: int | None = None
) -> list[tuple[str, str]]:
    """The ids and data of events after the last one, to the end or as many as this."""
    headers = {} if last is None else {"last-event-id": str(last)}
    found = []
    with connect_sse(client, "GET", f"/v1/streams/{stream}", headers=headers) as source:
        for event in source.iter_sse():
            found.append((event.id, event.data))
            if len(found) == count:
                break
    return found


def begun(client: httpx.Client, path: str, asked: dict[str, Any], count: int) -> tuple[str, list[tuple[str, str]]]:
    """Starts a stream and leaves it after some events."""
    found = []
    with connect_sse(client, "POST", path, json=asked, headers=RESUME) as source:
        stream = source.response.headers["x-stream-id"]
        for event in source.iter_sse():
            found.append((event.id, event.data))
            if len(found) == count:
                break
    return stream, found


def content(found: list[tuple[str, str]]) -> str:
    """The text of events of either dialect."""
    text = []
    for _, data in found:
        if data != "[DONE]":
            document = json.loads(data)
            text.append(document["content"] if "content" in document else delta(document))
    return "".join(text)


def delta(chunk: dict[str, Any]) -> str:
    """The text of a chunk of a chat."""
    return "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])


@pytest.mark.parametrize(("path", "asked"), [CHAT, COMPLETION], ids=["chat", "completion"])
def test_a_client_that_returns_several_times_reads_each_event_once(
    client: httpx.Client, path: str, asked: dict[str, Any]
) -> None:
    stream, found = begun(client, path, asked, 3)
    for count in (1, 20, 50):
        found += events(client, stream, int(found[-1][0]), count)
    found += events(client, stream, int(found[-1][0]))
    assert [number for number, _ in found] == [str(number) for number in range(1, len(found) + 1)]
    with connect_sse(client, "POST", path, json=asked) as source:
        alone = [(event.id, event.data) for event in source.iter_sse()]
    assert {number for number, _ in alone} == {""}
    assert len(found) == len(alone)
    assert content(found) == content(alone)
    # The end tells an EventSource not to come back.
    answer = client.get(f"/v1/streams/{stream}", headers={"last-event-id": found[-1][0]})
    assert (answer.status_code, answer.text) == (204, "")
    assert events(client, stream, int(found[-3][0])) == found[-2:]


def test_a_client_without_a_last_event_reads_from_the_start(client: httpx.Client) -> None:
    stream, found = begun(client, *COMPLETION, 5)
    assert events(client, stream)[:5] == found


def test_the_stream_goes_on_while_its_client_is_away(
    client: httpx.Client, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    stream, found = begun(client, *COMPLETION, 1)
    assert eventually(lambda: busy(client) == 0)
    assert json.loads(events(client, stream, 1)[-1][1])["tokens_predicted"] == 300
    assert len(found) == 1


def test_the_memory_of_a_stream_is_bounded_and_its_slot_goes_to_others_meanwhile(client: httpx.Client) -> None:
    path, asked = COMPLETION
    stream, _ = begun(client, path, {**asked, "max_tokens": 100_000, "n_probs": 20}, 1)
    # Its memory is full after some events; then the only slot is free for others.
    assert client.post(path, json={**asked, "stream": False}).json()["tokens_predicted"] == 300
    assert client.post(path, json={**asked, "stream": False}).json()["tokens_predicted"] == 300
    assert [number for number, _ in events(client, stream, 1, 700)] == [str(number) for number in range(2, 702)]
    gone = client.get(f"/v1/streams/{stream}", headers={"last-event-id": "1"})
    assert (gone.status_code, gone.json()["error"]["code"]) == (410, 410)
    assert client.delete(f"/v1/streams/{stream}").status_code == 204


def test_a_deleted_stream_frees_its_slot_at_once_and_is_gone(
    client: httpx.Client, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    path, asked = COMPLETION
    stream, _ = begun(client, path, {**asked, "max_tokens": 100_000, "n_probs": 20}, 1)
    assert client.delete(f"/v1/streams/{stream}").status_code == 204
    assert eventually(lambda: busy(client) == 0)
    assert client.get(f"/v1/streams/{stream}").status_code == 404
    assert client.delete(f"/v1/streams/{stream}").status_code == 404


def test_head_does_not_take_a_stream_from_its_reader(client: httpx.Client) -> None:
    path, asked = COMPLETION
    with client.stream("POST", path, json=asked, headers={"x-stream-resume": "1"}) as answer:
        lines = answer.iter_lines()
        next(lines)
        assert client.head(f"/v1/streams/{answer.headers['x-stream-id']}").status_code == 405
        assert [line for line in lines if line.startswith("data: ")]


def test_without_the_header_a_client_that_leaves_ends_its_stream(
    client: httpx.Client, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    path, asked = COMPLETION
    for headers in ({}, {"x-stream-resume": "0"}):
        with client.stream("POST", path, json={**asked, "max_tokens": 100_000}, headers=headers) as answer:
            assert "x-stream-id" not in answer.headers
            assert "id:" not in next(answer.iter_text())
        assert eventually(lambda: busy(client) == 0)
    assert client.post(path, json=asked, headers={"x-stream-resume": "yes"}).status_code == 400
    assert "x-stream-id" not in client.post(path, json={**asked, "stream": False}, headers=RESUME).headers


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "999999", "18446744073709551616", ""])
def test_a_wrong_last_event_is_refused(client: httpx.Client, last: str) -> None:
    stream, _ = begun(client, *COMPLETION, 2)
    assert client.get(f"/v1/streams/{stream}", headers={"last-event-id": last}).status_code == 400


def test_a_new_connection_takes_the_stream_over(client: httpx.Client, server: Serving) -> None:
    path, asked = COMPLETION
    with connect_sse(client, "POST", path, json={**asked, "max_tokens": 5000}, headers=RESUME) as source:
        stream = source.response.headers["x-stream-id"]
        reader = source.iter_sse()
        first = next(reader)
        with httpx.Client(base_url=server.url, timeout=LIMIT) as other:
            assert [number for number, _ in events(other, stream, int(first.id), 3)] == ["2", "3", "4"]
        # The old connection is cut, and not ended as if that were all.
        with pytest.raises(httpx.RemoteProtocolError):
            for _ in reader:
                pass
    assert client.delete(f"/v1/streams/{stream}").status_code == 204


def test_a_connection_that_was_reset_is_resumed(client: httpx.Client, server: Serving) -> None:
    path, asked = COMPLETION
    address = urlsplit(server.url)
    body = json.dumps(asked).encode()
    at = (address.hostname or "", address.port or 0)
    with contextlib.closing(socket.create_connection(at, LIMIT)) as connection:
        head = [
            f"POST {path} HTTP/1.1",
            f"Host: {address.netloc}",
            "X-Stream-Resume: 1",
            f"Content-Length: {len(body)}",
        ]
        connection.sendall("\r\n".join([*head, "", ""]).encode() + body)
        received = b""
        while b"id: 2\n" not in received:
            received += connection.recv(4096)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
    [line] = [line for line in received.decode().splitlines() if line.lower().startswith("x-stream-id: ")]
    assert events(client, line.split(": ")[1], 2)[0][0] == "3"


def test_a_stream_belongs_to_the_key_that_started_it() -> None:
    with serving("--api-key", "first", "--api-key", "second") as server:
        clients = {
            key: httpx.Client(base_url=server.url, timeout=LIMIT, headers={"authorization": f"Bearer {key}"})
            for key in ("first", "second")
        }
        stream, found = begun(clients["first"], *COMPLETION, 2)
        for method in ("GET", "DELETE"):
            assert clients["second"].request(method, f"/v1/streams/{stream}").status_code == 404
        assert events(clients["first"], stream)[:2] == found
        assert httpx.get(f"{server.url}/v1/streams/{stream}", headers={"x-api-key": "first"}).status_code == 200
        for client in clients.values():
            client.close()
