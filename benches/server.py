"""Measures `mullama serve` beside streams in the process, and beside llama-server.

    python benches/server.py MODEL [--tokens 200] [--pairs 7] [--threads 2] [--peer LLAMA_SERVER] [--prefill 4000]

Clients are plain sockets read by one thread, which count the events and parse none of them. The two sides take turns,
and ratios are of medians. Streams in the process run in this one, `for` and `async for`.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from python_streams import PROMPT, Ours, row

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 120.0
"""Seconds after which a server that does not answer is a failure."""

CLIENTS = (1, 8, 64)
IDLE = 200
"""Idle connections whose memory is measured."""


@dataclass
class Server:
    """A server under measurement: the port and the process id."""

    port: int
    pid: int

    def request(self, body: dict[str, object]) -> bytes:
        """A request for a completion, as bytes."""
        data = json.dumps(body).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n\r\n"
        return head.encode() + data

    def connect(self) -> socket.socket:
        """A new connection."""
        return socket.create_connection(("127.0.0.1", self.port), LIMIT)

    def stream_all(self, clients: int, tokens: int) -> float:
        """So many streams at once, in tokens a second."""
        body = {"model": "bench", "prompt": PROMPT, "max_tokens": tokens, "stream": True, "ignore_eos": True, "seed": 1}
        sockets = [self.connect() for _ in range(clients)]
        began = time.perf_counter()
        for each in sockets:
            each.sendall(self.request(body))
        events = count_events(sockets)
        took = time.perf_counter() - began
        if events < clients * tokens * 0.9:
            sys.exit(f"{events} events came for {clients} streams of {tokens} tokens")
        return clients * tokens / took

    def first_token(self) -> float:
        """Seconds from the request to the first event of its answer."""
        with self.connect() as client:
            began = time.perf_counter()
            body = {"model": "bench", "prompt": PROMPT, "max_tokens": 1, "stream": True, "ignore_eos": True}
            client.sendall(self.request(body))
            received = b""
            while b"data: " not in received:
                received += client.recv(65536)
            return time.perf_counter() - began

    def cpu_seconds(self) -> float:
        """Processor time of the process so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def resident_kib(self) -> int:
        """Memory of the process in use now."""
        lines = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def count_events(sockets: list[socket.socket]) -> int:
    """Reads all answers to their ends, and counts the events."""
    events = 0
    tails = {}
    with selectors.DefaultSelector() as selector:
        for each in sockets:
            selector.register(each, selectors.EVENT_READ)
            tails[each] = b""
        while tails:
            for key, _ in selector.select(LIMIT):
                data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                text = tails[key.fileobj] + data  # type: ignore[index]
                events += data.count(b"data: ")
                if not data or text.endswith(b"0\r\n\r\n"):
                    selector.unregister(key.fileobj)
                    del tails[key.fileobj]  # type: ignore[arg-type]
                    key.fileobj.close()  # type: ignore[union-attr]
                else:
                    tails[key.fileobj] = text[-8:]  # type: ignore[index]
    return events


