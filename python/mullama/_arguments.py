"""The arguments of a call: refused by name where their type is wrong, and merged into one config."""

from __future__ import annotations

from dataclasses import fields, replace

from mullama._config import StreamConfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

DEFAULTS = StreamConfig()
FIELDS = frozenset(field.name for field in fields(StreamConfig))


def expect(argument: str, value: object, kind: type) -> None:
    """Raises `TypeError` where the value is of another type."""
    if not isinstance(value, kind):
        message = f"{argument} must be a {kind.__name__}, not {type(value).__name__}"
        raise TypeError(message)


def merge(call: str, config: StreamConfig | None, max_tokens: int | None, overrides: Mapping[str, Any]) -> StreamConfig:
    """The config of a call: `config` or the defaults, then `max_tokens`, then the keywords."""
    if config is None:
        config = DEFAULTS
    expect("config", config, StreamConfig)
    for name in overrides.keys() - FIELDS:
        import difflib  # noqa: PLC0415  # for who mistypes alone

        close = difflib.get_close_matches(name, FIELDS, n=1)
        hint = f". Did you mean '{close[0]}'?" if close else ""
        message = f"{call}() got an unexpected keyword argument '{name}'{hint}"
        raise TypeError(message)
    if max_tokens is not None:
        overrides = {**overrides, "max_tokens": max_tokens}
    return replace(config, **overrides) if overrides else config
