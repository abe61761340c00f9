"""Streams and the lives of event loops: loops that close, many loops at once, and loops that watch no descriptor."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from coroutines import LOOPS, WithoutReaders, run, soon

from mullama import Context, ContextParams, Model, StreamConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess

    from mullama import Token, TokenStream

    Eventually = Callable[[Callable[[], bool]], bool]
    Script = Callable[[str], CompletedProcess[str]]

# Waits an hour before the second token.
STUCK = StreamConfig(stream_delay_ms=3_600_000, timeout_ms=None)


async def read(stream: TokenStream) -> list[Token]:
    """Everything."""
    return [token async for token in stream]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_stream_goes_on_under_another_loop(context: Context, loop: str) -> None:
    exact = StreamConfig(max_tokens=60, temperature=0.0, ignore_eos=True, buffer_size=2, deterministic=True)
    whole = context.generate("Count: 1, 2, 3", config=exact)
    stream = context.generate_stream("Count: 1, 2, 3", config=exact)

    async def some() -> str:
        return "".join([(await stream.__anext__()).text for _ in range(20)])

    assert run(some(), LOOPS[loop]) + run(some()) + run(some(), LOOPS[loop]) == whole.text


@pytest.mark.parametrize("loop", LOOPS)
def test_a_task_that_waits_when_its_loop_is_closed_is_collected_with_it(
    context: Context, eventually: Eventually, loop: str
) -> None:
    told: list[str] = []

    async def begin() -> None:
        stream = context.generate_stream("A", config=STUCK)
        await stream.__anext__()
        reading = asyncio.ensure_future(read(stream))
        del stream
        # More turns of the loop than a read takes until it waits.
        for _ in range(10):
            await asyncio.sleep(0)
        assert not reading.done()

    ended = LOOPS[loop]()
    ended.set_exception_handler(lambda _, context: told.append(context["message"]))
    ended.run_until_complete(asyncio.wait_for(begin(), 20))
    ended.close()
    assert context.unfinished == 1
    # Closing says nothing of a task; asyncio complains where the task is lost.
    del ended
    gc.collect()
    assert eventually(lambda: context.unfinished == 0)
    assert set(told) <= {"Task was destroyed but it is pending!"}


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_and_its_descriptors_are_released(context: Context, loop: str) -> None:
    async def main() -> tuple[weakref.ref[Any], int]:
        assert len(await read(context.generate_stream("A", 20, ignore_eos=True, buffer_size=1))) == 20
        return weakref.ref(asyncio.get_running_loop()), descriptors()

    run(asyncio.sleep(0), LOOPS[loop])  # uvloop keeps some of its own from its first loop on
    gc.collect()
    before = descriptors()
    ended, during = run(main(), LOOPS[loop])
    gc.collect()
    assert ended() is None
    assert descriptors() == before < during


def descriptors() -> int:
    """How many descriptors the process has open, without those of an engine, which has one for each compute thread."""
    opened = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one with which we look
            opened.append(descriptor.readlink().name)
    return len([name for name in opened if name != "schedstat"])


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
def test_many_loops_in_many_threads_read_at_once(context: Context, loop: str) -> None:
    async def one() -> list[int]:
        stream = context.generate_stream("Write a poem:", 100, ignore_eos=True, buffer_size=3)
        return [token.index for token in await read(stream)]

    async def main() -> list[list[int]]:
        return await asyncio.gather(*(one() for _ in range(4)))

    with ThreadPoolExecutor(4) as threads:
        for indexes in threads.map(lambda _: run(main(), LOOPS[loop]), range(4), timeout=60):
            assert indexes == [list(range(100))] * 4


@pytest.mark.slow
def test_two_loops_read_one_stream_by_turns(context: Context) -> None:
    stream = context.generate_stream("Write a poem:", 400, ignore_eos=True, buffer_size=1, timeout_ms=0)

    async def some() -> list[int]:
        return [(await stream.__anext__()).index for _ in range(4)]

    with ThreadPoolExecutor(2) as threads:
        turns = [threads.submit(run, some()).result(timeout=60) for _ in range(100)]
    assert [index for turn in turns for index in turn] == list(range(400))


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
def test_no_wake_up_is_lost_where_engines_notify_while_the_loop_drains(model: Model, loop: str) -> None:
    # Engines step independently, so they notify at any moment of a drain.
    contexts = [Context(model, ContextParams(n_threads=1, n_ctx=512 + at)) for at in range(4)]

    async def one(context: Context) -> int:
        count = 0
        for _ in range(6):
            stream = context.generate_stream("Write a poem:", 450, ignore_eos=True, buffer_size=1, timeout_ms=None)
            count += len(await read(stream))
        return count

    async def main() -> list[int]:
        return await asyncio.gather(*map(one, contexts))

    assert run(main(), LOOPS[loop], limit=60) == [6 * 450] * 4


def helpers() -> list[threading.Thread]:
    """The helper threads of loops that watch no descriptor."""
    return [thread for thread in threading.enumerate() if thread.name == "mullama-notifier"]


def test_the_helper_thread_ends_with_its_loop(context: Context, eventually: Eventually) -> None:
    async def main() -> int:
        await asyncio.gather(*(read(context.generate_stream("A", 30, ignore_eos=True)) for _ in range(4)))
        return len(helpers())

    assert eventually(lambda: not helpers())
    assert run(main(), WithoutReaders) == 1
    assert eventually(lambda: not helpers())


def test_the_helper_thread_ends_where_the_loop_never_answered(context: Context, eventually: Eventually) -> None:
    def notify_and_stop(loop: Any, stream: TokenStream) -> None:  # noqa: ANN401  # asyncio does not know its class
        before = loop.calls
        stream.cancel()
        notified.append(eventually(lambda: loop.calls > before))
        loop.stop()

    async def wait() -> None:
        stream = context.generate_stream("A", config=STUCK)
        await stream.__anext__()
        here = asyncio.get_running_loop()
        here.call_soon(notify_and_stop, here, stream)
        await stream.__anext__()

    assert eventually(lambda: not helpers())
    notified: list[bool] = []
    loop = WithoutReaders()
    loop.set_exception_handler(lambda *_: None)
    waiting = loop.create_task(wait())
    loop.run_forever()
    assert notified == [True]
    assert not waiting.done()
    loop.close()
    del loop, waiting
    gc.collect()
    assert eventually(lambda: not helpers())


BLOCKING = """
import asyncio, threading, warnings
from mullama import AsyncModel, Context, Model

