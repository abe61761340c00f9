"""Faults of clients and of the system beside healthy streams, against a real `mullama serve`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from http_server import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 120.0
"""Seconds after which something that was expected has failed to happen."""
TEXT = {"max_tokens": 40, "temperature": 0, "deterministic": True, "ignore_eos": True}
"""A request whose text is the same every time."""
ENDLESS = {"max_tokens": -1, "ignore_eos": True, "stream": True, "buffer_size": 4}
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


class Address:
    """The host and port of a server, and what is asked of it."""

    def __init__(self, url: str) -> None:
        """The address of this URL."""
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        self.host, self.port = parts.hostname, parts.port

    async def exchange(self, request: bytes) -> bytes:
        """Sends a request over a connection of its own, and reads the answer to its end."""
        reader, writer = await asyncio.wait_for(asyncio.open_connection(self.host, self.port), LIMIT)
        try:
            writer.write(request)
            return await asyncio.wait_for(reader.read(), LIMIT)
        finally:
            writer.close()

    async def chat(self, **fields: object) -> tuple[int, bytes]:
        """The status and the body of a chat."""
        answer = await self.exchange(chat_request(**fields))
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def text(self) -> str:
        """The text of the request that has the same text every time."""
        return content(*asyncio.run(self.chat(**TEXT)))

    def open(self, request: bytes = b"") -> socket.socket:
        """A connection that has sent these bytes."""
        peer = socket.create_connection((self.host, self.port), LIMIT)
        peer.sendall(request)
        return peer

    def is_healthy(self) -> bool:
        """Whether the server says that it is healthy."""
        request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        with contextlib.closing(self.open(request)) as peer:
            return peer.recv(1 << 16).startswith(b"HTTP/1.1 200")


def chat_request(**fields: object) -> bytes:
    body = json.dumps({"messages": [{"role": "user", "content": "Hello"}], **fields}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def content(status: int, body: bytes) -> str:
    assert status == 200, body
    answer: dict[str, Any] = json.loads(body)
    text = answer["choices"][0]["message"]["content"]
    assert isinstance(text, str)
    return text


def memory_of(pid: int) -> int:
    """Resident bytes of a process."""
    words = Path(f"/proc/{pid}/status").read_text(encoding="ascii").split("VmRSS:")[1].split()
    return int(words[0]) * 1024


def sockets_of(pid: int) -> int:
    """Sockets of a process. Its other descriptors come and go with the engine's threads."""
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            count += str(descriptor.readlink()).startswith("socket:")
    return count


def descriptors_of(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def until(what: str, is_so: Any) -> None:  # noqa: ANN401  # any callable without arguments
    """Waits until something is so."""
    deadline = time.monotonic() + LIMIT
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Address, subprocess.Popen[str], str]]:
    with serving("--max-connections", "4096", "--max-queue", "4096") as running:
        address = Address(running.url)
        yield address, running.process, address.text()


def test_clients_that_are_killed_leave_nothing_behind(server: tuple[Address, subprocess.Popen[str], str]) -> None:
    address, process, text = server
    before = sockets_of(process.pid)
    body = json.dumps({"messages": [{"role": "user", "content": "Hello"}], **ENDLESS})
    command = [sys.executable, "-c", KILLED, address.host, str(address.port), body]
    clients = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    for client in clients:
        assert client.stdout is not None
        assert client.stdout.readline() == b"reading\n"
    assert address.text() == text
    for client in clients:
        client.send_signal(signal.SIGKILL)
        client.communicate(timeout=LIMIT)
    until("the connections are closed", lambda: sockets_of(process.pid) <= before)
    assert address.text() == text


def test_256_streams_at_once_have_each_the_text_that_they_have_alone(
    server: tuple[Address, subprocess.Popen[str], str],
) -> None:
    address, _, text = server

    async def all_at_once() -> list[str]:
        return [content(*answer) for answer in await asyncio.gather(*(address.chat(**TEXT) for _ in range(256)))]

    assert set(asyncio.run(all_at_once())) == {text}


def test_2000_requests_wait_in_the_queue_and_their_memory_is_given_back(
    server: tuple[Address, subprocess.Popen[str], str],
) -> None:
    address, process, text = server
    short = {"max_tokens": 2, "temperature": 0}

    async def all_at_once() -> list[int]:
        answers = await asyncio.gather(*(address.chat(**short) for _ in range(2000)))
        return [status for status, _ in answers]

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    try:
        levels = []
        for _ in range(3):
            assert asyncio.run(all_at_once()) == [200] * 2000
            levels.append(memory_of(process.pid))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert levels[2] - levels[0] < 32 << 20, levels
    assert address.text() == text


def test_clients_that_send_nothing_or_half_a_request_keep_nobody_waiting(
    server: tuple[Address, subprocess.Popen[str], str],
) -> None:
    address, process, text = server
    before = sockets_of(process.pid)
    request = chat_request(**TEXT)
    halves = [b"", b"G", request[:20], request[: request.index(b"\r\n\r\n") + 2], request[:-1]]
    peers = [address.open(half) for half in halves * 100]
    assert address.is_healthy()
    assert address.text() == text
    for peer in peers:
        peer.close()
    until("the connections are closed", lambda: sockets_of(process.pid) <= before)


def test_a_reader_of_one_byte_at_a_time_delays_only_itself(server: tuple[Address, subprocess.Popen[str], str]) -> None:
    address, _, text = server
    slow = address.open(chat_request(**ENDLESS))
    for _ in range(20):
        assert len(slow.recv(1)) == 1
        assert address.text() == text
    slow.close()


def test_the_server_is_healthy_while_every_slot_is_busy(server: tuple[Address, subprocess.Popen[str], str]) -> None:
    address, _, text = server
    peers = [address.open(chat_request(**{**ENDLESS, "stream": False, "n": 8})) for _ in range(8)]
    for _ in range(50):
        assert address.is_healthy()
    for peer in peers:
        peer.close()
    assert address.text() == text


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
        until("no descriptor is left", lambda: descriptors_of(pid) >= limit)
        for peer in peers:
            peer.close()
        until("the server accepts again", address.is_healthy)
        assert address.text() == text
        kept.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert kept.recv(1 << 16).startswith(b"HTTP/1.1 200")
        kept.close()
        assert running.stop() == 0
