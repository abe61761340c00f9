"""The WebSocket of `mullama serve`: real clients, clients that stall or leave, and clients that break the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import signal
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from http_server import LIMIT, Serving, serving
from raw_http import Address
from raw_websocket import BINARY, CLOSE, FIN, PING, PONG, TEXT, RawWebSocket, frame
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from websockets.sync.connection import Connection

pytestmark = pytest.mark.slow

SLOTS = 2
MOST_REQUESTS = 64
ENDLESS = b'{"prompt": "Once", "ignore_eos": true, "credits": 1}'
"""A request whose stream waits for credits after its first token, and does not end while its client stays."""
CODES = {"INVALID_REQUEST", "INVALID_CONFIG", "MODEL_NOT_FOUND", "CONTEXT_OVERFLOW", "TEMPLATE_ERROR"}


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    """A server of the demo model with few slots."""
    with serving("--websocket", "--parallel", str(SLOTS), "--allow-origin", "https://chat.example") as running:
        yield running


@pytest.fixture
def url(server: Serving, eventually: Callable[[Callable[[], bool]], bool]) -> Iterator[str]:
    """The address of the WebSocket, all of whose streams have ended after the test."""
    yield at(server)
    assert eventually(lambda: Address(server.url).streams() == 0)


def at(server: Serving) -> str:
    """The address of a server's WebSocket."""
    return f"ws{server.url.removeprefix('http')}/ws"


def ask(socket: Connection, **fields: object) -> None:
    """Sends a JSON object."""
    socket.send(json.dumps(fields))


def heard(socket: Connection) -> dict[str, Any]:
    """The next frame."""
    frame: dict[str, Any] = json.loads(socket.recv(LIMIT))
    return frame


def until_end(socket: Connection) -> list[dict[str, Any]]:
    """The frames up to the first that is no token."""
    frames = [heard(socket)]
    while frames[-1]["type"] == "token":
        frames.append(heard(socket))
    return frames


def text_of(frames: list[dict[str, Any]]) -> str:
    """The text of the tokens."""
    return "".join(frame["text"] for frame in frames if frame["type"] == "token")


def completion(server: Serving, **fields: object) -> dict[str, Any]:
    """The same request over HTTP."""
    answer = httpx.post(f"{server.url}/completion", json=fields, timeout=LIMIT)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def test_a_text_is_answered_as_a_message_of_the_user(url: str) -> None:
    with connect(url) as socket:
        for text in ("Hello!", "[1, 2]", "{not json", "\N{GRINNING FACE}\n"):
            socket.send(text)
            *tokens, end = until_end(socket)
            assert {frozenset(token) for token in tokens} == {frozenset({"type", "text"})}
            assert end["type"] == "done"
            assert end["finish_reason"] in {"stop", "length"}
            assert end["usage"]["completion_tokens"] >= len(tokens)


def test_an_object_is_a_request_with_the_text_of_the_http_api(url: str, server: Serving) -> None:
    fields = {"prompt": "Once upon a time", "temperature": 0, "seed": 3, "deterministic": True}
    with connect(url) as socket:
        ask(socket, id="a", max_tokens=30, **fields)
        *tokens, end = until_end(socket)
    assert len(tokens) == 30
    assert {token["id"] for token in tokens} | {end["id"]} == {"a"}
    assert (end["finish_reason"], end["usage"]["completion_tokens"], end["seed"]) == ("length", 30, 3)
    assert text_of(tokens) == completion(server, n_predict=30, **fields)["content"]


def test_several_requests_share_a_socket_and_each_has_its_own_text(url: str, server: Serving) -> None:
    prompts = {index: f"{index} friends went to" for index in range(6)}
    with connect(url) as socket:
        for index, prompt in prompts.items():
            ask(socket, id=index, prompt=prompt, max_tokens=20, temperature=0, deterministic=True)
        frames: list[dict[str, Any]] = []
        while sum(frame["type"] == "done" for frame in frames) < len(prompts):
            frames.append(heard(socket))
    for index, prompt in prompts.items():
        alone = completion(server, prompt=prompt, n_predict=20, temperature=0, deterministic=True)
        assert text_of([frame for frame in frames if frame["id"] == index]) == alone["content"]


