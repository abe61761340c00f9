"""Work that blocks, on a thread of its own, awaited by an event loop."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


async def in_thread(name: str, work: Callable[[Callable[[], bool]], T]) -> T:
    """What `work` returns. It is given a function that says whether somebody still waits for it.

    The thread is a daemon: a file system that never answers must not hold up the end of the program.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()
    given_up = threading.Event()

    def deliver(result: T | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(result)  # type: ignore[arg-type]  # without an error there is a result
        else:
            done.set_exception(error)

    def run() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = work(lambda: not given_up.is_set())
        except StopIteration as caught:
            error = RuntimeError("the work raised StopIteration")  # which no future can raise
            error.__cause__ = caught
        except BaseException as caught:  # noqa: BLE001  # passed on to who waits
            error = caught
        with suppress(RuntimeError):  # the loop is closed, so nobody waits
            loop.call_soon_threadsafe(deliver, result, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    try:
        return await done
    finally:
        given_up.set()
