"""The servers that `server.py` measures, each a process of its own, and its clients: plain sockets."""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from python_streams import PROMPT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT = 300.0
"""Seconds after which a server that does not answer is a failure."""
CLIENTS = (1, 8, 64)
"""How many streams run at once."""
SLOTS = 8
SAMPLING = {"temperature": 1.0, "top_k": 40, "top_p": 0.9, "min_p": 0.0, "repeat_penalty": 1.0, "ignore_eos": True}
"""mullama's defaults, which both servers and the streams in the process have."""
END = b"\r\n0\r\n\r\n"
"""How a body in chunks ends, and no head, whose last line may end with a zero too."""


@dataclass
class Server:
    """A server under measurement: the port and the process id."""

    port: int
    pid: int

    def request(self, prompt: str | list[int], tokens: int, seed: int = 1) -> bytes:
        """A request for a streamed completion, as bytes."""
        body = {"model": "bench", "prompt": prompt, "max_tokens": tokens, "stream": True, "seed": seed, **SAMPLING}
        data = json.dumps(body).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n\r\n"
        return head.encode() + data

    def connect(self) -> socket.socket:
        """A new connection."""
        return socket.create_connection(("127.0.0.1", self.port), LIMIT)

    def stream_all(self, clients: int, tokens: int) -> float:
        """So many streams at once, in tokens per second."""
        request = self.request(PROMPT, tokens)
        sockets = [self.connect() for _ in range(clients)]
        began = time.perf_counter()
        for each in sockets:
            each.sendall(request)
        events = count_events(sockets)
        took = time.perf_counter() - began
        if events < clients * tokens * 0.9:
            sys.exit(f"{events} events came for {clients} streams of {tokens} tokens")
        return clients * tokens / took

    def first_token(self) -> float:
        """Seconds from the request to the first event of its answer."""
        request = self.request(PROMPT, 1)
        with self.connect() as client:
            began = time.perf_counter()
            client.sendall(request)
            received = b""
            while b"data: " not in received:
                received += receive(client)
            return time.perf_counter() - began

    def gaps(self, tokens: int, prefill: int, number: int) -> list[float]:
        """The milliseconds between two arrivals of a stream from when a foreign prompt is sent until it is computed."""
        # Another prompt each time, so that nothing of it is cached.
        foreign = [7 + (number * 31 + index * index) % 200 for index in range(prefill)]
        with self.connect() as stream, self.connect() as other:
            stream.sendall(self.request(PROMPT, tokens))
            receive(stream)
            other.sendall(self.request(foreign, 1))
            gaps: list[float] = []
            last = time.perf_counter()
            with selectors.DefaultSelector() as selector:
                for each in (stream, other):
                    selector.register(each, selectors.EVENT_READ)
                answer = data = b""
                while b"data: " not in answer and not data.endswith(END):
                    ready = ready_of(selector)
                    if stream in ready:
                        data = receive(stream)
                        now = time.perf_counter()
                        gaps.append((now - last) * 1e3)
                        last = now
                    if other in ready:
                        answer += receive(other)
                    if answer.startswith(b"HTTP/1.1 400"):
                        sys.exit(f"a server refuses {prefill} tokens; llama-server does beyond the model's own context")
        if b"data: " not in answer:
            sys.exit(f"a stream of {tokens} tokens ended before a prompt of {prefill} tokens was computed")
        return gaps

    def cpu_seconds(self) -> float:
        """Processor time of the process so far."""
        # The number of Linux's clock of another process; `stat` has only hundredths of a second.
        return time.clock_gettime((~self.pid << 3) | 2)

    def resident_kib(self) -> int:
        """Memory of the process in use now."""
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def receive(client: socket.socket) -> bytes:
    """The next bytes of an answer, which has not ended."""
    data = client.recv(65536)
    if not data:
        sys.exit("a server closed a connection in the middle of an answer")
    return data


def ready_of(selector: selectors.BaseSelector) -> list[socket.socket]:
    """The connections that have something to read, for which it waits."""
    ready = [key.fileobj for key, _ in selector.select(LIMIT)]
    if not ready:
        sys.exit(f"nothing came for {LIMIT:.0f} s")
    return [each for each in ready if isinstance(each, socket.socket)]


def count_events(sockets: list[socket.socket]) -> int:
    """Reads all answers to their ends, and counts the events."""
    events = 0
    tails = {}
    with selectors.DefaultSelector() as selector:
        for each in sockets:
            selector.register(each, selectors.EVENT_READ)
            tails[each] = b""
        while tails:
            for client in ready_of(selector):
                data = client.recv(65536)
                text = tails[client] + data
                # The end of a read may cut the mark of an event, of which five bytes then came before.
                events += (tails[client][-5:] + data).count(b"data: ")
                if not data or text.endswith(END):
                    selector.unregister(client)
                    del tails[client]
                    client.close()
                else:
                    tails[client] = text[-6:]
    return events


@dataclass(frozen=True)
class Layout:
    """What both servers have: the model, threads, and tokens of each of `SLOTS` sequences.

    Attributes:
        peer: The path of llama-server.
    """

    model: Path
    threads: int
    context: int
    peer: str | None


SERVE = """
import asyncio, sys
from mullama import ContextParams, serve

model, port, threads, context, slots = sys.argv[1], *map(int, sys.argv[2:])
params = ContextParams(
    n_ctx=context, n_parallel=slots, kv_cells=context * slots, n_threads=threads, max_queue=2048, max_paused=4096
)
asyncio.run(serve({"bench": model}, port=port, context_params=params))
"""
"""Our server, with a pool of cells for all slots."""


@contextmanager
def mullama_serve(layout: Layout) -> Iterator[Server]:
    """Our server."""
    numbers = [layout.threads, layout.context, SLOTS]
    with running(
        lambda port: [sys.executable, "-c", SERVE, str(layout.model), str(port), *map(str, numbers)]
    ) as server:
        yield server


@contextmanager
def llama_server(layout: Layout) -> Iterator[Server]:
    """llama.cpp's server."""
    assert layout.peer is not None
    command = [layout.peer, "-m", str(layout.model), "-t", str(layout.threads), "-np", str(SLOTS), "--no-webui"]
    command += ["-c", str(layout.context * SLOTS), "-fa", "on", "--alias", "bench", "--port"]
    with running(lambda port: [*command, str(port)]) as server:
        yield server


@contextmanager
def running(command: Callable[[int], list[str]]) -> Iterator[Server]:
    """A server on a port of its own, whose model is loaded."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen(command(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/health", process)
            server = Server(port, process.pid)
            server.first_token()
            yield server
        finally:
            process.terminate()
            try:
                process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Waits until a server answers there."""
    deadline = time.monotonic() + LIMIT
    while not is_answered(url):
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"no server answers at {url}")
        time.sleep(0.1)


def is_answered(url: str) -> bool:
    """Whether a server answers there, which llama-server does with an error until its model is loaded."""
    try:
        urllib.request.urlopen(url, timeout=LIMIT).close()  # noqa: S310  # loopback
    except OSError:
        return False
    return True