@contextmanager
def mullama_serve(args: argparse.Namespace) -> Iterator[Server]:
    """Our server."""
    command = [sys.executable, "-m", "mullama", "serve", "--model", f"bench={args.model}", "--port", "0"]
    command += ["--threads", str(args.threads), "--parallel", "8", "--ctx-size", str(args.context)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = process.stderr.readline().rpartition(" at ")[2].strip()
        threading.Thread(target=process.stderr.read, daemon=True).start()
        try:
            yield Server(int(url.rpartition(":")[2]), process.pid)
        finally:
            process.terminate()


@contextmanager
def llama_server(args: argparse.Namespace) -> Iterator[Server]:
    """llama.cpp's server with the same layout."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [args.peer, "-m", str(args.model), "--port", str(port), "-t", str(args.threads), "-np", "8"]
    command += ["-c", str(args.context * 8), "--no-webui", "-fa", "on"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + LIMIT
            while time.monotonic() < deadline:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=LIMIT)
                    break
                except OSError:
                    time.sleep(0.1)
            yield Server(port, process.pid)
        finally:
            process.terminate()


def worst_gap(server: Server, tokens: int, prefill: int) -> tuple[float, float]:
    """The longest and the median gap of a stream in milliseconds, while a foreign prompt is computed beside it."""
    body = {"model": "bench", "prompt": PROMPT, "max_tokens": tokens, "stream": True, "ignore_eos": True, "seed": 1}
    foreign = {"model": "bench", "prompt": [7 + number % 200 for number in range(prefill)], "max_tokens": 1}
    gaps = []
    with server.connect() as stream, server.connect() as other:
        stream.sendall(server.request(body))
        last = None
        sent = False
        while True:
            data = stream.recv(65536)
            now = time.perf_counter()
            if last is not None:
                gaps.append((now - last) * 1e3)
            last = now
            if len(gaps) == tokens // 10 and not sent:
                other.sendall(server.request(foreign))
                sent = True
            if not data or data.endswith(b"0\r\n\r\n"):
                return max(gaps), statistics.median(gaps)


def print_costs(ours: Ours, server: Server, args: argparse.Namespace) -> None:
    """What HTTP adds: to the first token, to processor time, and to memory for idle connections."""
    with_http = statistics.median(server.first_token() for _ in range(51))
    inside = []
    for _ in range(51):
        began = time.perf_counter()
        with ours.context.generate_stream(PROMPT, config=ours.config) as stream:
            next(stream)
        inside.append(time.perf_counter() - began)
    alone = statistics.median(inside)
    added = (with_http - alone) * 1e3
    print(f"| first token added by HTTP, p50 (ms) | {added:.2f} | {with_http * 1e3:.2f} | {alone * 1e3:.2f} |")
    before = server.cpu_seconds()
    server.stream_all(8, args.tokens * 4)
    spent = (server.cpu_seconds() - before) * 1e6 / (32 * args.tokens)
    print(f"| processor time for 1,000 tokens of 8 streams, engine and all (ms) | {spent:.0f} | | |")
    idle_before = server.resident_kib()
    idle = [server.connect() for _ in range(IDLE)]
    for each in idle:
        each.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        each.recv(4096)
    print(f"| memory of an idle connection (KiB) | {(server.resident_kib() - idle_before) / IDLE:.1f} | | |")
    for each in idle:
        each.close()


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="mullama serve beside streams in the process and llama-server.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--context", type=int, default=512, help="tokens of one sequence")
    parser.add_argument("--prefill", type=int, default=0, help="tokens of a foreign prompt beside a stream")
    parser.add_argument("--peer", help="path of llama-server")
    return parser.parse_args()


def main() -> None:
    """Measures, and prints a line of a table a case."""
    args = arguments()
    ours = Ours(args)
    print("| case | ratio | ours | beside |\n|---|---|---|---|")
    with ExitStack() as processes:
        server = processes.enter_context(mullama_serve(args))
        for clients in CLIENTS:
            beside = ours.sync if clients == 1 else lambda clients=clients: ours.asynchronous(clients)
            row(
                f"{clients} over SSE / in the process",
                lambda clients=clients: server.stream_all(clients, args.tokens),  # type: ignore[misc]
                beside,
                args.pairs,
            )
        print_costs(ours, server, args)
        if args.prefill:
            longest, median = worst_gap(server, args.tokens, args.prefill)
            print(f"| worst gap beside {args.prefill} foreign tokens (ms); median | {longest:.0f} | {median:.2f} | |")
        if args.peer:
            peer = processes.enter_context(llama_server(args))
            for clients in CLIENTS:
                row(
                    f"{clients} over SSE / llama-server",
                    lambda clients=clients: server.stream_all(clients, args.tokens),  # type: ignore[misc]
                    lambda clients=clients: peer.stream_all(clients, args.tokens),  # type: ignore[misc]
                    args.pairs,
                )
            if args.prefill:
                longest, median = worst_gap(peer, args.tokens, args.prefill)
                print(f"| llama-server: the same gap (ms); median | {longest:.0f} | {median:.2f} | |")


if __name__ == "__main__":
    main()
