"""Ways to leave an async stream: each frees its place, on every kind of loop, and nothing is left unsaid."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from coroutines import LOOPS, run, soon

from mullama import AsyncModel, Context, ContextParams, Model, StreamConfig, Token, TokenStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Eventually = Callable[[Callable[[], bool]], bool]
    Leave = Callable[[Context], Awaitable[None]]

pytestmark = pytest.mark.slow

# Waits an hour before the second token.
STUCK = StreamConfig(stream_delay_ms=3_600_000, timeout_ms=None)


async def waits(context: Context) -> tuple[TokenStream, asyncio.Task[list[Token]]]:
    """A stream after its first token, and a task that waits for the second."""
    stream = context.generate_stream("A", config=STUCK)
    await stream.__anext__()
    reading = asyncio.ensure_future(read(stream))
    assert await soon(lambda: stream._being_read)
    return stream, reading


async def read(stream: TokenStream) -> list[Token]:
    """Everything that is left, by whoever holds the stream alone."""
    return [token async for token in stream]


async def by_cancelling_the_task(context: Context) -> None:
    """The task held the only reference."""
    reading = (await waits(context))[1]
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def by_cancelling_before_it_begins(context: Context) -> None:
    """The task never gets a turn."""
    reading = asyncio.ensure_future(read(context.generate_stream("A", config=STUCK)))
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def by_wait_for(context: Context) -> None:
    """Without a reference to the stream from outside."""
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(read(context.generate_stream("A", config=STUCK)), 0.02)


async def by_timeout(context: Context) -> None:
    """As `wait_for`, in the same task."""
    timeout: Any = getattr(asyncio, "timeout", None)  # since Python 3.11
    if timeout is None:
        return
    with pytest.raises(asyncio.TimeoutError):  # noqa: PT012  # the timeout is a block
        async with timeout(0.02), context.generate_stream("A", config=STUCK) as stream:
            async for _ in stream:
                pass


async def by_aclose(context: Context) -> None:
    """Whoever waits finds the stream over."""
    stream, reading = await waits(context)
    await stream.aclose()
    assert await reading == []
    assert stream.finish_reason == "cancelled"


async def by_break(context: Context) -> None:
    """The loop's end drops the stream."""
    async for _ in context.generate_stream("A", config=STUCK):
        break


async def by_the_end_of_async_with(context: Context) -> None:
    """The stream lives on, closed."""
    async with context.generate_stream("A", config=STUCK) as stream:
        await stream.__anext__()
    assert [token async for token in stream] == []


async def by_an_exception_in_async_with(context: Context) -> None:
    """The exception goes on."""
    stream = context.generate_stream("A", config=STUCK)
    with pytest.raises(LookupError):  # noqa: PT012  # as it is used
        async with stream:
            await stream.__anext__()
            raise LookupError
    assert stream.finish_reason == "cancelled"


async def by_cancel_in_another_task(context: Context) -> None:
    """Whoever waits reads what there is."""
    stream, reading = await waits(context)
    stream.cancel()
    assert await reading == []
    assert stream.finish_reason == "cancelled"


async def by_cancel_in_another_thread(context: Context) -> None:
    """As from a task."""
    stream, reading = await waits(context)
    threading.Thread(target=stream.cancel).start()
    assert await reading == []
    assert stream.finish_reason == "cancelled"


async def by_close_in_another_thread(context: Context) -> None:
    """As from a task."""
    stream, reading = await waits(context)
    threading.Thread(target=stream.close).start()
    assert await reading == []


async def by_a_cycle_collected_in_another_thread(context: Context) -> None:
    """Nobody leaves; the collector finds it."""
    cycle: list[Any] = [context.generate_stream("A", config=STUCK)]
    await cycle[0].__anext__()
    cycle.append(cycle)
    del cycle
    await asyncio.to_thread(gc.collect)


async def by_cancelling_a_generation(context: Context) -> None:
    """A whole answer is a stream too."""
    generating = asyncio.ensure_future(AsyncModel(context.model).generate("A", config=STUCK))
    assert await soon(lambda: context.unfinished == 1)
    generating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await generating


async def by_cancelling_a_chat(context: Context) -> None:
    """So is a chat."""
    chatting = asyncio.ensure_future(AsyncModel(context.model).chat([{"role": "user", "content": "A"}], config=STUCK))
    assert await soon(lambda: context.unfinished == 1)
    chatting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await chatting


WAYS = {name: way for name, way in globals().items() if name.startswith("by_")}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("way", WAYS)
def test_a_stream_frees_its_place_when_it_is_left(context: Context, way: str, loop: str) -> None:
    leave: Leave = WAYS[way]

    async def main() -> None:
        await leave(context)
        assert await soon(lambda: context.unfinished == 0)

    run(main(), LOOPS[loop])


@pytest.mark.parametrize("phase", ["queue", "prefill"])
def test_a_cancelled_task_frees_its_place_before_the_first_token(endless: Context, phase: str) -> None:
    async def main() -> None:
        running = endless.generate_stream("A", 60_000, ignore_eos=True, buffer_size=65_536)
        await running.__anext__()
        if phase == "prefill":
            running.close()
            assert await soon(lambda: endless.unfinished == 0)
        before = endless.unfinished
        reading = asyncio.ensure_future(read(endless.generate_stream([5] * 60_000, timeout_ms=None)))
        await asyncio.sleep(0)
        assert endless.unfinished == before + 1
        if phase == "prefill":
            assert await soon(lambda: endless.stats().running == 1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await soon(lambda: endless.unfinished == before)

    run(main())


@pytest.mark.timeout(150)
def test_after_a_minute_of_random_cancels_all_places_are_free(model: Model, eventually: Eventually) -> None:
    until = time.monotonic() + 60
    chance = random.Random(64)  # noqa: S311  # no secret
    ended = {"left": 0, "read": 0}
    context = Context(model, ContextParams(n_threads=1))

    async def read_some() -> None:
        stream = context.generate_stream("Write a poem:", 100, ignore_eos=True, buffer_size=chance.choice([1, 4, 64]))
        if chance.random() < 0.5:
            async for token in stream:
                assert token.index < 100
        else:
            async with stream:
                count = len([token async for token in stream])
            assert count in {0, 100} or stream.finish_reason == "cancelled"

    async def one_after_the_other() -> None:
        while time.monotonic() < until:
            try:
                await asyncio.wait_for(read_some(), chance.expovariate(5))
                ended["read"] += 1
            except asyncio.TimeoutError:  # noqa: PERF203  # one a stream
                ended["left"] += 1

    async def main() -> None:
        await asyncio.gather(*(one_after_the_other() for _ in range(64)))
        assert await soon(lambda: context.unfinished == 0)

    run(main(), limit=90)
    assert min(ended.values()) > 10

    def nobody() -> bool:
        stats = context.stats()
        return (stats.queued, stats.running, stats.paused) == (0, 0, 0)

    # The engine writes its books after the step in which the last reader left.
    assert eventually(nobody)
    assert len(context.generate("A", 3, ignore_eos=True).tokens) == 3
