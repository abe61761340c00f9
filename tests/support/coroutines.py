"""How tests run coroutines: on every kind of loop, for half a minute at most, and with nothing left unsaid."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import uvloop

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Awaitable, Callable, Coroutine
    from contextvars import Context

    Loops = Callable[[], AbstractEventLoop]

T = TypeVar("T")


class WithoutReaders(asyncio.SelectorEventLoop):
    """A loop that cannot watch a descriptor, as that of Windows cannot."""

    calls = 0
    """How many calls came from other threads."""

    def add_reader(self, *_: object) -> NoReturn:
        """Refuses."""
        raise NotImplementedError

    def call_soon_threadsafe(  # type: ignore[override]  # its own type names all arguments
        self,
        callback: Callable[..., object],
        *args: Any,  # noqa: ANN401  # as they are
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Counts the call."""
        self.calls += 1
        return super().call_soon_threadsafe(callback, *args, context=context)


def in_debug_mode() -> AbstractEventLoop:
    """The loop of asyncio itself, which looks for mistakes."""
    loop = asyncio.new_event_loop()
    loop.set_debug(enabled=True)
    loop.slow_callback_duration = 30.0  # a busy machine is no mistake
    return loop


LOOPS: dict[str, Loops] = {
    "asyncio": asyncio.new_event_loop,
    "debug": in_debug_mode,
    "uvloop": uvloop.new_event_loop,
    "without readers": WithoutReaders,
}


def run(main: Coroutine[Any, Any, T], new_loop: Loops = asyncio.new_event_loop, limit: float = 30.0) -> T:
    """What the coroutine returns. Fails if that takes too long, or if the loop hears of an error nobody handles."""
    unhandled: list[dict[str, Any]] = []
    loop = new_loop()
    loop.set_exception_handler(lambda _, told: unhandled.append(told))
    try:
        result = loop.run_until_complete(asyncio.wait_for(main, limit))
    finally:
        loop.run_until_complete(_end_tasks())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    del loop
    gc.collect()
    assert unhandled == []
    return result


async def _end_tasks() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def soon(holds: Callable[[], bool]) -> bool:
    """Lets the loop run until something holds, for ten seconds at most."""
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(_until(holds), 10)
    return holds()


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110  # what is waited for knows no event
        await asyncio.sleep(0.001)


async def caught(work: Awaitable[object]) -> BaseException:
    """What the work raises, of any kind; an `AssertionError` if it raises nothing."""
    try:
        await work
    except BaseException as error:  # noqa: BLE001  # that is what it is about
        return error
    return AssertionError()
