"""HTTP over bare sockets, for clients that do what no library does, and what a server's process holds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from namespace import TCP_REPAIR

LIMIT = 120.0
"""Seconds after which something that was expected has failed to happen."""
TEXT = {"max_tokens": 40, "temperature": 0, "deterministic": True, "ignore_eos": True}
"""A request whose text is the same every time."""
ENDLESS = {"max_tokens": -1, "ignore_eos": True, "stream": True, "buffer_size": 4}


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
        return int(head.split()[1]), dechunked(body) if b"chunked" in head else body

    def text(self) -> str:
        """The text of the request that has the same text every time."""
        return content(*asyncio.run(self.chat(**TEXT)))

    def open(self, request: bytes = b"", *, receive_buffer: int | None = None) -> socket.socket:
        """A connection that has sent these bytes."""
        peer = socket.socket()
        if receive_buffer is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        peer.settimeout(LIMIT)
        try:
            peer.connect((self.host, self.port))
            peer.sendall(request)
        except OSError:
            peer.close()
            raise
        return peer

    def get(self, path: str) -> bytes:
        """The body of a successful answer."""
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        with contextlib.closing(self.open(request)) as peer:
            answer = b"".join(iter(lambda: peer.recv(1 << 16), b""))
        assert answer.startswith(b"HTTP/1.1 200"), answer
        return answer.partition(b"\r\n\r\n")[2]

    def is_healthy(self) -> bool:
        """Whether the server says that it is healthy."""
        return b"ok" in self.get("/health")

    def load(self) -> dict[str, int]:
        """What the first model's engine does now: `queued`, `running` and `paused` streams among others."""
        found: dict[str, int] = json.loads(self.get("/status"))["models"][0]
        return found

    def streams(self) -> int:
        """Streams that have not ended."""
        load = self.load()
        return load["queued"] + load["running"] + load["paused"]


def chat_request(**fields: object) -> bytes:
    """The bytes of a request for a chat."""
    body = json.dumps({"messages": [{"role": "user", "content": "Hello"}], **fields}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def dechunked(body: bytes) -> bytes:
    """A body without the lengths of its chunks, the last of which must be there."""
    whole = b""
    while True:
        line, _, body = body.partition(b"\r\n")
        length = int(line, 16)
        if length == 0:
            return whole
        assert body[length : length + 2] == b"\r\n", "the body ends in the middle of a chunk"
        whole, body = whole + body[:length], body[length + 2 :]


def content(status: int, body: bytes) -> str:
    """The text of an answer in one document."""
    assert status == 200, body
    answer: dict[str, Any] = json.loads(body)
    text = answer["choices"][0]["message"]["content"]
    assert isinstance(text, str)
    return text


def streamed(status: int, body: bytes) -> str:
    """The text of a streamed answer, which must be whole."""
    assert status == 200, body
    events = [line.removeprefix(b"data: ") for line in body.splitlines() if line.startswith(b"data: ")]
    assert events[-1] == b"[DONE]", events[-3:]
    return "".join(json.loads(event)["choices"][0]["delta"].get("content", "") for event in events[:-1])


def vanish(peer: socket.socket) -> None:
    """Ends a connection without telling the peer, as a machine does that loses its power.

    Raises:
        PermissionError: This process lacks `CAP_NET_ADMIN`, which `namespace.run_in_namespace` gives.
    """
    peer.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    peer.close()


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
    """All descriptors of a process."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
