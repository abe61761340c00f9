"""A WebSocket client of bare frames, which can also break the protocol."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

LIMIT = 30.0
"""Seconds after which an answer that does not come is a failure."""

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
FIN = 0x80


def frame(first: int, payload: bytes = b"", *, masked: bool = True) -> bytes:
    """A client's frame whose first byte is this."""
    mask = os.urandom(4) if masked else b""
    bit = 0x80 if masked else 0
    if len(payload) < 126:
        length = bytes([bit | len(payload)])
    elif len(payload) < 1 << 16:
        length = struct.pack("!BH", bit | 126, len(payload))
    else:
        length = struct.pack("!BQ", bit | 127, len(payload))
    if masked:
        payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes([first]) + length + mask + payload


class RawWebSocket:
    """A connection after its handshake."""

    def __init__(self, url: str, *, receive_buffer: int | None = None) -> None:
        """Connects; a small receive buffer makes a client that does not read noticed sooner."""
        address = urlsplit(url)
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(LIMIT)
        self.socket.connect((address.hostname, address.port))
        self._buffer = b""
        lines = ["GET /ws HTTP/1.1", f"Host: {address.netloc}", "Connection: Upgrade", "Upgrade: websocket"]
        lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", ""]
        self.socket.sendall("\r\n".join(lines).encode())
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += self._received()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        assert b" 101 " in head.splitlines()[0], head
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head

    def __enter__(self) -> Self:
        """The connection, which closes with the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Closes the socket without a close frame."""
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self.socket.sendall(data)

    def _received(self) -> bytes:
        data = self.socket.recv(65_536)
        if not data:
            raise EOFError
        return data

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._buffer += self._received()
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def receive(self) -> tuple[int, bytes]:
        """The opcode and the payload of the next frame; `EOFError` at the end of the connection."""
        first, length = self._take(2)
        assert first & FIN
        assert length < 0x80, "a server does not mask"
        if length == 126:
            [length] = struct.unpack("!H", self._take(2))
        elif length == 127:
            [length] = struct.unpack("!Q", self._take(8))
        return first & 15, self._take(length)

    def close_code(self) -> int | None:
        """The code of the server's close frame, after which the connection ends; other frames are skipped."""
        while True:
            opcode, payload = self.receive()
            if opcode == CLOSE:
                break
        try:
            self.receive()
        except EOFError:
            return struct.unpack("!H", payload[:2])[0] if payload else None
        raise AssertionError
