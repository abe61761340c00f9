"""Faults of clients and of the system beside healthy streams, against a real `mullama serve`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from http_server import serving
from namespace import may_repair, run_in_namespace
from patience import eventually
from raw_http import (
    ENDLESS,
    LIMIT,
    TEXT,
    Address,
    chat_request,
    content,
    dechunked,
    descriptors_of,
    memory_of,
    sockets_of,
    streamed,
    vanish,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

KILLED = """
import socket, sys, time
body = sys.argv[3].encode()
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))
head = b"POST /v1/chat/completions HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Length: %d\\r\\n\\r\\n"
peer.sendall(head % len(body) + body)
peer.recv(1)
print("reading", flush=True)
time.sleep(600)
"""
IMPATIENT = """
import asyncio, sys, mullama
asyncio.run(mullama.serve("demo", port=int(sys.argv[1]), header_timeout=1.0, body_timeout=1.0))
"""
"""A server that waits a second for headers and for bodies."""
SMALL = 4096
"""Bytes of the receive buffer of clients that read slowly: with the usual one they would hold a whole answer."""
LEVEL = 24 << 20
"""Most bytes by which the memory of a server differs after the same load: what its allocators keep."""


class Server:
    """The server of the tests.

    Attributes:
        address: Where it listens.
        process: Its process.
        text: The text of `TEXT` when it is the only stream.
    """

    def __init__(self, url: str, process: subprocess.Popen[str]) -> None:
        """A server that has answered nothing yet."""
        self.address, self.process = Address(url), process
        self.text = self.address.text()
        self.sockets = sockets_of(process.pid)

    def is_as_before(self) -> None:
        """Waits until nothing of a test's clients is left, and checks that the next client is served."""
        assert eventually(lambda: sockets_of(self.process.pid) <= self.sockets, LIMIT)
        assert eventually(lambda: self.address.streams() == 0, LIMIT)
        assert self.address.text() == self.text


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("--max-connections", "4096", "--max-queue", "4096") as running:
        yield Server(running.url, running.process)


@contextlib.contextmanager
def all_closed(peers: list[socket.socket]) -> Iterator[None]:
    """Closes the connections at the end of the block."""
    try:
        yield
    finally:
        for peer in peers:
            peer.close()


def test_clients_that_are_killed_leave_nothing_behind(server: Server) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "Hello"}], **ENDLESS})
    command = [sys.executable, "-c", KILLED, server.address.host, str(server.address.port), body]
    clients = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(10)]
    try:
        for client in clients:
            assert client.stdout is not None
            assert client.stdout.readline() == b"reading\n"
        assert server.address.streams() == len(clients)
        assert server.address.text() == server.text
    finally:
        for client in clients:
            client.send_signal(signal.SIGKILL)
            client.communicate(timeout=LIMIT)
    server.is_as_before()


def test_clients_that_vanish_without_a_word_leave_nothing_behind(
    server: Server, request: pytest.FixtureRequest
) -> None:
    if not may_repair():
        run_in_namespace(request.node.nodeid)
        return
    asked = chat_request(**ENDLESS)
    reading = [server.address.open(asked, receive_buffer=SMALL) for _ in range(6)]
    for peer in reading:
        assert peer.recv(1)
    silent = [server.address.open(asked[:length]) for length in (0, 20, len(asked) - 1) for _ in range(4)]
    assert server.address.streams() == len(reading)
    for peer in reading + silent:
        vanish(peer)
    assert server.address.text() == server.text
    server.is_as_before()


def test_clients_that_close_their_side_leave_nothing_behind(server: Server) -> None:
    peers = [server.address.open(chat_request(**ENDLESS)) for _ in range(6)]
    with all_closed(peers):
        for peer in peers:
            assert peer.recv(1)
            peer.shutdown(socket.SHUT_WR)
        assert eventually(lambda: server.address.streams() == 0, LIMIT)
    server.is_as_before()


