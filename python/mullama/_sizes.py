"""Sizes, counts and times in few characters, for people."""

from __future__ import annotations

UNITS = ("B", "kB", "MB", "GB", "TB")
"""Powers of a thousand, as disks and download pages count."""

COUNTS = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K"))
"""Units of numbers of parameters, as the names of models have them."""

MINUTE, HOUR, DAY = 60, 3600, 86_400


def size(count: float) -> str:
    """A number of bytes in three digits, such as 1.32 GB."""
    unit = 0
    while count >= 999.5 and unit < len(UNITS) - 1:  # noqa: PLR2004  # rounds to a thousand
        count /= 1000
        unit += 1
    return f"{count:.{0 if unit == 0 or count >= 99.95 else 1 if count >= 9.995 else 2}f} {UNITS[unit]}"  # noqa: PLR2004  # three digits


def parameters(count: int) -> str:
    """A number of parameters, rounded, for example 1.24B."""
    for unit, letter in COUNTS:
        if count >= unit:
            return f"{count / unit:.3g}{letter}"
    return str(count)


def span(seconds: float) -> str:
    """A time in its two largest units, such as 1 min 5 s."""
    whole = round(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"


def ago(seconds: float) -> str:
    """How long ago something was, in one unit."""
    for unit, length in (("day", DAY), ("hour", HOUR), ("minute", MINUTE)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    return "just now"
