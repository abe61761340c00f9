"""The doorbell of an event loop: one wake-up tells all its tasks whose stream has news."""

from __future__ import annotations

import asyncio
import itertools
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from mullama import _mullama

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

    from mullama._stream import TokenStream

_bells: weakref.WeakKeyDictionary[AbstractEventLoop, weakref.ref[LoopBell]] = weakref.WeakKeyDictionary()
"""The bell of each loop. The loop owns it: what it waits for goes with the loop, however that ends."""

_keys = itertools.count()


class Hold(NamedTuple):
    """What a loop and a stream know each other by."""

    loop: weakref.ref[AbstractEventLoop]
    rope: _mullama.Rope
    key: int
    waiting: dict[int, list[Future[None]]]
    """The loop's tasks that wait, by the keys of their streams."""


class LoopBell:
    """Wakes the tasks of one event loop.

    The engine writes to a descriptor that the loop watches; it never waits for Python.
    """

    def __init__(self, loop: AbstractEventLoop) -> None:
        """Has the loop watch the descriptor; a loop that cannot is called by a thread that waits instead of it."""
        self._native = _mullama.Bell()
        self._waiting: dict[int, list[Future[None]]] = {}
        try:
            loop.add_reader(self._native.fileno(), self._answer)
        except (AttributeError, NotImplementedError):
            loop._mullama_bell = self  # type: ignore[attr-defined]  # noqa: SLF001  # owns it, as the descriptor would
            answered = threading.Event()
            weakref.finalize(self, _hush, self._native, answered)
            heard_by = (self._native, weakref.ref(self), weakref.ref(loop), answered)
            threading.Thread(target=_listen, args=heard_by, name="mullama-bell", daemon=True).start()

    def hold(self, loop: AbstractEventLoop) -> Hold:
        """What one more stream and the loop know each other by."""
        key = next(_keys)
        return Hold(weakref.ref(loop), self._native.rope(key), key, self._waiting)

    def _answer(self) -> None:
        for key in self._native.answer():
            for woken in self._waiting.get(key, ()):
                if not woken.done():
                    woken.set_result(None)


def _hush(native: _mullama.Bell, answered: threading.Event) -> None:
    """Ends `_listen`, also where the loop was closed before it answered."""
    native.close()
    answered.set()


def _listen(
    native: _mullama.Bell,
    bell: weakref.ref[LoopBell],
    loop: weakref.ref[AbstractEventLoop],
    answered: threading.Event,
) -> None:
    """Passes each ring on to a loop that cannot watch a descriptor, until the bell or the loop is gone."""

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
    """Returns when the stream may have something to take, on whichever loop runs. Cancelling takes nothing."""
    loop = asyncio.get_running_loop()
    hold = stream._hold  # noqa: SLF001  # two halves of one thing
    if hold is None or hold.loop() is not loop:
        hold = stream._hold = _bell_of(loop).hold(loop)  # noqa: SLF001
    if stream.watch(hold.rope):
        return
    woken = loop.create_future()
    waiting = hold.waiting.setdefault(hold.key, [])
    waiting.append(woken)
    try:
        await woken
    finally:
        waiting.remove(woken)
        if not waiting:
            hold.waiting.pop(hold.key, None)


def _bell_of(loop: AbstractEventLoop) -> LoopBell:
    known = _bells.get(loop)
    bell = known() if known is not None else None
    if bell is None:
        bell = LoopBell(loop)
        _bells[loop] = weakref.ref(bell)
    return bell
