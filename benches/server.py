"""Measures `mullama serve` beside streams in the process, and beside llama-server.

    python benches/server.py MODEL [--tokens 200] [--pairs 7] [--threads 2] [--peer LLAMA_SERVER] [--prefill 4000]

Clients are plain sockets read by one thread, which count the events and parse none of them. The two sides take turns,
and ratios are of medians. Streams in the process run in this one, `for` and `async for`, and are the only work while
they are measured. All sides have the same model, context, slots, KV cells, threads, sampling and prompts.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from measured_servers import CLIENTS, Layout, Server, llama_server, mullama_serve
from python_streams import CELLS, PROMPT, Ours

if TYPE_CHECKING:
    from collections.abc import Callable

TRIES = 51
"""Measurements of a first token."""
IDLE = 200
"""Idle connections whose memory is measured."""
GAP_RUNS = 5
"""Streams beside a foreign prompt."""
GAP_TOKENS = 4000
"""Most tokens of each of them; it is left once the foreign prompt is computed."""


def print_row(case: str, target: str, *figures: str) -> None:
    """Prints a line of the table: what is measured, its target, the result, and the two sides."""
    result, ours, beside = [*figures, "", ""][:3]
    print(f"| {case} | {target} | {result} | {ours} | {beside} |", flush=True)


def print_ratio(case: str, target: str, sides: tuple[Callable[[], float], Callable[[], float]], pairs: int) -> None:
    """Prints the ratio of the medians of interleaved runs, after one of each to warm up."""
    for side in sides:
        side()
    runs = [(sides[0](), sides[1]()) for _ in range(pairs)]
    ours, beside = (statistics.median(column) for column in zip(*runs, strict=True))
    print_row(case, target, f"{ours / beside:.3f}", f"{ours:.1f}", f"{beside:.1f}")


def cpu_seconds() -> float:
    """Processor time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def percentile(values: list[float], part: float) -> float:
    """The value that this part of the others is at most."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def print_first_token(ours: Ours, server: Server, pairs: int) -> None:
    """Prints what HTTP adds to the time of the first token, in turns with streams in the process."""

    def in_the_process() -> float:
        began = time.perf_counter()
        with ours.context.generate_stream(PROMPT, config=ours.config) as stream:
            next(stream)
            return time.perf_counter() - began

    server.first_token(), in_the_process()
    times = [(server.first_token(), in_the_process()) for _ in range(max(TRIES, pairs))]
    with_http, alone = (statistics.median(column) * 1e3 for column in zip(*times, strict=True))
    print_row(
        "first token added by HTTP, p50 (ms)", "≤ 1", f"{with_http - alone:.2f}", f"{with_http:.2f}", f"{alone:.2f}"
    )


def print_cpu(ours: Ours, server: Server, tokens: int, pairs: int) -> None:
    """Prints the processor time of the server for 1,000 tokens beyond that of the same streams in the process."""
    for clients in CLIENTS[:2]:
        beside = inside(ours, clients)
        runs = []
        for _ in range(pairs):
            before = server.cpu_seconds(), cpu_seconds()
            server.stream_all(clients, tokens)
            # The clients of the server are in this process, so its own time counts from here on.
            between = server.cpu_seconds(), cpu_seconds()
            beside()
            runs.append((between[0] - before[0], cpu_seconds() - between[1]))
        scale = 1e6 / (clients * tokens)
        over_http, alone = (statistics.median(column) * scale for column in zip(*runs, strict=True))
        case = f"server CPU beyond the engine's, per 1,000 tokens of {clients} streams (ms)"
        print_row(case, "-", f"{over_http - alone:.1f}", f"{over_http:.1f}", f"{alone:.1f}")


def print_idle(server: Server) -> None:
    """Prints the memory of an idle connection that has had an answer."""
    before = server.resident_kib()
    idle = [server.connect() for _ in range(IDLE)]
    for each in idle:
        each.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        each.recv(4096)
    print_row("memory of an idle connection (KiB)", "≤ 40", f"{(server.resident_kib() - before) / IDLE:.1f}")
    for each in idle:
        each.close()


def print_gaps(sides: dict[str, Server], prefill: int) -> None:
    """Prints the gaps of a stream while a foreign prompt is computed beside it: the medians of several runs."""
    worst = {}
    for name, server in sides.items():
        runs = [server.gaps(GAP_TOKENS, prefill, number) for number in range(GAP_RUNS)]
        columns = [[percentile(gaps, part) for gaps in runs] for part in (0.5, 0.99)] + [[max(gaps) for gaps in runs]]
        p50, p99, worst[name] = (statistics.median(column) for column in columns)
        spread = f"worst {min(columns[2]):.0f} to {max(columns[2]):.0f}"
        case = f"{name}: gaps beside a foreign prompt of {prefill} tokens, p50 / p99 / worst (ms)"
        print_row(case, "-", f"{p50:.2f} / {p99:.1f} / {worst[name]:.0f}", spread)
    if len(worst) > 1:
        ours, beside = worst.values()
        print_row("worst gap / llama-server's", "< 1", f"{ours / beside:.3f}", f"{ours:.0f}", f"{beside:.0f}")


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="mullama serve beside streams in the process and llama-server.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=200, help="tokens of each stream")
    parser.add_argument("--pairs", type=int, default=7, help="interleaved runs of the two sides")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prefill", type=int, default=0, help="tokens of a foreign prompt beside a stream; 0 is none")
    parser.add_argument("--peer", help="path of llama-server")
    parser.add_argument("--shape", choices=["demo", "0.5b"], default="demo", help="whose targets are printed")
    return parser.parse_args()


TARGETS = {
    "demo": {"process": ("≥ 0.6", "≥ 0.7", "-"), "peer": ("-", "≥ 2", "-")},
    "0.5b": {"process": ("≥ 0.97", "≥ 0.97", "≥ 0.97"), "peer": ("-", "-", "-")},
}
"""The targets of the ratios at 1, 8 and 64 clients."""


def print_throughput(ours: Ours, server: Server, args: argparse.Namespace) -> None:
    """Prints tokens per second over HTTP beside those of streams in the process."""
    for clients, target in zip(CLIENTS, TARGETS[args.shape]["process"], strict=True):
        sides = served(server, clients, args.tokens), inside(ours, clients)
        print_ratio(f"tokens/s of {clients} over SSE / in the process", target, sides, args.pairs)


def served(server: Server, clients: int, tokens: int) -> Callable[[], float]:
    """So many streams over HTTP."""
    return lambda: server.stream_all(clients, tokens)


def inside(ours: Ours, clients: int) -> Callable[[], float]:
    """So many streams in the process: one is read with `for`, more with `async for`."""
    return ours.sync if clients == 1 else lambda: ours.asynchronous(clients)


def main() -> None:
    """Measures, and prints a table with a line for each case."""
    args = arguments()
    ours = Ours(args)
    layout = Layout(args.model, args.threads, CELLS // 8, args.peer)
    print("| case | target | result | ours | beside |\n|---|---|---|---|---|")
    with ExitStack() as processes:
        server = processes.enter_context(mullama_serve(layout))
        print_throughput(ours, server, args)
        print_first_token(ours, server, args.pairs)
        print_cpu(ours, server, args.tokens, args.pairs)
        print_idle(server)
        if args.peer:
            peer = processes.enter_context(llama_server(layout))
            for clients, target in zip(CLIENTS, TARGETS[args.shape]["peer"], strict=True):
                both = served(server, clients, args.tokens), served(peer, clients, args.tokens)
                print_ratio(f"tokens/s of {clients} over SSE / llama-server's", target, both, args.pairs)
    if args.prefill:
        layout = Layout(args.model, args.threads, max(args.prefill, GAP_TOKENS) + 96, args.peer)
        with ExitStack() as processes:
            sides = {"mullama serve": processes.enter_context(mullama_serve(layout))}
            if args.peer:
                sides["llama-server"] = processes.enter_context(llama_server(layout))
            print_gaps(sides, args.prefill)


if __name__ == "__main__":
    main()