def test_requests_without_an_id_are_answered_one_after_the_other(url: str) -> None:
    with connect(url) as socket:
        for count in (5, 9, 3):
            ask(socket, prompt="Once", max_tokens=count, ignore_eos=True)
        ends = [until_end(socket) for _ in range(3)]
    assert [len(frames) - 1 for frames in ends] == [5, 9, 3]


def test_stops_and_log_probabilities_are_reported(url: str) -> None:
    with connect(url) as socket:
        ask(socket, prompt="Once upon a time", temperature=0, stop=["was"], logprobs=2, max_tokens=50)
        *tokens, end = until_end(socket)
    assert (end["finish_reason"], end["stop_sequence"]) == ("stop", "was")
    assert all(token["logprob"] <= 0 and len(token["top_logprobs"]) == 2 for token in tokens)


def test_a_cancelled_request_ends_alone(url: str) -> None:
    with connect(url) as socket:
        ask(socket, id=1, prompt="Once", ignore_eos=True)
        ask(socket, id=2, prompt="Once", max_tokens=100, ignore_eos=True)
        heard(socket)
        ask(socket, type="cancel", id=1)
        ask(socket, type="cancel", id="unknown")
        ends: dict[int, str] = {}
        while len(ends) < 2:
            frame = heard(socket)
            if frame["type"] == "done":
                ends[frame["id"]] = frame["finish_reason"]
            assert frame["type"] != "error"
    assert ends == {1: "cancelled", 2: "length"}


def test_a_client_with_credits_gets_no_more_tokens_than_it_granted(url: str) -> None:
    with connect(url) as socket:
        ask(socket, id="slow", prompt="Once", max_tokens=7, ignore_eos=True, flow="credits")
        for granted in (2, 1, 3):
            ask(socket, type="grant", id="slow", tokens=granted)
            # Another stream flows while the first waits, so what is missing does not come late.
            ask(socket, id="free", prompt="Once", max_tokens=200, ignore_eos=True)
            frames: list[dict[str, Any]] = []
            while not frames or frames[-1].get("finish_reason") != "length":
                frames.append(heard(socket))
            assert sum(frame["id"] == "slow" for frame in frames) == granted
        ask(socket, type="grant", id="slow", tokens=1)
        # The end needs no credit.
        assert [frame["type"] for frame in until_end(socket)] == ["token", "done"]


def test_a_stream_without_credits_leaves_its_slot_to_others(url: str, server: Serving) -> None:
    with connect(url) as socket:
        for index in range(SLOTS + 1):
            ask(socket, id=index, prompt="Once", ignore_eos=True, credits=3, buffer_size=1)
        got = [heard(socket)["id"] for _ in range(3 * (SLOTS + 1))]
        assert sorted(got) == sorted([*range(SLOTS + 1)] * 3)
        assert completion(server, prompt="Once", n_predict=20, ignore_eos=True)["tokens_predicted"] == 20
        for index in range(SLOTS + 1):
            ask(socket, type="cancel", id=index)
        assert {heard(socket)["finish_reason"] for _ in range(SLOTS + 1)} == {"cancelled"}


def test_a_client_that_does_not_read_pauses_its_own_streams_only(url: str, server: Serving) -> None:
    with RawWebSocket(url, receive_buffer=4096) as stalled:
        for index in range(SLOTS + 1):
            request = {"id": index, "prompt": "Once", "ignore_eos": True, "buffer_size": 4}
            stalled.send(frame(FIN | TEXT, json.dumps(request).encode()))
        assert stalled.receive()[0] == TEXT
        # With all slots held for good this would not end.
        for _ in range(3):
            assert completion(server, prompt="Once", n_predict=200, ignore_eos=True)["tokens_predicted"] == 200
        # It still hears, though it reads nothing.
        for index in range(SLOTS + 1):
            stalled.send(frame(FIN | TEXT, json.dumps({"type": "cancel", "id": index}).encode()))
        computed: list[int] = []
        while len(computed) < SLOTS + 1:
            told = json.loads(stalled.receive()[1])
            if told["type"] == "done":
                computed.append(told["usage"]["completion_tokens"])
    assert max(computed) <= 4 + 400


