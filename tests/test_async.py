"""A stream read by tasks: what a token costs the event loop, and whose it is."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from coroutines import LOOPS, run, soon
from patience import p90_of

from mullama import AsyncModel, Context, ContextParams, Model, StreamBusyError, StreamConfig, Token, TokenStream
from mullama._notifier import LoopNotifier

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    Eventually = Callable[[Callable[[], bool]], bool]

POEM = "Write a poem:"
MESSAGES = [{"role": "user", "content": "Hello!"}]
GREEDY = StreamConfig(temperature=0, max_tokens=40, ignore_eos=True)


def at_once(awaitable: Awaitable[Token]) -> Token:
    """What one step of the coroutine gives."""
    with pytest.raises(StopIteration) as done:
        awaitable.__await__().__next__()
    token = done.value.value
    assert isinstance(token, Token)
    return token


def os_threads() -> int:
    """Threads of this process, the engine's and llama.cpp's included."""
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one whenever a loop is woken for its streams."""
    woken: list[int] = []
    answer = LoopNotifier._drain

    def counted(notifier: LoopNotifier) -> None:
        woken.append(1)
        answer(notifier)

    monkeypatch.setattr(LoopNotifier, "_drain", counted)
    return woken


def test_a_buffered_token_needs_neither_the_loop_nor_another_thread(context: Context, eventually: Eventually) -> None:
    stream = context.generate_stream(POEM, config=GREEDY)
    assert eventually(lambda: stream.usage.completion_tokens == 40)
    assert eventually(lambda: context.unfinished == 0)
    threads = (threading.active_count(), os_threads())
    tokens = [at_once(stream.__anext__()) for _ in range(40)]
    assert (threading.active_count(), os_threads()) == threads
    assert [token.index for token in tokens] == list(range(40))
    with pytest.raises(StopAsyncIteration):
        stream.__anext__().send(None)


@pytest.mark.parametrize("buffer_size", [1, 2, 64])
def test_a_reader_yields_to_the_loop_once_a_buffer(context: Context, eventually: Eventually, buffer_size: int) -> None:
    stream = context.generate_stream(POEM, 4 * buffer_size, ignore_eos=True, buffer_size=buffer_size)

    def is_ahead(buffers: int) -> bool:
        return stream.usage.completion_tokens == buffers * buffer_size

    assert eventually(lambda: is_ahead(1))
    for _ in range(buffer_size):
        at_once(stream.__anext__())
    for buffers in (2, 3):
        # There is more whenever it reads, so it would never have to wait.
        assert eventually(lambda: is_ahead(buffers))  # noqa: B023  # called at once
        reading = stream.__anext__()
        assert reading.send(None) is None
        with pytest.raises(StopIteration):
            reading.send(None)
        for _ in range(buffer_size - 1):
            at_once(stream.__anext__())


@pytest.mark.parametrize("buffer_size", [1, 8, 64])
def test_other_tasks_get_their_turns_beside_a_full_buffer(context: Context, buffer_size: int) -> None:
    async def main() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.ensure_future(count())
        async for _ in context.generate_stream(POEM, 256, ignore_eos=True, buffer_size=buffer_size):
            pass
        counting.cancel()
        return turns

    assert run(main()) >= 256 // buffer_size - 1


def test_one_wake_up_serves_all_tokens_that_came(context: Context, eventually: Eventually, answers: list[int]) -> None:
    async def main() -> int:
        stream = context.generate_stream(POEM, 200, ignore_eos=True, buffer_size=300)
        count = 0
        async for _ in stream:
            count += 1
            # The loop sleeps over all the others.
            assert count > 1 or eventually(lambda: stream.usage.completion_tokens == 200)
        return count

    assert run(main()) == 200
    # None at all if the first token was there before anybody waited for it.
    assert len(answers) <= 3


@pytest.mark.parametrize("buffer_size", [1, 64])
def test_the_engine_wakes_a_loop_at_most_once_a_step(context: Context, answers: list[int], buffer_size: int) -> None:
    def steps() -> int:
        stats = context.stats()
        return stats.decode_steps.count + stats.prefill_steps.count

    async def read() -> int:
        stream = context.generate_stream(POEM, 200, ignore_eos=True, buffer_size=buffer_size)
        return len([token async for token in stream])

    async def main() -> list[int]:
        return await asyncio.gather(*(read() for _ in range(8)))

    before = steps()
    assert run(main()) == [200] * 8
    # The end of a stream may come between two steps.
    assert 0 < len(answers) <= steps() - before + 16


@pytest.mark.slow
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("buffer_size", [1, 4])
def test_a_cancelled_wait_loses_no_token(steady: Context, loop: str, buffer_size: int) -> None:
    # The second stream starts from a prefix that the first one left, which only a deterministic one does not notice.
    config = StreamConfig(max_tokens=200, seed=7, ignore_eos=True, buffer_size=buffer_size, deterministic=True)
    whole = steady.generate(POEM, config=config)
    timeout: Any = getattr(asyncio, "timeout", None)  # since Python 3.11
    chance = random.Random(buffer_size)  # noqa: S311  # no secret
    cancelled = 0

    async def by_cancel(stream: TokenStream) -> Token:
        reading = asyncio.ensure_future(stream.__anext__())
        for _ in range(chance.randrange(5)):
            await asyncio.sleep(0)
        reading.cancel()
        return await reading

    async def by_wait_for(stream: TokenStream) -> Token:
        return await asyncio.wait_for(stream.__anext__(), chance.random() * 0.001)

    async def by_timeout(stream: TokenStream) -> Token:
        async with timeout(chance.random() * 0.001):
            return await stream.__anext__()

    async def plainly(stream: TokenStream) -> Token:
        return await stream.__anext__()

    ways = [by_cancel, by_cancel, by_wait_for, plainly, *([by_timeout] if timeout else [])]

    async def main() -> str:
        nonlocal cancelled
        stream = steady.generate_stream(POEM, config=config, stream_delay_ms=3)
        text = ""
        while True:
            try:
                text += (await chance.choice(ways)(stream)).text
            except (asyncio.CancelledError, asyncio.TimeoutError):  # noqa: PERF203  # one a token
                cancelled += 1
            except StopAsyncIteration:
                return text

    assert run(main(), LOOPS[loop]) == whole.text
    assert cancelled > 100


