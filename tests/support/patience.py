"""How tests measure a time on a machine that may be busy with other things."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TRIES = 20


def p90(seconds: Iterable[float]) -> float:
    """The time that nine in ten of the tries keep: of 20, the 18th shortest."""
    ordered = sorted(seconds)
    return ordered[math.ceil(0.9 * len(ordered)) - 1]


def p90_of(measure: Callable[[], float], tries: int = TRIES) -> float:
    """As `p90`, of this many measurements."""
    return p90(measure() for _ in range(tries))