@pytest.mark.parametrize("leave", ["abort", "close", "half"])
def test_a_client_that_leaves_frees_its_slots(
    url: str, server: Serving, eventually: Callable[[Callable[[], bool]], bool], leave: str
) -> None:
    with RawWebSocket(url) as socket:
        socket.send(frame(FIN | TEXT, ENDLESS))
        assert socket.receive()[0] == TEXT
        # The engine counts its streams at the end of a step.
        assert eventually(lambda: Address(server.url).streams() == 1)
        if leave == "close":
            socket.send(frame(FIN | CLOSE))
            assert socket.close_code() is None
        if leave == "half":
            socket.socket.shutdown(1)
            assert eventually(lambda: Address(server.url).streams() == 0)
    assert eventually(lambda: Address(server.url).streams() == 0)


def test_a_text_is_answered_to_its_end_after_a_close_without_a_reason(url: str) -> None:
    with RawWebSocket(url) as socket:
        socket.send(frame(FIN | TEXT, b"Hello!\n") + frame(FIN | CLOSE))
        frames = [socket.receive()]
        while frames[-1][0] == TEXT:
            frames.append(socket.receive())
    *texts, (opcode, reason) = frames
    assert [json.loads(payload)["type"] for _, payload in texts][-1] == "done"
    assert len(texts) > 1
    assert (opcode, reason) == (CLOSE, b"")