warnings.simplefilter("always")
model = AsyncModel(Model.load("demo"))
context = model.context
seen = []
warnings.showwarning = lambda message, category, file, *_: seen.append((category.__name__, file, str(message)))

async def main():
    await asyncio.to_thread(list, context.generate_stream("A", 3, ignore_eos=True))
    await asyncio.to_thread(context.generate, "A", 3)
    assert seen == []
    for turn in range(3):
        count = 0
        for token in context.generate_stream("A", 3, ignore_eos=True):
            count += 1
        assert count == 3

list(context.generate_stream("A", 3))
assert seen == []
asyncio.run(main())
thread = threading.Thread(target=lambda: asyncio.run(again()))

async def again():
    for token in context.generate_stream("A", 3):
        pass

thread.start()
thread.join()
print(seen)
"""


def test_a_plain_for_in_a_coroutine_works_and_warns_once_a_process(script: Script) -> None:
    done = script(BLOCKING)
    words = "reading a stream without `async` blocks the running event loop; `async for` and AsyncModel do not"
    assert (done.stdout, done.stderr) == (f"{[('RuntimeWarning', '<string>', words)]}\n", "")


@pytest.mark.slow
def test_abandoned_async_streams_leave_memory_flat(model: Model) -> None:
    context = Context(model, ContextParams(n_threads=1))
    prompt = model.tokenize("Write a poem:")

    async def open_and_abandon(times: int) -> int:
        for turn in range(times):
            # Greedy: what is kept of beginnings that differ would grow.
            stream = context.generate_stream(prompt, 50, temperature=0)
            if turn % 10 == 0:
                await stream.__anext__()
            elif turn % 10 == 1:
                waiting = asyncio.ensure_future(stream.__anext__())
                await asyncio.sleep(0)
                waiting.cancel()
            del stream
            while context.unfinished > 60:  # noqa: ASYNC110  # what is waited for knows no event
                await asyncio.sleep(0)
        assert await soon(lambda: context.unfinished == 0)
        gc.collect()
        return resident()

    async def main() -> int:
        warm = await open_and_abandon(1000)
        return await open_and_abandon(5000) - warm

    assert run(main(), limit=100) < 8 << 20


def resident() -> int:
    """Bytes of this process in RAM."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
