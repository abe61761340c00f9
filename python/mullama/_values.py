"""Values of settings as text, as options, `--set NAME=VALUE` and `/set NAME VALUE` take them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from mullama._config import StreamConfig
from mullama._display import shortened
from mullama._exceptions import InvalidConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

UNLIMITED = 4_294_967_295
"""The largest `max_tokens`: only the context limits the length."""

NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|[+-]?inf(?:inity)?|nan", re.IGNORECASE)
INTEGER = re.compile(r"[+-]?[0-9]{1,40}")
TOKEN = re.compile(r"[0-9]{1,10}")

MAX_SHOWN = 60
"""Characters of a wrong value that its error shows."""


def refused(name: str, text: str, allowed: str) -> InvalidConfigError:
    """The error of a value that is not allowed."""
    error = InvalidConfigError(f"{name} is {quoted(text)}, but must be {allowed}")
    error.field, error.value, error.range = name, text, allowed
    return error


def quoted(text: str) -> str:
    """A value as an error shows it: in quotes unless it is a plain word, and not longer than a line."""
    if not text.strip():
        return "empty"
    if re.fullmatch(r"[\w.+=-]+", text) and len(text) <= MAX_SHOWN:
        return text
    shown = shortened(text, MAX_SHOWN)
    return f"'{shown}'" if shown.isprintable() and "'" not in shown else json.dumps(shown, ensure_ascii=False)


def read_value(name: str, text: str, called: str) -> object:
    """Parses the value of a setting of streams; errors name it as it was called.

    Raises:
        InvalidConfigError: The text does not stand for a value of this setting, or for one out of range.
    """
    default = getattr(StreamConfig(), name)
    if name == "logit_bias":
        return _biases(called, text)
    if name == "stop_tokens":
        return _tokens(called, text)
    if isinstance(default, tuple):
        return _texts(called, text)
    if isinstance(default, bool):
        return _flag(called, text)
    if name == "max_tokens" and is_none(text):
        return UNLIMITED
    return read_number(lambda value: StreamConfig(**{name: value}), text, called, is_integer=type(default) is not float)


def is_none(text: str) -> bool:
    """Whether the text stands for no value."""
    return text.strip().lower() in {"none", "null"}


def read_number(make: Callable[[Any], object], text: str, called: str, *, is_integer: bool = True) -> float | None:
    """Parses a number, or `none`.

    Args:
        make: Makes settings with the number, and so checks it.
        text: What was typed.
        called: What errors call the setting.
        is_integer: Whether it must be an integer.

    Raises:
        InvalidConfigError: The text is not a number, or the number is out of range.
    """
    bare = text.strip()
    value: float | None
    if is_none(bare):
        value = None
    elif (INTEGER if is_integer else NUMBER).fullmatch(bare):
        value = int(bare) if is_integer else float(bare)
    else:
        kind = "an integer" if is_integer else "a number"
        raise refused(called, text, _with_kind(kind, _range(make, is_integer=is_integer)))
    try:
        make(value)
    except InvalidConfigError as error:
        raise refused(called, bare, _with_none(error.range)) from None
    except TypeError:
        raise refused(called, bare, _range(make, is_integer=is_integer)) from None
    return value


def _range(make: Callable[[Any], object], *, is_integer: bool) -> str:
    """The allowed numbers, by the error for one that no setting allows."""
    try:
        make(-(1 << 70) if is_integer else float("nan"))
    except InvalidConfigError as error:
        return _with_none(error.range)
    return "a finite number"


def _with_none(allowed: str) -> str:
    return allowed.replace("None", "none")


def _with_kind(kind: str, allowed: str) -> str:
    numbers = allowed.removeprefix("none or ")
    return f"{'none or ' if numbers != allowed else ''}{kind}: {numbers}"


def _flag(called: str, text: str) -> bool:
    word = text.strip().lower()
    if word not in {"true", "false"}:
        raise refused(called, text, "true or false")
    return word == "true"


def _texts(called: str, text: str) -> list[str]:
    """A list of texts: JSON, or a single text as it stands."""
    if is_none(text):
        return []
    allowed = "a text, a JSON list of texts, or none"
    if not text:
        raise refused(called, text, allowed)
    if text.lstrip()[:1] not in {"[", "{", '"'}:
        return [text]
    as_text = json.dumps([text], ensure_ascii=False)
    value = _json(called, text, f"; as a text it is written {as_text}" if len(text) <= MAX_SHOWN else "")
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(each, str) and each for each in values):
        raise refused(called, text, f"{allowed}; no text may be empty")
    return values


def _tokens(called: str, text: str) -> list[int]:
    if is_none(text):
        return []
    value = _json(called, text) if text.lstrip()[:1] in {"[", "{", '"'} else None
    if TOKEN.fullmatch(text.strip()):
        value = [int(text)]
    if not isinstance(value, list) or not all(type(each) is int for each in value):
        raise refused(called, text, "a token id, a JSON list of token ids such as [1, 2], or none")
    return value


def _biases(called: str, text: str) -> dict[int, float]:
    if is_none(text):
        return {}
    value = _json(called, text) if text.lstrip()[:1] in {"[", "{", '"'} else None
    biases: dict[int, float] = {}
    if not isinstance(value, dict):
        raise refused(called, text, 'a JSON object of token ids and numbers such as {"15": -1.5}, or none')
    for key, bias in value.items():
        if not TOKEN.fullmatch(key) or type(bias) not in {int, float}:
            pair = f"{json.dumps(key[:MAX_SHOWN])}: {json.dumps(bias)[:MAX_SHOWN]}"
            message = f'{called} has {pair}, but must have token ids and numbers, such as {{"15": -1.5}}'
            raise InvalidConfigError(message)
        if int(key) in biases:
            message = f"{called} has the token {int(key)} twice"
            raise InvalidConfigError(message)
        biases[int(key)] = bias
    return biases


def _json(called: str, text: str, otherwise: str = "") -> Any:  # noqa: ANN401  # any JSON
    """Parses JSON; errors say where it stops being valid."""
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        reason = f"{error.msg.removesuffix(' starting at')} at character {error.pos + 1}"
    except RecursionError:
        reason = "it is nested too deeply"
    except _TwiceError:
        reason = "a key is given twice"
    except ValueError:  # Python's limit of an integer
        reason = "a number has too many digits"
    message = f"{called} is {quoted(text)}, which begins like JSON but is not valid: {reason}{otherwise}"
    raise InvalidConfigError(message)


class _TwiceError(ValueError):
    """A key of a JSON object is given twice."""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object, none of whose keys may be given twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _TwiceError
    return found