def test_a_second_task_that_reads_is_refused_and_the_first_goes_on(context: Context) -> None:
    async def main() -> list[Token]:
        stream = context.generate_stream(POEM, 40, ignore_eos=True, stream_delay_ms=5)
        first = asyncio.ensure_future(_all(stream))
        refused = 0
        while not first.done():
            await asyncio.sleep(0)
            if stream._being_read:
                with pytest.raises(StreamBusyError, match="one reader at a time"):
                    await stream.__anext__()
                refused += 1
        assert refused > 10
        return await first

    assert [token.index for token in run(main())] == list(range(40))


@pytest.mark.parametrize("waiting_first", ["thread", "task"])
def test_a_thread_and_a_task_cannot_read_at_once_but_by_turns(context: Context, waiting_first: str) -> None:
    stuck = StreamConfig(stream_delay_ms=3_600_000, timeout_ms=None, ignore_eos=True)

    async def main() -> None:
        stream = context.generate_stream(POEM, config=stuck)
        assert (await stream.__anext__()).index == 0
        if waiting_first == "thread":
            reading: asyncio.Future[object] = asyncio.get_running_loop().run_in_executor(None, next, stream, None)
            assert await soon(lambda: stream._being_read)
            with pytest.raises(StreamBusyError):
                await stream.__anext__()
        else:
            reading = asyncio.ensure_future(anext(stream, None))
            assert await soon(lambda: stream._being_read)
            with pytest.raises(StreamBusyError):
                await asyncio.to_thread(next, stream)
        # Everything but a read works while somebody reads.
        assert stream.text
        assert stream.usage.completion_tokens >= 1
        stream.cancel()
        assert await asyncio.wait_for(reading, 10) is None
        assert stream.finish_reason == "cancelled"

    run(main())


async def _all(stream: TokenStream) -> list[Token]:
    return [token async for token in stream]


@pytest.mark.slow
def test_the_loop_keeps_its_beat_beside_eight_streams(context: Context) -> None:
    async def main() -> float:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0.005)

        async def read() -> None:
            async for _ in context.generate_stream(POEM, 300, ignore_eos=True):
                pass

        beating = asyncio.ensure_future(beat())
        began = time.monotonic()
        await asyncio.gather(*(read() for _ in range(8)))
        beating.cancel()
        return (time.monotonic() - began) / beats

    assert p90_of(lambda: run(main()), tries=10) < 0.025


@pytest.fixture
def async_model(model: Model) -> Iterator[AsyncModel]:
    """An async model with an engine of its own."""
    with AsyncModel(model, ContextParams(n_ctx=500, n_threads=1)) as async_model:
        yield async_model


@pytest.mark.parametrize(
    "ends", [{}, {"ignore_eos": True}, {"stop_sequences": ["e"]}], ids=["stop", "length", "sequence"]
)
@pytest.mark.parametrize("what", ["generate", "chat"])
def test_all_four_ways_to_an_answer_give_the_same(async_model: AsyncModel, what: str, ends: dict[str, bool]) -> None:
    config = StreamConfig(temperature=0, max_tokens=60, **ends)  # type: ignore[arg-type]  # whichever it is

    async def main() -> None:
        asked = POEM if what == "generate" else MESSAGES
        # How much of a prompt is computed anew moves the last bits of logits; from the second time on it is the same.
        await getattr(async_model, what)(asked, config=config)
        answers = [await asyncio.to_thread(getattr(async_model.context, what), asked, config=config)]
        answers.append(await getattr(async_model, what)(asked, config=config))
        texts = {answer.text for answer in answers}
        reads: list[TokenStream] = [getattr(async_model.context, f"{what}_stream")(asked, config=config)]
        tokens = await asyncio.to_thread(list, reads[0])
        texts.add("".join(token.text for token in tokens))
        reads.append(getattr(async_model, f"{what}_stream")(asked, config=config))
        texts.add("".join([token.text async for token in reads[1]]))
        assert len(texts) == 1
        ended = {(each.finish_reason, each.stop_sequence) for each in (*answers, *reads)}
        assert len(ended) == 1
        assert len({(each.usage.prompt_tokens, each.usage.completion_tokens) for each in (*answers, *reads)}) == 1

    run(main())


def test_an_async_model_shares_the_weights_and_the_engine(model: Model, async_model: AsyncModel) -> None:
    assert async_model.model is model
    assert async_model.context.model is model
    with (
        Context(model, async_model.context.params) as other,
        async_model.generate_stream("A", stream_delay_ms=3_600_000),
    ):
        assert other.unfinished == async_model.context.unfinished == 1
