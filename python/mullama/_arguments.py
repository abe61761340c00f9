"""The arguments of a call: checks their types, and merges them into one config."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

from mullama._config import StreamConfig

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

DEFAULTS = StreamConfig()
FIELDS = frozenset(field.name for field in fields(StreamConfig))

_ELSEWHERE = {
    "frequency": "frequency_penalty",
    "max_completion_tokens": "max_tokens",
    "max_length": "max_tokens",
    "max_new_tokens": "max_tokens",
    "n_predict": "max_tokens",
    "num_predict": "max_tokens",
    "presence": "presence_penalty",
    "repetition_penalty": "repeat_penalty",
    "stop": "stop_sequences",
    "stop_strings": "stop_sequences",
    "stop_token_ids": "stop_tokens",
    "temp": "temperature",
    "timeout": "timeout_ms",
    "top_logprobs": "logprobs",
    "typical": "typical_p",
}
"""What other libraries call our fields."""


def expect(argument: str, value: object, kind: type) -> None:
    """Raises `TypeError` if the value has another type."""
    if not isinstance(value, kind):
        message = f"{argument} must be a {kind.__name__}, not {type(value).__name__}"
        raise TypeError(message)


def merge(call: str, config: StreamConfig | None, max_tokens: int | None, overrides: Mapping[str, Any]) -> StreamConfig:
    """The config of a call: `config` or the defaults, then `max_tokens`, then the keywords."""
    if config is None:
        config = DEFAULTS
    expect("config", config, StreamConfig)
    for name in overrides.keys() - FIELDS:
        message = f"{call}() got an unexpected keyword argument '{name}'{hint(name)}"
        raise TypeError(message)
    if max_tokens is not None:
        overrides = {**overrides, "max_tokens": max_tokens}
    return replace(config, **overrides) if overrides else config


def hint(name: str) -> str:
    """The end of a message about a name that is not a field: which one is meant, if that can be guessed."""
    try:
        import difflib  # noqa: PLC0415  # slow to import, and only typos need it
    except (ImportError, OSError):  # no descriptor is left to read it, or the interpreter ends
        close = []
    else:
        close = difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.75)
    meant = _ELSEWHERE.get(name.lower()) or (close[0] if close else None)
    return f". Did you mean '{meant}'?" if meant else ""
