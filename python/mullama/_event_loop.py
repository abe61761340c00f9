"""The event loop that async calls run on: asyncio's, or any that implements its interface."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from typing import Any


def running_loop() -> asyncio.AbstractEventLoop:
    """The running asyncio event loop.

    Raises:
        RuntimeError: There is none, because a coroutine runs under trio or another library.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        trio = sys.modules.get("trio")
        instead = "trio is not supported" if trio and trio.lowlevel.in_trio_run() else "none is running"
        message = (
            f"mullama's async API needs an asyncio event loop, but {instead}; "
            "call the blocking API on a worker thread instead, such as trio.to_thread.run_sync"
        )
        raise RuntimeError(message) from None


def native_loop() -> NativeLoop:
    """The running asyncio event loop, for the native module.

    Raises:
        RuntimeError: There is none, because a coroutine runs under trio or another library.
    """
    return NativeLoop(running_loop())


class NativeLoop:
    """An event loop as the native module's futures use it."""

    __slots__ = ("_loop",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Takes the running loop."""
        self._loop = loop

    def create_future(self) -> asyncio.Future[Any]:
        """A future of the loop."""
        return self._loop.create_future()

    def call_soon_threadsafe(
        self,
        callback: Callable[..., object],
        *args: Any,  # noqa: ANN401  # as they are
        context: Context | None = None,
    ) -> None:
        """Calls the function on the loop's thread. A loop that is closed has nobody who waits for the call."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *args, context=context)
