"""Measures Python streams beside a bare llama.cpp loop, and the memory of a process that streams.

    python benches/python_streams.py MODEL [--tokens 200] [--pairs 11] [--threads 2] [--abandoned 10000]

The bare loop runs in a process of its own (`cargo bench … --bench ratios -- MODEL --raw`), a run for each line it is
sent, so that the two take turns. Ratios are of medians.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mullama import Context, ContextParams, Model, StreamConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROMPT = "Once upon a time"
CELLS = 4096
PAGE_BYTES = resource.getpagesize()


def bench_binary() -> Path:
    """The compiled bench, built if it is not."""
    command = ["cargo", "bench", "--profile", "release", "-p", "mullama", "--bench", "ratios", "--no-run"]
    built = subprocess.run([*command, "--message-format=json"], check=True, capture_output=True, text=True)
    lines = (json.loads(line) for line in built.stdout.splitlines() if line.startswith("{"))
    found = [line["executable"] for line in lines if line.get("target", {}).get("name") == "ratios"]
    return Path(next(path for path in found if path))


@contextmanager
def bare_loop(args: argparse.Namespace) -> Iterator[Callable[[int], float]]:
    """A bare loop on call: tokens a second of so many sequences together."""
    numbers = ["--tokens", str(args.tokens), "--threads", str(args.threads)]
    command = [str(bench_binary()), str(args.model), "--raw", *numbers]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as loop:
        requests, answers = loop.stdin, loop.stdout
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


def pairs(ours: Callable[[], float], other: Callable[[], float], count: int) -> tuple[float, float]:
    """Medians of interleaved runs, after one of each to warm up."""
    ours(), other()
    runs = [(ours(), other()) for _ in range(count)]
    return statistics.median(run[0] for run in runs), statistics.median(run[1] for run in runs)


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Python streams beside a bare llama.cpp loop.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=11)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--abandoned", type=int, default=10_000, help="streams dropped for the memory figures")
    return parser.parse_args()


def main() -> None:
    """Measures, and prints a line of a table a case."""
    args = arguments()
    model = Model.load(args.model)
    context = Context(model, ContextParams(n_ctx=CELLS // 8, kv_cells=CELLS, n_threads=args.threads))
    config = StreamConfig(max_tokens=args.tokens, ignore_eos=True, seed=1, timeout_ms=None)
    loaded = resident_mib()

    def stream() -> float:
        began = time.perf_counter()
        count = sum(1 for _ in context.generate_stream(PROMPT, config=config))
        return count / (time.perf_counter() - began)

    print("| case | ratio | ours | beside |\n|---|---|---|---|")
    with bare_loop(args) as raw:
        ours, beside = pairs(stream, lambda: raw(1), args.pairs)
        print(f"| Python `for` / raw | {ours / beside:.3f} | {ours:.1f} | {beside:.1f} |")
    streams = [context.generate_stream(PROMPT, config=config) for _ in range(8)]
    for each in streams:
        list(each)
    after_eight = resident_mib()
    for number in range(args.abandoned):
        context.generate_stream([number % 256 + 3] * 8, 5, timeout_ms=None)
    case = f"memory after load / 8 streams / {args.abandoned} abandoned (MiB)"
    print(f"| {case} | | {loaded:.0f} | {after_eight:.0f}, then {resident_mib():.0f} |")


if __name__ == "__main__":
    main()
