"""Measures Python streams beside a bare llama.cpp loop and beside llama-cpp-python, and what a process holds.

    python benches/python_streams.py MODEL [--tokens 200] [--pairs 11] [--threads 2] [--abandoned 10000] [--peer PYTHON]

The bare loop runs in a process of its own (`cargo bench … --bench ratios -- MODEL --raw`), a run for each line it is
sent, so that the two take turns; llama-cpp-python likewise, in the interpreter PYTHON. Ratios are of medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mullama import AsyncModel, ContextParams, Model, StreamConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROMPT = "Once upon a time"
CELLS = 4096
PAGE_BYTES = resource.getpagesize()
PEER = Path(__file__).with_name("peer_llama_cpp_python.py")


def bench_binary() -> Path:
    """The compiled bench, built if it is not."""
    command = ["cargo", "bench", "--profile", "release", "-p", "mullama", "--bench", "ratios", "--no-run"]
    built = subprocess.run([*command, "--message-format=json"], check=True, capture_output=True, text=True)
    lines = (json.loads(line) for line in built.stdout.splitlines() if line.startswith("{"))
    found = [line["executable"] for line in lines if line.get("target", {}).get("name") == "ratios"]
    return Path(next(path for path in found if path))


@contextmanager
def on_call(*command: str) -> Iterator[Callable[[int], float]]:
    """A process on call: it is sent a number of streams, and answers with tokens a second."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        requests, answers = process.stdin, process.stdout
        assert requests is not None
        assert answers is not None

        def run(streams: int) -> float:
            requests.write(f"{streams}\n")
            requests.flush()
            return float(answers.readline())

        yield run
        requests.close()


def resident_mib() -> float:
    """Memory of this process in use now, in MiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * PAGE_BYTES / 2**20


def row(case: str, ours: Callable[[], float], other: Callable[[], float], count: int) -> None:
    """Prints the ratio of the medians of interleaved runs, after one of each to warm up."""
    ours(), other()
    runs = [(ours(), other()) for _ in range(count)]
    mine, beside = (statistics.median(column) for column in zip(*runs, strict=True))
    print(f"| {case} | {mine / beside:.3f} | {mine:.1f} | {beside:.1f} |", flush=True)


class Ours:
    """The ways to read a stream in Python, in tokens a second."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Loads the model."""
        params = ContextParams(n_ctx=CELLS // 8, kv_cells=CELLS, n_threads=args.threads)
        self.model = AsyncModel(Model.load(args.model), params)
        self.context = self.model.context
        self.config = StreamConfig(max_tokens=args.tokens, ignore_eos=True, seed=1, timeout_ms=None)

    def sync(self) -> float:
        """One stream, `for`."""
        began = time.perf_counter()
        count = sum(1 for _ in self.context.generate_stream(PROMPT, config=self.config))
        return count / (time.perf_counter() - began)

    def asynchronous(self, streams: int) -> float:
        """So many streams on one event loop, `async for`."""

        async def read() -> int:
            count = 0
            async for _ in self.model.generate_stream(PROMPT, config=self.config):
                count += 1
            return count

        async def together() -> float:
            began = time.perf_counter()
            counts = await asyncio.gather(*(read() for _ in range(streams)))
            return sum(counts) / (time.perf_counter() - began)

        return asyncio.run(together())


def memory(ours: Ours, loaded: float, abandoned: int) -> None:
    """Prints what the process holds after a load, after eight streams, and after streams that nobody read."""
    streams = [ours.context.generate_stream(PROMPT, config=ours.config) for _ in range(8)]
    for each in streams:
        list(each)
    after_eight = resident_mib()
    for number in range(abandoned):
        ours.context.generate_stream([number % 256 + 3] * 8, 5, timeout_ms=None)
    case = f"memory after load / 8 streams / {abandoned} abandoned (MiB)"
    print(f"| {case} | | {loaded:.0f} | {after_eight:.0f}, then {resident_mib():.0f} |")


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Python streams beside a bare llama.cpp loop.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--abandoned", type=int, default=10_000, help="streams dropped for the memory figures")
    parser.add_argument("--peer", help="an interpreter with llama-cpp-python in it")
    return parser.parse_args()


def main() -> None:
    """Measures, and prints a line of a table a case."""
    args = arguments()
    ours = Ours(args)
    loaded = resident_mib()
    numbers = ["--tokens", str(args.tokens), "--threads", str(args.threads)]
    print("| case | ratio | ours | beside |\n|---|---|---|---|")
    with ExitStack() as processes:
        raw = processes.enter_context(on_call(str(bench_binary()), str(args.model), "--raw", *numbers))
        row("Python `for` / raw", ours.sync, lambda: raw(1), args.pairs)
        row("`async for` / raw", lambda: ours.asynchronous(1), lambda: raw(1), args.pairs)
        row("8 async streams / raw batch of 8", lambda: ours.asynchronous(8), lambda: raw(8), args.pairs)
        if args.peer:
            peer = processes.enter_context(on_call(args.peer, str(PEER), str(args.model), *numbers))
            row("Python `for` / llama-cpp-python", ours.sync, lambda: peer(1), args.pairs)
    memory(ours, loaded, args.abandoned)


if __name__ == "__main__":
    main()
