"""Many threads at once, and the GIL between them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from mullama import Context, ContextParams, Model, StreamBusyError, StreamConfig, StreamTimeoutError, Token

if TYPE_CHECKING:
    from collections.abc import Callable

    Eventually = Callable[[Callable[[], bool]], bool]

STUCK = StreamConfig(stream_delay_ms=3_600_000, timeout_ms=None)


def test_64_threads_each_read_their_own_stream(context: Context) -> None:
    def read(seed: int) -> tuple[str, int, str]:
        stream = context.generate_stream("Write a poem:", 40, seed=seed, ignore_eos=True)
        return "".join(token.text for token in stream), stream.tokens_generated, stream.text

    with ThreadPoolExecutor(64) as threads:
        for text, count, told in threads.map(read, range(64), timeout=60):
            assert count == 40
            assert text == told


def test_threads_that_read_a_stream_by_turns_lose_nothing(context: Context) -> None:
    stream = context.generate_stream("Write a poem:", 400, ignore_eos=True, timeout_ms=0)
    turn = threading.Lock()

    def read() -> list[Token]:
        mine: list[Token] = []
        while True:
            with turn:
                token = next(stream, None)
            if token is None:
                return mine
            mine.append(token)

    with ThreadPoolExecutor(8) as threads:
        readers = [threads.submit(read) for _ in range(8)]
        tokens = [token for reader in readers for token in reader.result(timeout=60)]
    assert sorted(token.index for token in tokens) == list(range(400))
    assert "".join(token.text for token in sorted(tokens, key=lambda token: token.index)) == stream.text


def test_a_second_reader_is_refused_and_the_first_goes_on(context: Context, eventually: Eventually) -> None:
    stream = context.generate_stream("Write a poem:", 30, ignore_eos=True, stream_delay_ms=20)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(list, stream)
        assert eventually(lambda: stream._being_read)
        refused = 0
        between: list[Token | None] = []
        while not first.done():
            try:
                between.append(next(stream, None))
            except StreamBusyError:
                refused += 1
            time.sleep(0.005)
        assert refused > 10
        tokens = first.result(timeout=60) + [token for token in between if token is not None]
        assert sorted(token.index for token in tokens) == list(range(30))


def test_another_thread_runs_while_one_waits(context: Context) -> None:
    counted = 0
    done = threading.Event()

    def count() -> None:
        nonlocal counted
        while not done.is_set():
            counted += 1

    stream = context.generate_stream("A", config=STUCK, timeout_ms=1_000)
    next(stream)
    counter = threading.Thread(target=count)
    counter.start()
    try:
        before = counted
        with pytest.raises(StreamTimeoutError):
            next(stream)
        during = counted - before
    finally:
        done.set()
        counter.join()
    # Two slices of the interpreter's time would be some thousand; a second of a free interpreter are many more.
    assert during > 100_000


def test_contexts_are_made_by_many_threads_and_share_one_engine(model: Model) -> None:
    params = ContextParams(n_ctx=512, max_queue=7)
    with ThreadPoolExecutor(16) as threads:
        contexts = list(threads.map(lambda _: Context(model, params), range(16), timeout=60))
    with contexts[0].generate_stream("A", config=STUCK):
        assert [context.unfinished for context in contexts] == [1] * 16


@pytest.mark.parametrize("end", ["cancel", "close"])
def test_another_thread_ends_a_read_that_waits(context: Context, end: str) -> None:
    stream = context.generate_stream("A", config=STUCK)
    next(stream)
    with ThreadPoolExecutor(1) as threads:
        rest = threads.submit(list, stream)
        getattr(stream, end)()
        assert rest.result(timeout=10) == []
    assert stream.finish_reason == "cancelled"
