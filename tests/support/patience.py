"""How tests wait and measure a time on a machine that may be busy with other things."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TRIES = 20
LONGEST_PAUSE = 0.02
"""Most seconds between two looks at what is waited for."""


def eventually(holds: Callable[[], bool], limit: float = 10.0) -> bool:
    """Waits until something holds, for this many seconds at most, and tells whether it does."""
    deadline = time.monotonic() + limit
    pause = 0.001
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
    return held


def p90(seconds: Iterable[float]) -> float:
    """The time that nine in ten of the tries keep: of 20, the 18th shortest."""
    ordered = sorted(seconds)
    return ordered[math.ceil(0.9 * len(ordered)) - 1]


def p90_of(measure: Callable[[], float], tries: int = TRIES) -> float:
    """As `p90`, of this many measurements."""
    return p90(measure() for _ in range(tries))