def test_a_close_with_a_reason_ends_all_streams_and_answers_no_text(
    url: str, server: Serving, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    with RawWebSocket(url) as socket:
        # The text waits for the request before it, which has no id either and ends only with its client.
        socket.send(frame(FIN | TEXT, ENDLESS) + frame(FIN | TEXT, b"Hello!"))
        assert json.loads(socket.receive()[1])["type"] == "token"
        socket.send(frame(FIN | CLOSE, (1000).to_bytes(2, "big")))
        assert socket.receive() == (CLOSE, (1000).to_bytes(2, "big"))
        assert eventually(lambda: Address(server.url).streams() == 0)


@pytest.mark.parametrize(
    ("sent", "code"),
    {
        "unmasked": (frame(FIN | TEXT, b"Hello", masked=False), 1002),
        "reserved bits": (frame(FIN | 0x40 | TEXT, b"Hello"), 1002),
        "unknown opcode": (frame(FIN | 3), 1002),
        "continuation of nothing": (frame(FIN, b"Hello"), 1002),
        "message in a message": (frame(TEXT, b"a") + frame(FIN | TEXT, b"b"), 1002),
        "fragmented ping": (frame(PING), 1002),
        "long ping": (frame(FIN | PING, bytes(126)), 1002),
        "half a code": (frame(FIN | CLOSE, b"\x03"), 1002),
        "code that is reserved": (frame(FIN | CLOSE, (1006).to_bytes(2, "big")), 1002),
        "binary": (frame(FIN | BINARY, b"Hello"), 1003),
        "bad UTF-8": (frame(FIN | TEXT, b"\xc3\x28"), 1007),
        "bad UTF-8 over fragments": (frame(TEXT, b"\xe2\x82") + frame(FIN, b"x"), 1007),
        "surrogate": (frame(FIN | TEXT, b"\xed\xa0\x80"), 1007),
        "too large": (frame(FIN | TEXT, bytes(1 << 20 | 1))[:20], 1009),
        "far too large": (b"\x81\xff\x7f" + bytes(11), 1009),
        "too large in fragments": (frame(TEXT, bytes(1 << 19)) * 1 + frame(0, bytes(1 << 19)) + frame(FIN, b"x"), 1009),
    }.values(),
)
def test_a_breach_of_the_protocol_closes_with_its_code_and_frees_the_streams(
    url: str, sent: bytes, code: int, server: Serving, eventually: Callable[[Callable[[], bool]], bool]
) -> None:
    with RawWebSocket(url) as socket:
        socket.send(frame(FIN | TEXT, ENDLESS))
        assert socket.receive()[0] == TEXT
        socket.send(sent)
        assert socket.close_code() == code
        assert eventually(lambda: Address(server.url).streams() == 0)


def test_random_bytes_harm_nobody(url: str) -> None:
    choose = random.Random(5)  # noqa: S311  # the same bytes each time
    with connect(url) as healthy:
        ask(healthy, prompt="Once", max_tokens=200, ignore_eos=True)
        for _ in range(60):
            with RawWebSocket(url) as socket, contextlib.suppress(ConnectionError):
                socket.send(frame(FIN | TEXT, b'{"id": 1, "prompt": "Once", "ignore_eos": true}'))
                socket.send(choose.randbytes(choose.randrange(1, 400)))
        *tokens, end = until_end(healthy)
    assert (len(tokens), end["finish_reason"]) == (200, "length")


def test_fragments_and_pings_are_understood(url: str) -> None:
    with RawWebSocket(url) as socket:
        text = b'{"prompt": "Once", "max_tokens": 1, "ignore_eos": true}'
        pieces = [frame(TEXT, text[:5]), frame(FIN | PING, b"are you there"), frame(0, text[5:9]), frame(FIN, text[9:])]
        for byte in b"".join(pieces):
            socket.send(bytes([byte]))
        assert socket.receive() == (PONG, b"are you there")
        assert [json.loads(socket.receive()[1])["type"] for _ in range(2)] == ["token", "done"]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"prompt": 5}, "prompt"),
        ({"prompt": "x", "messages": []}, "messages"),
        ({"messages": []}, "messages"),
        ({}, "prompt"),
        ({"prompt": "x", "max_tokens": "many"}, "max_tokens"),
        ({"prompt": "x", "temperature": -1}, "temperature"),
        ({"prompt": "x", "unknown": 1}, "unknown"),
        ({"prompt": "x", "stream": False}, "stream"),
        ({"prompt": "x", "tools": [{}]}, "tools"),
        ({"prompt": "x", "model": "unknown"}, "model"),
        ({"prompt": "x", "credits": -1}, "credits"),
        ({"prompt": "x", "credits": 1, "flow": "socket"}, "credits"),
        ({"prompt": "x", "flow": "unknown"}, "flow"),
        ({"prompt": ["x"]}, "prompt[0]"),
        ({"prompt": "long " * 5000}, "prompt"),
        ({"type": "unknown"}, "type"),
        ({"type": "grant"}, "tokens"),
        ({"type": "grant", "tokens": 0}, "tokens"),
        ({"type": "grant", "tokens": 1, "more": 1}, "more"),
        ({"type": "cancel", "all": True}, "all"),
    ],
)
def test_a_wrong_message_is_an_error_with_its_field_and_the_socket_goes_on(
    url: str, message: dict[str, Any], field: str
) -> None:
    with connect(url) as socket:
        ask(socket, id="wrong", **message)
        error = heard(socket)
        assert (error["type"], error["id"], error["field"]) == ("error", "wrong", field)
        assert error["message"]
        assert error["code"] in CODES
        ask(socket, id="right", prompt="Once", max_tokens=1, ignore_eos=True)
        assert [frame["type"] for frame in until_end(socket)] == ["token", "done"]


def test_fields_that_ask_for_what_a_socket_does_anyway_are_accepted(url: str) -> None:
    with connect(url) as socket:
        ask(socket, prompt="Once", max_tokens=1, ignore_eos=True, stream=True, tools=[], n=1)
        assert [frame["type"] for frame in until_end(socket)] == ["token", "done"]


