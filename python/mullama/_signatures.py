"""Shows each setting as a keyword of the calls that take it: to `help`, `inspect.signature` and completion by Tab."""

from __future__ import annotations

from dataclasses import fields
from inspect import Parameter, signature
from typing import TYPE_CHECKING

from mullama._arguments import DEFAULTS

if TYPE_CHECKING:
    from collections.abc import Callable


def show_settings(*calls: Callable[..., object]) -> None:
    """Replaces `**overrides` in the calls' signatures by the fields of `StreamConfig` and their defaults.

    No decorator, because type checkers would then take an `async def` for a plain function.
    """
    for call in calls:
        written = signature(call)
        known = [one for one in written.parameters.values() if one.kind is not Parameter.VAR_KEYWORD]
        settings = [
            Parameter(one.name, Parameter.KEYWORD_ONLY, default=getattr(DEFAULTS, one.name), annotation=one.type)
            for one in fields(DEFAULTS)
            if one.name not in written.parameters
        ]
        call.__signature__ = written.replace(parameters=[*known, *settings])  # type: ignore[attr-defined]
