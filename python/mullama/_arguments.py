"""The arguments of a call: checks their types, and merges them into one config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from mullama._config import StreamConfig
from mullama._exact import kind_of
from mullama._keywords import refuse_unknown

DEFAULTS = StreamConfig()
FIELDS = frozenset(field.name for field in fields(StreamConfig))


def expect(argument: str, value: object, kind: type, instead: str = "") -> None:
    """Raises `TypeError` if the value has another type; `instead` says what to pass."""
    if not isinstance(value, kind):
        hint = f"; {instead}" if instead else ""
        message = f"{argument} must be a {kind.__name__}, not {kind_of(value)}{hint}"
        raise TypeError(message)


def expect_callable(argument: str, value: Any) -> None:  # noqa: ANN401  # of any type
    """Raises `TypeError` if the value cannot be called."""
    if not callable(value):
        message = f"{argument} must be a function, not {kind_of(value)}"
        raise TypeError(message)


def merge(
    call: str,
    config: StreamConfig | None,
    max_tokens: object,
    overrides: Mapping[str, Any],
    defaults: StreamConfig = DEFAULTS,
) -> StreamConfig:
    """The config of a call: `config` or the defaults, then `max_tokens`, then the keywords."""
    if isinstance(max_tokens, (StreamConfig, Mapping)):
        kind = kind_of(max_tokens)
        message = f"max_tokens must be an int, not {kind}; pass settings as config=StreamConfig(...) or as keywords"
        raise TypeError(message)
    if config is None:
        config = defaults
    expect("config", config, StreamConfig, "StreamConfig(**settings) makes one" if isinstance(config, Mapping) else "")
    refuse_unknown(call, overrides, FIELDS)
    if max_tokens is not None:
        overrides = {**overrides, "max_tokens": max_tokens}
    return replace(config, **overrides) if overrides else config
