"""The doorbell of an event loop: one wake-up tells all its tasks whose stream has news."""

from __future__ import annotations

import asyncio
import itertools
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

from mullama import _mullama

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

    from mullama._stream import TokenStream

_bells: weakref.WeakKeyDictionary[AbstractEventLoop, weakref.ref[LoopBell]] = weakref.WeakKeyDictionary()
"""The bell of each loop. The loop owns it: what it waits for goes with the loop, however that ends."""

_keys = itertools.count()


class LoopBell:
    """Wakes the tasks of one event loop. The engine writes to a descriptor that the loop watches; it never waits for Python."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        """Has the loop watch the descriptor; a loop that cannot is called by a thread that waits instead of it."""
        self._native = _mullama.Bell()
        self._waiting: dict[int, list[Future[None]]] = {}
        try:
            loop.add_reader(self._native.fileno(), self._answer)
        except (AttributeError, NotImplementedError):
            loop._mullama_bell = self  # type: ignore[attr-defined]  # noqa: SLF001  # owns it, as the descriptor would
            weakref.finalize(self, self._native.close)
            ears = threading.Thread(target=_listen, args=(self._native, weakref.ref(self), weakref.ref(loop)), daemon=True)
            ears.name = "mullama-bell"
            ears.start()

    async def news(self, stream: TokenStream) -> None:
        """Returns when the stream may have something to take. Cancelling takes nothing."""
        held = stream._rope  # noqa: SLF001  # two halves of one thing
        if held is None or held[0] is not self:
            key = next(_keys)
            held = stream._rope = (self, self._native.rope(key), key)  # noqa: SLF001
        _, rope, key = held
        if stream.watch(rope):
            return
        woken = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(key, [])
        waiting.append(woken)
        try:
            await woken
        finally:
            waiting.remove(woken)
            if not waiting:
                self._waiting.pop(key, None)

    def _answer(self) -> None:
        for key in self._native.answer():
            for woken in self._waiting.get(key, ()):
                if not woken.done():
                    woken.set_result(None)


def _listen(native: _mullama.Bell, bell: weakref.ref[LoopBell], loop: weakref.ref[AbstractEventLoop]) -> None:
    """Passes each ring on to a loop that cannot watch a descriptor, until the bell or the loop is gone."""
    answered = threading.Event()

    def answer() -> None:
        here = bell()
        if here is not None:
            here._answer()  # noqa: SLF001  # its own thread
        answered.set()

    with suppress(RuntimeError):  # the loop is closed
        while native.wait() and (there := loop()) is not None:
            answered.clear()
            there.call_soon_threadsafe(answer)
            del there
            answered.wait()


async def news(stream: TokenStream) -> None:
    """Returns when the stream may have something to take, on whichever loop runs."""
    loop = asyncio.get_running_loop()
    known = _bells.get(loop)
    bell = known() if known is not None else None
    if bell is None:
        bell = LoopBell(loop)
        _bells[loop] = weakref.ref(bell)
    await bell.news(stream)
