"""Ctrl-C as the program takes it: the first one interrupts, and later ones do nothing until it is armed again.

A second one that came while the first is being handled would show a traceback. The handler is a function of ours
throughout: while a signal is pending, Python complains about a change to `SIG_IGN` or `SIG_DFL`.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

_installed = False
_armed = False
_missed = False
"""Whether a Ctrl-C did nothing because none was armed."""
_instead: Callable[[], object] | None = None
"""What to call instead of raising `KeyboardInterrupt`. If it returns False, the Ctrl-C did nothing."""


def arm() -> None:
    """Has the next Ctrl-C raise `KeyboardInterrupt`."""
    global _installed, _armed, _missed  # noqa: PLW0603  # signals belong to the process
    _missed = False
    _armed = True
    if not _installed:
        _installed = True
        signal.signal(signal.SIGINT, _interrupt)


def rearm() -> bool:
    """Has the next Ctrl-C raise `KeyboardInterrupt` again, if `arm` was ever called.

    Returns:
        Whether a Ctrl-C did nothing since the last one that did something.
    """
    missed = _missed
    if _installed:
        arm()
    return missed


def disarm() -> None:
    """Has Ctrl-C do nothing, because the program ends."""
    global _armed  # noqa: PLW0603  # signals belong to the process
    _armed = False


@contextmanager
def diverted(instead: Callable[[], object]) -> Iterator[None]:
    """Within the block, Ctrl-C calls this instead of raising `KeyboardInterrupt`."""
    global _instead  # noqa: PLW0603  # signals belong to the process
    _instead = instead
    try:
        yield
    finally:
        _instead = None


@contextmanager
def ended_by(end: Callable[[int], object]) -> Iterator[None]:
    """Within the block, a signal that ends the program calls this with its number instead."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, lambda number, _frame: end(number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def also_by(number: int) -> Iterator[None]:
    """Within the block, this signal does what Ctrl-C does."""
    before = signal.signal(number, _interrupt)
    try:
        yield
    finally:
        signal.signal(number, before)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    global _armed, _missed  # noqa: PLW0603  # signals belong to the process
    if not _armed:
        _missed = True
        return
    _armed = False
    if _instead is None:
        raise KeyboardInterrupt
    _missed = _instead() is False