@pytest.mark.parametrize(
    "text", ['{"prompt": "Once"', ' {\n"prompt": Once}', '{"prompt": "Once"}}', '{"top_p": NaN}', '{ "', "{}]"]
)
def test_a_text_that_begins_as_an_object_and_is_no_json_is_told_where(url: str, text: str) -> None:
    with connect(url) as socket:
        socket.send(text)
        told = heard(socket)
        assert (told["type"], told["code"]) == ("error", "INVALID_REQUEST")
        assert re.search(r"line \d column \d+", told["message"])


def test_ids_are_unique_and_bounded(url: str) -> None:
    with connect(url) as socket:
        ask(socket, id="a", prompt="Once", flow="credits")
        ask(socket, id="a", prompt="Once")
        error = heard(socket)
        assert (error["field"], error["request_continues"]) == ("id", True)
        wrong: tuple[object, ...] = ("x" * 129, True, [1], {})
        for identity in wrong:
            ask(socket, id=identity, prompt="Once")
            error = heard(socket)
            assert error["field"] == "id"
            assert "id" not in error
        ask(socket, id="b", prompt="Once", ignore_eos=True)
        assert heard(socket)["id"] == "b"
        ask(socket, type="grant", id="b", tokens=1)
        while (error := heard(socket))["type"] == "token":
            pass
        assert error["type"] == "error"


def test_unfinished_requests_of_a_socket_are_bounded(url: str) -> None:
    with connect(url) as socket:
        for index in range(MOST_REQUESTS + 1):
            ask(socket, id=index, prompt="Once", flow="credits")
        error = heard(socket)
    assert (error["code"], error["id"], error["retry_after"]) == ("OVERLOADED", MOST_REQUESTS, 1)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", "https://chat.example.evil"])
def test_pages_of_other_origins_may_not_connect(url: str, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(url, origin=Origin(origin)):
        pass
    assert refused.value.response.status_code == 403


def test_own_and_allowed_pages_may_connect(url: str, server: Serving) -> None:
    for origin in (server.url, "https://chat.example"):
        with connect(url, origin=origin) as socket:  # type: ignore[arg-type]  # a NewType of str
            assert socket.ping().wait(LIMIT)


def test_what_is_no_handshake_is_told_so(server: Serving) -> None:
    answer = httpx.get(f"{server.url}/ws", timeout=LIMIT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (426, "INVALID_REQUEST")
    headers = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-key": "short"}
    for version, status in (("13", 400), ("8", 400)):
        answer = httpx.get(f"{server.url}/ws", headers={**headers, "sec-websocket-version": version}, timeout=LIMIT)
        assert answer.status_code == status


def test_without_the_option_there_is_no_websocket() -> None:
    with serving() as server:
        answer = httpx.get(f"{server.url}/ws", timeout=LIMIT)
        assert answer.status_code == 404
        assert "--websocket" in answer.json()["error"]["message"]


def test_a_server_that_stops_finishes_its_answers_and_says_that_it_goes() -> None:
    with serving("--websocket") as server, connect(at(server)) as socket:
        ask(socket, id=1, prompt="Once", max_tokens=300, ignore_eos=True)
        heard(socket)
        server.process.send_signal(signal.SIGTERM)
        assert until_end(socket)[-1]["finish_reason"] == "length"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(LIMIT)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        assert server.process.wait(LIMIT) == 0


def test_many_sockets_at_once_are_all_answered(url: str) -> None:
    async def one(index: int) -> int:
        async with connect_async(url) as socket:
            request = {"prompt": f"{index} times", "max_tokens": 10, "ignore_eos": True, "queue_timeout_ms": 0}
            await socket.send(json.dumps(request))
            tokens = 0
            async for message in socket:
                frame = json.loads(message)
                if frame["type"] != "token":
                    assert frame["type"] == "done", frame
                    break
                tokens += 1
            return tokens

    async def all_of_them() -> list[int]:
        return await asyncio.wait_for(asyncio.gather(*(one(index) for index in range(60))), LIMIT)

    assert asyncio.run(all_of_them()) == [10] * 60
