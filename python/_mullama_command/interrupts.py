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
_instead: Callable[[], object] | None = None
"""What to call instead of raising `KeyboardInterrupt`."""


def arm() -> None:
    """Has the next Ctrl-C raise `KeyboardInterrupt`."""
    global _installed, _armed  # noqa: PLW0603  # signals belong to the process
    _armed = True
    if not _installed:
        _installed = True
        signal.signal(signal.SIGINT, _interrupt)


def rearm() -> None:
    """Has the next Ctrl-C raise `KeyboardInterrupt` again, if `arm` was ever called."""
    if _installed:
        arm()


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


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    global _armed  # noqa: PLW0603  # signals belong to the process
    if _armed:
        _armed = False
        if _instead is None:
            raise KeyboardInterrupt
        _instead()
