"""Measures streams and the package around them. Each measurement takes about the given time."""

from __future__ import annotations

import asyncio
import random
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from _mullama_command import interrupts
from mullama import StreamConfig

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from mullama import Context, TokenStream

T = TypeVar("T")

PROMPT = "Once upon a time"
STREAMS = 8
STREAM_TOKENS = 256
PROMPT_TOKENS = 512
BEAT = 0.005
"""Seconds between two wake-ups of the task that measures the lag of the event loop."""


class FirstTokens(NamedTuple):
    """Speed of prompts.

    Attributes:
        prompt_tokens: Number of tokens of each prompt.
        prefill: Prompt tokens per second.
        cold: Seconds to the first token of a new prompt.
        warm: Seconds to the first token of the same prompt again.
    """

    prompt_tokens: int
    prefill: float
    cold: float
    warm: float


class Lag(NamedTuple):
    """How much later than requested a task of the event loop ran, in seconds."""

    p50: float
    p99: float


def one_stream(context: Context, seconds: float) -> float:
    """Tokens per second that `for` reads from one stream after another, including their time to the first token."""
    count = 0
    began = now = time.perf_counter()
    while now < began + seconds:
        with _open(context, STREAM_TOKENS) as stream:
            for _ in stream:
                count += 1
                now = time.perf_counter()
                if now >= began + seconds:
                    break
    return count / (now - began)


def one_stream_async(context: Context, seconds: float) -> float:
    """As `one_stream`, with `async for`."""
    return _run(_rate(context, seconds, STREAM_TOKENS))


def many_streams(context: Context, seconds: float) -> tuple[float, Lag]:
    """Total tokens per second of several streams, and the lag of the event loop beside them."""
    # All of them fit into the KV pool: what happens otherwise is not measured here.
    tokens = max(1, min(STREAM_TOKENS, context.context_len // STREAMS - 16))

    async def streams() -> float:
        return sum(await asyncio.gather(*(_rate(context, seconds, tokens, seed) for seed in range(STREAMS))))

    async def measure() -> tuple[float, Lag]:
        return await asyncio.gather(streams(), _lag(seconds))

    return _run(measure())


def loop_lag(seconds: float) -> Lag:
    """Lag of an idle event loop."""
    return _run(_lag(seconds))


def first_tokens(context: Context, seconds: float, most_tokens: int) -> FirstTokens:
    """Time to the first token of new prompts, and of the same prompts again."""
    tokens = max(1, min(PROMPT_TOKENS, most_tokens, context.context_len // 2))
    source = random.Random(1)  # noqa: S311  # prompts, not secrets
    rates, colds, warms = [], [], []
    for _ in _while(seconds):
        prompt = [source.randrange(context.model.n_vocab) for _ in range(tokens)]
        cold, prefill = _first_token(context, prompt)
        warm, _ = _first_token(context, prompt)
        rates.append(tokens / prefill)
        colds.append(cold)
        warms.append(warm)
    return FirstTokens(tokens, *map(statistics.median, (rates, colds, warms)))


def python_time(context: Context, seconds: float, most_tokens: int) -> float:
    """Seconds that `for` takes for a buffered token."""

    def read(stream: TokenStream) -> float:
        began, count = time.perf_counter(), 0
        for _ in stream:
            count += 1
        return (time.perf_counter() - began) / count

    return statistics.median(map(read, _computed(context, seconds, most_tokens)))


def python_time_async(context: Context, seconds: float, most_tokens: int) -> float:
    """As `python_time`, for `async for`."""

    async def read(stream: TokenStream) -> float:
        began, count = time.perf_counter(), 0
        async for _ in stream:
            count += 1
        return (time.perf_counter() - began) / count

    async def measure() -> float:
        return statistics.median([await read(stream) for stream in _computed(context, seconds, most_tokens)])

    return _run(measure())


def waking_time(context: Context, seconds: float) -> float:
    """CPU time of the event loop's thread for a token that `async for` had to wait for, in seconds."""

    async def measure() -> float:
        count = 0
        began, until = time.thread_time(), time.perf_counter() + seconds
        while time.perf_counter() < until:
            async with _open(context, STREAM_TOKENS) as stream:
                async for _ in stream:
                    count += 1
        return (time.thread_time() - began) / count

    return _run(measure())


def import_time(rounds: int = 7) -> float | None:
    """Seconds that `import mullama` adds to the start of an interpreter; None if none can be started."""
    programs = ("pass", "import mullama")
    try:
        # Alternately, after one warm-up of each that reads the files into memory.
        runs = [[_start(program) for program in programs] for _ in range(rounds + 1)][1:]
    except (OSError, subprocess.SubprocessError):
        return None
    return statistics.median(importing - bare for bare, importing in runs)


def _run(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, which handles Ctrl-C only where Python's own handler is installed."""

    async def interruptible() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101  # a coroutine that runs has a task
        with interrupts.diverted(lambda: loop.call_soon_threadsafe(task.cancel)):
            return await main

    try:
        return asyncio.run(interruptible())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _open(context: Context, tokens: int, seed: int = 1, buffer_size: int = 64) -> TokenStream:
    # The content of the text must not decide its length.
    config = StreamConfig(max_tokens=tokens, seed=seed, ignore_eos=True, buffer_size=buffer_size, timeout_ms=None)
    return context.generate_stream(PROMPT, config=config)


async def _rate(context: Context, seconds: float, tokens: int, seed: int = 1) -> float:
    count = 0
    began = now = time.perf_counter()
    while now < began + seconds:
        async with _open(context, tokens, seed) as stream:
            async for _ in stream:
                count += 1
                now = time.perf_counter()
                if now >= began + seconds:
                    break
    return count / (now - began)


async def _lag(seconds: float) -> Lag:
    lags: list[float] = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until or len(lags) < 2:  # noqa: PLR2004  # percentiles need two
        await asyncio.sleep(BEAT)
        lags.append(time.perf_counter() - began - BEAT)
    hundredths = statistics.quantiles(lags, n=100, method="inclusive")
    return Lag(hundredths[49], hundredths[98])


def _first_token(context: Context, prompt: list[int]) -> tuple[float, float]:
    """Seconds to the first token, and the prefill's part of them."""
    began = time.perf_counter()
    with context.generate_stream(prompt, 1, ignore_eos=True, timeout_ms=None) as stream:
        next(stream)
        return time.perf_counter() - began, stream.timings.prefill


def _computed(context: Context, seconds: float, most_tokens: int) -> Iterator[TokenStream]:
    """Unread streams whose tokens have all been computed."""
    tokens = max(1, min(most_tokens, context.context_len - 16))
    for _ in _while(seconds):
        with _open(context, tokens, buffer_size=min(tokens + 1, 65_536)) as stream:
            _wait_until_computed(context)
            yield stream


def _wait_until_computed(context: Context) -> None:
    while context.unfinished:
        time.sleep(0.001)


def _while(seconds: float) -> Iterator[None]:
    """Iterates until the time is over, at least once."""
    until = time.perf_counter() + seconds
    yield
    while time.perf_counter() < until:
        yield


def _start(program: str) -> float:
    """Seconds that an interpreter takes to start, run the program and end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, stdin=subprocess.DEVNULL)  # noqa: S603  # our own program
    return time.perf_counter() - began
