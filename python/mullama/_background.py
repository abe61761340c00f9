"""Loads models on a thread of their own, awaited on the event loop."""

from __future__ import annotations

import asyncio  # at no cost: the event loop is running
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mullama._event_loop import running_loop
from mullama._exceptions import ModelLoadError

if TYPE_CHECKING:
    from collections.abc import Callable


T = TypeVar("T")


async def load_in_thread(path: str, load: Callable[[Callable[[], bool]], T]) -> T:
    """Returns what `load` returns. `load` is given a function that says whether the caller still waits.

    The thread is a daemon: a file system that never answers must not prevent the program from ending.

    Raises:
        ModelLoadError: The system refuses a thread.
        RuntimeError: The running event loop is not asyncio's.
    """
    loop = running_loop()
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
            result = load(lambda: not given_up.is_set())
        except StopIteration as caught:
            error = RuntimeError("the load raised StopIteration")  # which a future cannot raise
            error.__cause__ = caught
        except BaseException as caught:  # noqa: BLE001  # raised again where it is awaited
            error = caught
        with suppress(RuntimeError):  # the loop is closed, so nobody waits
            loop.call_soon_threadsafe(deliver, result, error)

    try:
        threading.Thread(target=run, name="mullama-load", daemon=True).start()
    except RuntimeError as refused:
        raise _no_thread(path, refused) from None
    try:
        return await done
    finally:
        given_up.set()


def _no_thread(path: str, refused: RuntimeError) -> ModelLoadError:
    reason = f"no thread could be started: {refused}"
    error = ModelLoadError(f"cannot load {path}: {reason}")
    error.path, error.reason = Path(path), reason
    return error