def test_256_streams_at_once_have_each_the_text_that_they_have_alone(server: Server) -> None:
    async def all_at_once() -> list[str]:
        asked = (server.address.chat(**TEXT, stream=True) for _ in range(256))
        return [streamed(*answer) for answer in await asyncio.gather(*asked)]

    levels = []
    for _ in range(3):
        assert set(asyncio.run(all_at_once())) == {server.text}
        levels.append(memory_of(server.process.pid))
    assert levels[2] - levels[0] < LEVEL, levels
    server.is_as_before()


@contextlib.contextmanager
def descriptors(count: int) -> Iterator[None]:
    """Lets this process have so many descriptors, as far as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_2000_requests_wait_in_the_queue_and_their_memory_is_given_back(server: Server) -> None:
    address = server.address
    long = chat_request(max_tokens=900, ignore_eos=True)

    async def all_at_once() -> list[str]:
        # Whole documents are never paused, so the slots stay busy until these clients leave.
        busy = [address.open(long) for _ in range(200)]
        with all_closed(busy):
            waiting = asyncio.gather(*(address.chat(**{**TEXT, "max_tokens": 2}) for _ in range(2000)))
            deadline = time.monotonic() + LIMIT
            while (await asyncio.to_thread(address.load))["queued"] < 2000:
                assert time.monotonic() < deadline, "2,000 requests are never in the queue together"
        return [content(*answer) for answer in await waiting]

    levels = []
    with descriptors(8192):
        for _ in range(3):
            texts = asyncio.run(all_at_once())
            assert len(texts) == 2000
            assert server.text.startswith(texts[0])
            assert len(set(texts)) == 1
            levels.append(memory_of(server.process.pid))
    assert levels[2] - levels[0] < LEVEL, levels
    server.is_as_before()


def test_clients_that_send_nothing_or_half_a_request_keep_nobody_waiting(server: Server) -> None:
    request = chat_request(**TEXT)
    halves = [b"", b"G", request[:20], request[: request.index(b"\r\n\r\n") + 2], request[:-1]]
    with all_closed([server.address.open(half) for half in halves * 100]):
        assert server.address.is_healthy()
        assert server.address.text() == server.text
    server.is_as_before()


@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_client_that_sends_byte_by_byte_is_cut_off(part: str) -> None:
    request = chat_request(**TEXT)
    sent = 20 if part == "headers" else request.index(b"\r\n\r\n") + 4
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen([sys.executable, "-c", IMPATIENT, str(port)]) as process:
        try:
            address = Address(f"http://127.0.0.1:{port}")
            assert eventually(lambda: answers(address), LIMIT)
            text = address.text()
            began = time.monotonic()
            peers = [address.open(request[:sent]) for _ in range(64)]
            with all_closed(peers):
                ends = trickle(peers, request[sent:])
            assert address.text() == text
        finally:
            process.kill()
    # Nobody has sent a whole request by then: more than the second of the limit, and far less than all bytes take.
    assert time.monotonic() - began > 1
    expected = {b""} if part == "headers" else {b"HTTP/1.1 408 Request Timeout"}
    assert {end.split(b"\r\n")[0] for end in ends} == expected


def answers(address: Address) -> bool:
    try:
        return address.is_healthy()
    except ConnectionError:
        return False


def received_by(peer: socket.socket) -> bytes:
    """What a connection has received; nothing if it is closed."""
    try:
        return peer.recv(1 << 16)
    except ConnectionError:
        return b""


def trickle(peers: list[socket.socket], rest: bytes) -> list[bytes]:
    """Sends a byte on each connection five times a second until all are closed; what they were answered."""
    ends: dict[socket.socket, bytes] = {}
    for byte in rest:
        open_peers = [peer for peer in peers if peer not in ends]
        if not open_peers:
            return list(ends.values())
        for peer in open_peers:
            with contextlib.suppress(ConnectionError):
                peer.send(bytes([byte]))
        time.sleep(0.2)
        ends |= {peer: received_by(peer) for peer in select.select(open_peers, [], [], 0)[0]}
    message = f"{len(peers) - len(ends)} of {len(peers)} connections are still open"
    raise AssertionError(message)


def test_readers_of_one_token_a_second_lose_nothing_and_delay_nobody(server: Server) -> None:
    fields = {**TEXT, "max_tokens": 200, "stream": True, "buffer_size": 4}
    alone = streamed(*asyncio.run(server.address.chat(**fields)))
    slow = [server.address.open(chat_request(**fields), receive_buffer=SMALL) for _ in range(16)]
    received = [b"" for _ in slow]
    with all_closed(slow):
        for _ in range(5):
            for index, peer in enumerate(slow):
                events = received[index].count(b"data: ")
                while received[index].count(b"data: ") == events:
                    piece = peer.recv(64)
                    assert piece, "the answer ended early"
                    received[index] += piece
            time.sleep(1)  # which is how slow they are
            began = time.monotonic()
            assert server.address.text() == server.text
            assert time.monotonic() - began < LIMIT / 4
        assert eventually(lambda: server.address.load()["paused"] == len(slow), LIMIT)
        for index, peer in enumerate(slow):
            received[index] += b"".join(iter(lambda peer=peer: peer.recv(1 << 16), b""))  # type: ignore[misc]
    bodies = [answer.partition(b"\r\n\r\n") for answer in received]
    assert {streamed(int(head.split()[1]), dechunked(body)) for head, _, body in bodies} == {alone}
    server.is_as_before()


def test_a_client_that_reads_nothing_for_longer_than_half_a_minute_goes_on_where_it_was(server: Server) -> None:
    fields = {**TEXT, "max_tokens": 200, "stream": True, "buffer_size": 4}
    alone = streamed(*asyncio.run(server.address.chat(**fields)))
    with contextlib.closing(server.address.open(chat_request(**fields), receive_buffer=SMALL)) as peer:
        assert eventually(lambda: server.address.load()["paused"] == 1, LIMIT)
        # Longer than systems keep a connection whose peer has no room, if they are told to give up early.
        time.sleep(40)
        assert server.address.load()["paused"] == 1
        answer = b"".join(iter(lambda: peer.recv(1 << 16), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert streamed(int(head.split()[1]), dechunked(body)) == alone


def test_the_server_is_healthy_while_every_slot_and_a_long_prefill_are_busy(server: Server) -> None:
    del server  # which would have less of the machine
    with serving("--ctx-size", "65536", "--parallel", "4") as running:
        address = Address(running.url)
        text = address.text()
        # Longer together than the context: no answer ends before the last look.
        contents = [f"{n} " + "word " * 4000 for n in range(12)]
        messages = [[{"role": "user", "content": content}] for content in contents]
        peers = [address.open(chat_request(**{**ENDLESS, "stream": False, "messages": chat})) for chat in messages]
        with all_closed(peers):
            assert eventually(lambda: is_full(address.load()), LIMIT)
            times = []
            for _ in range(50):
                began = time.monotonic()
                assert address.is_healthy()
                times.append(time.monotonic() - began)
            assert is_full(address.load())
            assert sorted(times)[25] < 0.5, times
        assert eventually(lambda: address.streams() == 0, LIMIT)
        assert address.text() == text


def is_full(load: dict[str, int]) -> bool:
    return load["running"] == 4 and load["queued"] > 0


def test_a_server_without_descriptors_serves_on_when_some_are_free() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with serving("--max-connections", "4096") as running:
        address, pid = Address(running.url), running.process.pid
        text = address.text()
        limit = descriptors_of(pid) + 20
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
        kept = address.open()
        peers = [address.open() for _ in range(200)]
        # Nothing can be accepted now, and nothing dies of it.
        assert eventually(lambda: descriptors_of(pid) >= limit, LIMIT)
        for peer in peers:
            peer.close()
        assert eventually(lambda: answers(address), LIMIT)
        assert address.text() == text
        kept.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert kept.recv(1 << 16).startswith(b"HTTP/1.1 200")
        kept.close()
        assert running.stop() == 0
