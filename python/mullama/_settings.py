"""The settings of streams on the command line: their defaults there, and their values as text."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace

from mullama._config import StreamConfig
from mullama._exceptions import InvalidConfigError, MullamaError
from mullama._keywords import ELSEWHERE

UNLIMITED = 4_294_967_295
"""The largest `max_tokens`: only the context limits the length."""

DEFAULTS = StreamConfig(max_tokens=UNLIMITED, timeout_ms=None)
"""The settings until they are changed: whoever waits at a terminal can press Ctrl-C."""

NAMES = tuple(field.name for field in fields(StreamConfig))

OPTIONS = {"n_ctx": "--ctx-size", "n_threads": "--threads", "n_gpu_layers": "--gpu-layers", "system": "--system"}
"""Options that are no settings of streams, by the names that they have elsewhere."""


def changed(config: StreamConfig, name: str, text: str) -> StreamConfig:
    """Returns the config with a setting changed to the value that the text stands for.

    Raises:
        InvalidConfigError: There is no such setting, or the value has the wrong type or is out of range.
    """
    if name not in NAMES:
        raise InvalidConfigError(unknown(name))
    value = UNLIMITED if (name, text.lower()) == ("max_tokens", "none") else read_value(name, text)
    try:
        # StreamConfig checks the value, which a type checker cannot.
        return replace(config, **{name: value})  # type: ignore[arg-type]
    except MullamaError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidConfigError(str(error)) from None


def unknown(name: str) -> str:
    """What to say of a name that is not a setting."""
    import difflib  # noqa: PLC0415  # slow to import, and only typos need it

    close = difflib.get_close_matches(name, [*NAMES, "system"], n=1, cutoff=0.75)
    ours = ELSEWHERE.get(name.lower(), name)
    meant = ours if ours in NAMES else OPTIONS.get(ours) or (close[0] if close else None)
    return f"unknown setting {name}; " + (f"did you mean {meant}?" if meant else f"the settings are {', '.join(NAMES)}")


def shown(config: StreamConfig, name: str) -> str:
    """A setting and its value, as `/set` takes them."""
    value = getattr(config, name)
    if value is None or (name, value) == ("max_tokens", UNLIMITED):
        return f"{name} none"
    return f"{name} {json.dumps(value, ensure_ascii=False)}"


def differing(config: StreamConfig) -> list[str]:
    """The names of the settings that do not have their defaults."""
    return [name for name in NAMES if getattr(config, name) != getattr(DEFAULTS, name)]


def read_value(name: str, text: str) -> object:
    """Parses the value of a setting: JSON, `none`, or plain text. An element may stand for a list of it alone."""
    try:
        value = None if text.lower() == "none" else json.loads(text.lower() if text in {"True", "False"} else text)
    except (ValueError, RecursionError) as error:
        if text.startswith(("[", "{")) and name in {"logit_bias", "stop_tokens"}:
            message = f"{name} is {text[:60]!r}, which begins like JSON but is not: {error}"
            raise InvalidConfigError(message) from None
        value = text
    if name in {"stop_sequences", "dry_sequence_breakers"} and not isinstance(value, list):
        return [] if value is None else [value if isinstance(value, str) else text]
    if name == "stop_tokens" and not isinstance(value, list):
        return [] if value is None else [value]
    if name == "logit_bias":
        if value is None:
            return {}
        if isinstance(value, dict):
            # The keys of a JSON object are strings.
            return {int(key) if re.fullmatch("[0-9]{1,10}", key) else key: bias for key, bias in value.items()}
    return value
