"""The event loop that async calls run on: asyncio's, or any that implements its interface."""

from __future__ import annotations

import asyncio
import sys


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
