"""The notifier of an event loop: one wake-up tells all its tasks whose streams have news."""

from __future__ import annotations

import itertools
import sys
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from mullama import _mullama
from mullama._exceptions import generation_failed

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

_notifiers: weakref.WeakKeyDictionary[AbstractEventLoop, weakref.ref[LoopNotifier]] = weakref.WeakKeyDictionary()
"""The notifier of each loop. The loop owns it: what it holds is collected with the loop, however that ends."""

_keys = itertools.count()

WITHOUT_A_LOOP = (
    "reading a stream with `async` needs a running asyncio event loop (trio is not supported); "
    "read it with a plain `for` in a worker thread instead"
)


def subscribe(
    loop: AbstractEventLoop | None,
) -> tuple[weakref.ref[AbstractEventLoop], weakref.ref[LoopNotifier], _mullama.NotifyHandle, int] | None:
    """Introduces one more stream to the running loop of asyncio.

    Returns:
        Weak references to the loop and its notifier, the handle by which the stream notifies it, and the stream's key.
        None where no event loop runs at all, which is enough to read a buffered token.

    Raises:
        GenerationError: The system refuses a descriptor or a thread.
        RuntimeError: The running event loop is not asyncio's.
    """
    if loop is None:
        sniffio = sys.modules.get("sniffio")  # trio brings it; it tells the two apart
        with suppress(LookupError if sniffio is None else sniffio.AsyncLibraryNotFoundError):
            if sniffio is not None and sniffio.current_async_library():
                raise RuntimeError(WITHOUT_A_LOOP)
        return None
    known = _notifiers.get(loop)
    notifier = known() if known is not None else None
    if notifier is None:
        try:
            notifier = LoopNotifier(loop)
        except (OSError, RuntimeError) as refused:
            reason = f"the event loop cannot be notified of tokens: {refused}"
            raise generation_failed(reason) from None
        _notifiers[loop] = weakref.ref(notifier)
    key = next(_keys)
    return weakref.ref(loop), _notifiers[loop], notifier.native.handle(key), key


class LoopNotifier:
    """Wakes the tasks of one event loop.

    The engine writes to a descriptor that the loop watches; it never waits for Python.
    """

    def __init__(self, loop: AbstractEventLoop) -> None:
        """Has the loop watch the descriptor; a loop that cannot is called by a thread that waits in its place."""
        self.native = _mullama.LoopNotifier()
        # An engine may keep its handle a while longer, but the descriptor goes with the loop.
        weakref.finalize(self, self.native.close)
        self.waiting: dict[int, Future[None]] = {}
        """Reads that wait, one a stream, by the keys of their streams."""
        try:
            loop.add_reader(self.native.fileno(), self._drain)
        except (AttributeError, NotImplementedError):
            loop._mullama_notifier = self  # type: ignore[attr-defined]  # noqa: SLF001  # owns it, as the descriptor would
            drained = threading.Event()
            weakref.finalize(self, _release, self.native, drained)
            arguments = (self.native, weakref.ref(self), weakref.ref(loop), drained)
            threading.Thread(target=_listen, args=arguments, name="mullama-notifier", daemon=True).start()

    def _drain(self) -> None:
        for key in self.native.drain():
            future = self.waiting.get(key)
            if future is not None and not future.done():
                future.set_result(None)


def _release(native: _mullama.LoopNotifier, drained: threading.Event) -> None:
    """Ends `_listen`, also where the loop was closed before it drained the notifier."""
    native.close()
    drained.set()


def _listen(
    native: _mullama.LoopNotifier,
    notifier: weakref.ref[LoopNotifier],
    loop: weakref.ref[AbstractEventLoop],
    drained: threading.Event,
) -> None:
    """Passes each signal on to a loop that cannot watch a descriptor, until the notifier or the loop is gone."""

    def drain() -> None:
        here = notifier()
        if here is not None:
            here._drain()  # noqa: SLF001  # its own thread
        drained.set()

    with suppress(RuntimeError):  # the loop is closed
        while native.wait() and (there := loop()) is not None:
            drained.clear()
            there.call_soon_threadsafe(drain)
            del there
            drained.wait()
